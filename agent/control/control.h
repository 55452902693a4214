/* SPDX-License-Identifier: Apache-2.0 */
/* The admin API: HTTP and JSON on a unix socket for meshctl and curl; /metrics, /healthz and /readyz on a TCP address
 * too. On the agent's loop thread; libmicrohttpd appears only in this folder. Endpoints: README.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct control;
struct control_backend;
struct err;
struct loop;

struct control_options {
	struct loop *loop;
	const char *socket_path; /* mode 0660; NULL: none. What is there is replaced, unless an agent answers on it */
	const char *group;	 /* owns the socket and may read; NULL or unknown: root alone */
	bool group_may_change;	 /* POST and PUT also for the group; else root alone */
	const char *metrics_listen; /* "127.0.0.1:15020", "[::]:15020"; NULL or "off": none; port 0: any */
};

/* The backend is copied (its arg stays the caller's). Nothing is left listening on error. */
int control_new(const struct control_options *options, const struct control_backend *backend, struct control **out,
		struct err *err);
/* Closes connections and removes the socket. Dumps that the backend has not answered may still be answered later. */
void control_free(struct control *control); /* NULL is fine */
/* The flow log has grown: wakes those that follow it, once for all calls of a tick. */
void control_flows_added(struct control *control);
uint16_t control_metrics_port(const struct control *control); /* 0: not listening */
