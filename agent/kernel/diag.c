// SPDX-License-Identifier: Apache-2.0
/* The TCP sockets of a network namespace, as the kernel's sock_diag lists and ends them. A dump is pulled message by
 * message, so that whoever reads it may stop and go on later; what ends a socket has a netlink socket of its own, because
 * a dump that is not finished is in the way of everything else. */
#include "agent/kernel/diag.h"
#include "agent/base/err.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIAG_BUFFER = 32768 };

/* As in <netinet/tcp.h>, whose struct tcp_info is an old one. */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_CLOSING = 11
};

/* Those in which bytes can still come or go, and handshakes. */
#define DIAG_STATES                                                                                                    \
	(1u << TCP_ESTABLISHED | 1u << TCP_SYN_RECV | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 |                      \
	 1u << TCP_CLOSE_WAIT | 1u << TCP_LAST_ACK | 1u << TCP_CLOSING)

struct diag {
	struct mnl_socket *list, *end;
	uint32_t list_sequence, end_sequence;
	int family; /* under way; 0: both are done */
	int storage_fd;
	_Alignas(struct nlmsghdr) char buffer[DIAG_BUFFER];
};

struct diag_visit {
	void (*on_socket)(const struct diag_socket *s, void *arg);
	void *arg;
};

void diag_free(struct diag *d)
{
	if (!d)
		return;
	if (d->list)
		mnl_socket_close(d->list);
	if (d->end)
		mnl_socket_close(d->end);
	free(d);
}

static int socket_make(struct mnl_socket **out, struct err *err)
{
	*out = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!*out || mnl_socket_bind(*out, 0, MNL_SOCKET_AUTOPID) < 0)
		return err_sys(err, -errno, "kernel: open a socket of sock_diag");
	return 0;
}

static int dump_start(struct diag *d, int family)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(d->buffer);
	struct inet_diag_req_v2 *r;

	h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	h->nlmsg_seq = ++d->list_sequence;
	r = mnl_nlmsg_put_extra_header(h, sizeof(*r));
	r->sdiag_family = (uint8_t)family;
	r->sdiag_protocol = IPPROTO_TCP;
	r->idiag_states = DIAG_STATES;
	r->idiag_ext = 1u << (INET_DIAG_INFO - 1);
	if (d->storage_fd >= 0) {
		struct nlattr *nest = mnl_attr_nest_start(h, INET_DIAG_REQ_SK_BPF_STORAGES);

		mnl_attr_put_u32(h, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, (uint32_t)d->storage_fd);
		mnl_attr_nest_end(h, nest);
	}
	d->family = family;
	return mnl_socket_sendto(d->list, h, h->nlmsg_len) < 0 ? -errno : 0;
}

int diag_open(int storage_fd, struct diag **out, struct err *err)
{
	struct diag *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	d->storage_fd = storage_fd;
	int rc = socket_make(&d->list, err);

	if (rc == 0)
		rc = socket_make(&d->end, err);
	if (rc == 0) {
		rc = dump_start(d, AF_INET);
		if (rc < 0)
			err_sys(err, rc, "kernel: list TCP sockets");
	}
	if (rc < 0) {
		diag_free(d);
		return rc;
	}
	*out = d;
	return 0;
}

/* --- what a message says */

static struct ip_addr address_of(const struct inet_diag_msg *m, const __be32 from[4])
{
	struct ip_addr a = { { 0, 0, htonl(0xffff), from[0] } };

	if (m->idiag_family == AF_INET6)
		memcpy(&a, from, sizeof(a));
	return a;
}

struct diag_attributes {
	const void *stored;
	const struct tcp_info *info;
};

static int on_storage_value(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == SK_DIAG_BPF_STORAGE_MAP_VALUE &&
	    mnl_attr_get_payload_len(attr) >= sizeof(struct sock_state))
		((struct diag_attributes *)arg)->stored = mnl_attr_get_payload(attr);
	return MNL_CB_OK;
}

static int on_storage(const struct nlattr *attr, void *arg)
{
	return mnl_attr_get_type(attr) == SK_DIAG_BPF_STORAGE ? mnl_attr_parse_nested(attr, on_storage_value, arg) :
								MNL_CB_OK;
}

static int on_attribute(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == INET_DIAG_INFO &&
	    mnl_attr_get_payload_len(attr) >= offsetof(struct tcp_info, tcpi_delivery_rate))
		((struct diag_attributes *)arg)->info = mnl_attr_get_payload(attr);
	return mnl_attr_get_type(attr) == INET_DIAG_SK_BPF_STORAGES ? mnl_attr_parse_nested(attr, on_storage, arg) :
								      MNL_CB_OK;
}

static int on_message(const struct nlmsghdr *h, void *arg)
{
	const struct diag_visit *visit = arg;
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct diag_attributes of = { 0 };
	struct diag_socket s = { 0 };

	if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY || mnl_nlmsg_get_payload_len(h) < sizeof(*m))
		return MNL_CB_OK;
	s.family = m->idiag_family;
	s.state = m->idiag_state;
	s.id = m->id;
	s.local = address_of(m, m->id.idiag_src);
	s.remote = address_of(m, m->id.idiag_dst);
	s.cookie = m->id.idiag_cookie[0] | (uint64_t)m->id.idiag_cookie[1] << 32;
	mnl_attr_parse(h, sizeof(*m), on_attribute, &of);
	if (of.stored) {
		memcpy(&s.stored, of.stored, sizeof(s.stored));
		s.has_stored = true;
	}
	if (of.info)
		s.turn = (struct turn){ .asked = of.info->tcpi_data_segs_in > 0,
					.owed = of.info->tcpi_unacked || !of.info->tcpi_data_segs_out,
					.asked_ms = of.info->tcpi_last_data_recv,
					.answered_ms = of.info->tcpi_last_data_sent };
	visit->on_socket(&s, visit->arg);
	return MNL_CB_OK;
}

int diag_next(struct diag *d, void (*on_socket)(const struct diag_socket *s, void *arg), void *arg)
{
	struct diag_visit visit = { on_socket, arg };

	if (!d->family)
		return 0;
	ssize_t n = mnl_socket_recvfrom(d->list, d->buffer, sizeof(d->buffer));

	if (n < 0)
		return -errno;
	int rc = mnl_cb_run(d->buffer, (size_t)n, d->list_sequence, mnl_socket_get_portid(d->list), on_message, &visit);

	if (rc > MNL_CB_STOP)
		return 1;
	/* A kernel without IPv6 has no handler for its sockets. */
	if (rc < 0 && !(d->family == AF_INET6 && errno == ENOENT))
		return -errno;
	if (d->family == AF_INET6) {
		d->family = 0;
		return 0;
	}
	rc = dump_start(d, AF_INET6);
	return rc < 0 ? rc : 1;
}

int diag_end(struct diag *d, const struct diag_socket *s)
{
	_Alignas(struct nlmsghdr) char request[256], answer[1024]; /* d->buffer is being read */
	struct nlmsghdr *h = mnl_nlmsg_put_header(request);
	struct inet_diag_req_v2 *r;

	h->nlmsg_type = SOCK_DESTROY;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	h->nlmsg_seq = ++d->end_sequence;
	r = mnl_nlmsg_put_extra_header(h, sizeof(*r));
	r->sdiag_family = s->family;
	r->sdiag_protocol = IPPROTO_TCP;
	r->idiag_states = ~0u;
	r->id = s->id;
	if (mnl_socket_sendto(d->end, h, h->nlmsg_len) < 0)
		return -errno;
	ssize_t n = mnl_socket_recvfrom(d->end, answer, sizeof(answer)); /* the kernel answers within send() */

	if (n < 0)
		return -errno;
	return mnl_cb_run(answer, (size_t)n, h->nlmsg_seq, mnl_socket_get_portid(d->end), NULL, NULL) < 0 ? -errno : 0;
}

bool diag_can_end(void)
{
	const struct diag_socket nobody = { .family = AF_INET, .id.idiag_cookie = { 1, 1 } };
	struct diag *d = NULL;
	bool can = diag_open(-1, &d, NULL) == 0 && diag_end(d, &nobody) == -ENOENT;

	diag_free(d);
	return can;
}
