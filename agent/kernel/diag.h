/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP sockets of one network namespace: listing and ending them through sock_diag. Loop thread only. */
#pragma once

#include "agent/base/turn.h"
#include "bpf/abi.h"

#include <linux/inet_diag.h>
#include <stdbool.h>
#include <stdint.h>

struct diag;
struct err;

struct diag_socket {
	struct ip_addr local, remote;
	uint64_t cookie;
	struct inet_diag_sockid id; /* ports are big-endian */
	uint8_t family, state;	    /* AF_INET or AF_INET6; TCP_ESTABLISHED, ... */
	bool has_stored;
	struct sock_state stored; /* in its local storage */
	struct turn turn;	  /* of requests that its peer makes */
};

/* In the namespace that the thread is in; it may leave it afterwards. storage_fd: the map `sock_states`, or -1. */
int diag_open(int storage_fd, struct diag **out, struct err *err);
void diag_free(struct diag *d);
/* Calls back for some sockets of both families, handshakes among them. 1: there are more, 0: that was all, -errno. */
int diag_next(struct diag *d, void (*on_socket)(const struct diag_socket *s, void *arg), void *arg);
/* Ends one: the application gets ECONNABORTED, its peer a reset. May be called by on_socket. -ENOENT: it is gone;
 * -EOPNOTSUPP: this kernel can't (CONFIG_INET_DIAG_DESTROY). */
int diag_end(struct diag *d, const struct diag_socket *s);
/* Whether this kernel ends sockets when it is asked to: tries it with one that can't be there. */
bool diag_can_end(void);
