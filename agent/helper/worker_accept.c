/* SPDX-License-Identifier: Apache-2.0 */
/* An accepted connection: first what its destination means (outbound: worker_target_get()) or who calls (inbound and
 * attested: worker_endpoint_get()), then, where that is not enough, what the client says.
 *
 * A client that says nothing on a port of unknown protocol may wait for its server: after a moment the server is called
 * while the client is still listened to, and whoever speaks first decides. On a port that is declared as HTTP it is only
 * early: it may wait as long as it likes, and costs a descriptor. Bytes stay in the socket; SO_RCVLOWAT keeps it from being
 * reported again before there are more of them. */
#include "agent/helper/worker_accept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/route/exchange.h"
#include "agent/helper/route/tcp.h"
#include "agent/helper/route/tcp_route.h"
#include "agent/helper/sniff.h"
#include "agent/helper/transport_internal.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"
#include "agent/model/l7.h"
#include "agent/model/policy.h"

enum {
	TICK_MS = 10,
	AHEAD_MS = 10,		 /* then a client that has said nothing may wait for its server */
	SILENT_MS = 200,	 /* then it is taken to, whether the server speaks or not */
	HALTING_MS = 1000,	 /* then what it has begun is not HTTP */
	HALTING_HTTP_MS = 10000, /* the same where HTTP is declared: the codec answers */
};

struct accepted {
	struct acceptor *a;
	struct worker_pod *pod; /* a reference, and a place in its limit */
	int fd;
	struct loop_io *io;
	struct worker_wait *wait;
	bool inbound, over;
	bool declared; /* HTTP by declaration */
	bool l4;       /* whatever it is, it is none: only its TLS server name is of interest */
	bool patient;  /* in a->patient: no deadline */
	struct addr_port peer, local;
	struct identity *caller;
	bool from_node;		  /* as policy_input's */
	struct l7_target *target; /* outbound */
	char *name;		  /* of its TLS, while it is asked for */
	size_t peeked;		  /* bytes that were not enough */
	uint8_t first;		  /* of them */
	uint64_t ahead_ms;	  /* when the server is called; 0: not, or it was */
	struct tcp_relay *ahead;  /* to it */
	uint64_t deadline_ms;
	TAILQ_ENTRY(accepted) all;
};

TAILQ_HEAD(accepted_list, accepted);

struct acceptor {
	struct worker *w;
	struct loop *loop;
	struct loop_timer *tick;
	struct accepted_list pending, patient;
	size_t pending_count;
};

static uint64_t now_ms(const struct acceptor *a)
{
	return loop_now_ns(a->loop) / 1000000;
}

/* --- lists --- */

static void pending_add(struct accepted *c)
{
	struct acceptor *a = c->a;
	TAILQ_INSERT_TAIL(&a->pending, c, all);
	if (a->pending_count++ == 0)
		loop_timer_start(a->tick, TICK_MS, TICK_MS);
}

static void pending_remove(struct accepted *c)
{
	struct acceptor *a = c->a;
	if (c->patient) {
		TAILQ_REMOVE(&a->patient, c, all);
		return;
	}
	TAILQ_REMOVE(&a->pending, c, all);
	if (--a->pending_count == 0)
		loop_timer_stop(a->tick);
}

static void set_patient(struct accepted *c, bool patient)
{
	if (c->patient == patient)
		return;
	pending_remove(c);
	c->patient = patient;
	if (patient)
		TAILQ_INSERT_TAIL(&c->a->patient, c, all);
	else
		pending_add(c);
}

static void on_reap(void *arg)
{
	free(arg);
}

/* It leaves; the descriptor and the place in the pod's limit are whose fd is taken, or given up here. */
static void accepted_leave(struct accepted *c, bool abort_it)
{
	struct acceptor *a = c->a;
	if (c->over)
		return;
	c->over = true;
	worker_wait_cancel(TAKE(c->wait));
	tcp_ahead_cancel(TAKE(c->ahead));
	loop_io_free(TAKE(c->io));
	pending_remove(c);
	if (c->fd >= 0) {
		struct linger linger = { .l_onoff = abort_it, .l_linger = 0 };
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(c->fd);
		worker_pod_leave(a->w, c->pod);
	}
	worker_pod_unref(a->w, c->pod);
	identity_unref(c->caller);
	l7_target_unref(c->target);
	free(TAKE(c->name));
	loop_defer(a->loop, on_reap, c);
}

static void accepted_refuse(struct accepted *c, enum drop_reason reason)
{
	struct worker_drop drop = {
		.pod = c->pod, .reason = reason, .inbound = c->inbound, .source = c->peer, .destination = c->local
	};
	worker_drop(c->a->w, &drop);
	accepted_leave(c, true);
}

/* --- where it goes --- */

static int take_fd(struct accepted *c)
{
	int fd = c->fd, one = 1;
	c->fd = -1;
	loop_io_free(TAKE(c->io));
	if (c->peeked)
		setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
	return fd;
}

static struct tcp_call call_of(const struct accepted *c)
{
	return (struct tcp_call){ .peer = c->peer, .local = c->local, .caller = c->caller, .from_node = c->from_node };
}

/* name: NULL, where it can't be told, is for inbound alone. */
static void go_tcp(struct accepted *c, const char *name)
{
	struct tcp_proxy *p = worker_tcp(c->a->w);
	int fd = take_fd(c);
	bool unnamed = !name || !*name;
	const struct tcp_call call = call_of(c);
	if (c->ahead && unnamed)
		tcp_ahead_take(TAKE(c->ahead), fd, name);
	else if (c->inbound)
		tcp_proxy_inbound(p, c->pod, fd, &call, name);
	else
		tcp_proxy_outbound(p, c->pod, fd, &c->local, c->target, name);
	accepted_leave(c, false);
}

static void go_http(struct accepted *c, enum http_protocol protocol)
{
	struct worker *w = c->a->w;
	struct transport *t;
	int fd = take_fd(c);
	if (transport_socket_new(w, fd, NULL, 0, &t) < 0) {
		worker_pod_leave(w, c->pod);
		accepted_refuse(c, DROP_NO_MEMORY);
		return;
	}
	transport_socket_charge(t, c->pod);
	t->remote = c->peer;
	t->local = c->local;
	if (c->caller)
		transport_socket_identify(t, TAKE(c->caller));
	t->from_node = c->from_node;
	if (c->inbound)
		http_proxy_inbound(worker_http(w), c->pod, t, protocol);
	else
		http_proxy_outbound(worker_http(w), c->pod, t, protocol, &c->local, c->target->vhost);
	accepted_leave(c, false);
}

/* --- what it says --- */

/* Where HTTP is declared, the codec answers to what is none; but TLS is not for it. */
static enum sniffed as_declared(enum sniffed what, const uint8_t *bytes, size_t len)
{
	if (what == SNIFF_OTHER)
		return SNIFF_HTTP1;
	bool open = len == 0 || bytes[0] == 'P' || bytes[0] == 0x16;
	return what == SNIFF_MORE && !open ? SNIFF_HTTP1 : what;
}

static void on_named(struct l7_target *target, void *arg)
{
	struct accepted *c = arg;
	c->wait = NULL;
	if (!target) {
		accepted_refuse(c, DROP_NOT_READY);
		return;
	}
	l7_target_unref(c->target);
	c->target = l7_target_ref(target);
	go_tcp(c, c->name);
}

/* The address says nothing of whom it calls: that name is asked for, as a request's host would be. */
static void go_named(struct accepted *c, const char *name)
{
	c->name = strdup(name);
	if (!c->name) {
		accepted_refuse(c, DROP_NO_MEMORY);
		return;
	}
	tcp_ahead_cancel(TAKE(c->ahead));
	loop_io_free(TAKE(c->io));
	c->ahead_ms = 0;
	c->deadline_ms = UINT64_MAX; /* the wait has its own */
	struct worker_wait *wait = worker_target_get(c->a->w, c->pod, &c->local, c->name, on_named, c);
	if (wait)
		c->wait = wait;
}

static void accepted_go(struct accepted *c, enum sniffed what, const char *name)
{
	if (what == SNIFF_TLS && !c->inbound && c->target->by_name && *name)
		go_named(c, name);
	else if (what == SNIFF_HTTP1 && !c->l4)
		go_http(c, HTTP_PROTO_1);
	else if (what == SNIFF_HTTP2 && !c->l4)
		go_http(c, HTTP_PROTO_2);
	else
		go_tcp(c, name);
}

static void on_bytes(struct loop_io *io, int events, void *arg);
static void accepted_decide(struct accepted *c);

/* A client that is refused unless its server name is one that a rule wants has no use for its server's first words, nor one
 * that is refused unless it says whom it calls. */
static bool must_say(const struct accepted *c)
{
	const struct tcp_call call = call_of(c);
	if (!c->inbound)
		return c->target->by_name && !tcp_route_pick(c->target, &c->local, "", 0);
	return policy_needs_sni(c->pod->policy, c->local.port) && !tcp_proxy_admits(c->pod, &call, NULL);
}

static void on_ahead(bool spoke, void *arg)
{
	struct accepted *c = arg;
	if (spoke)
		accepted_decide(c);
	else
		c->ahead = NULL; /* its time will tell why */
}

/* Somebody who needs to say a name first has no use for it, nor who would be refused. */
static void accepted_ahead(struct accepted *c)
{
	struct tcp_proxy *p = worker_tcp(c->a->w);
	const struct tcp_call call = call_of(c);
	c->ahead_ms = 0;
	if (!c->inbound && !must_say(c))
		c->ahead = tcp_ahead_outbound(p, c->pod, &c->local, c->target, on_ahead, c);
	else if (!c->inbound)
		return;
	else if (tcp_proxy_admits(c->pod, &call, NULL))
		c->ahead = tcp_ahead_inbound(p, c->pod, &call, on_ahead, c);
}

/* Until there are more bytes, or its time is over. */
static void accepted_wait(struct accepted *c, size_t peeked)
{
	struct acceptor *a = c->a;
	int more = (int)peeked + 1;
	if (peeked && setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &more, sizeof(more)) < 0) {
		accepted_refuse(c, DROP_INTERNAL);
		return;
	}
	if (peeked && !c->peeked) {
		set_patient(c, false);
		c->deadline_ms = now_ms(a) + (c->declared ? HALTING_HTTP_MS : HALTING_MS);
	}
	c->peeked = peeked;
	if (!peeked && (c->declared || must_say(c)))
		set_patient(c, true);
	if (!c->io && loop_io_open(a->loop, c->fd, LOOP_READ, on_bytes, c, &c->io) < 0)
		accepted_refuse(c, DROP_INTERNAL);
}

/* The client has ended, or its time is over. */
static void accepted_decide(struct accepted *c)
{
	if (c->declared && c->peeked)
		go_http(c, HTTP_PROTO_1);
	else if (c->declared)
		accepted_leave(c, false);
	else
		go_tcp(c, c->inbound ? sniff_server_name(SNIFF_MORE, &c->first, c->peeked, NULL) : "");
}

static void accepted_peek(struct accepted *c, bool waited)
{
	uint8_t bytes[SNIFF_MAX];
	char name[SNIFF_NAME_MAX];
	bytes[0] = 0;
	ssize_t n = recv(c->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		accepted_leave(c, true);
		return;
	}
	bool ended = n == 0 || (waited && n > 0 && (size_t)n == c->peeked);
	size_t len = n > 0 ? (size_t)n : 0;
	enum sniffed what = sniff(bytes, len, name);
	if (c->declared)
		what = as_declared(what, bytes, len);
	c->first = bytes[0];
	if (what != SNIFF_MORE) {
		accepted_go(c, what, c->inbound ? sniff_server_name(what, bytes, len, name) : name);
	} else if (ended) {
		c->peeked = len;
		accepted_decide(c);
	} else {
		accepted_wait(c, len);
	}
}

static void on_bytes(struct loop_io *io, int events, void *arg)
{
	struct accepted *c = arg;
	(void)io;
	(void)events;
	if (!c->over)
		accepted_peek(c, true);
}

static void accepted_sniff(struct accepted *c, bool declared)
{
	c->declared = declared;
	c->deadline_ms = now_ms(c->a) + SILENT_MS;
	c->ahead_ms = declared ? 0 : now_ms(c->a) + AHEAD_MS;
	accepted_peek(c, false);
}

/* --- what its destination means, and who calls --- */

static void on_target(struct l7_target *target, void *arg)
{
	struct accepted *c = arg;
	c->wait = NULL;
	if (!target) {
		accepted_refuse(c, DROP_NOT_READY);
		return;
	}
	c->target = l7_target_ref(target);
	if (target->mode == L7_TCP && !target->by_name && !tcp_route_wants_name(target))
		go_tcp(c, "");
	else
		accepted_sniff(c, target->mode == L7_HTTP);
}

static void accepted_inbound(struct accepted *c)
{
	switch (pod_port_kind(c->pod, c->local.port)) {
	case PORT_L4:
		go_tcp(c, NULL);
		break;
	case PORT_NAME:
		c->l4 = true;
		accepted_sniff(c, false);
		break;
	case PORT_HTTP:
		accepted_sniff(c, true);
		break;
	case PORT_SNIFF:
		accepted_sniff(c, false);
		break;
	}
}

static void on_caller(const struct endpoint_info *info, void *arg)
{
	struct accepted *c = arg;
	c->wait = NULL;
	if (!info) {
		accepted_refuse(c, DROP_NOT_READY); /* whoever it is, it is not anonymous */
		return;
	}
	if (!info->known || !info->identity_count || identity_parse(info->identities[0], &c->caller, NULL) < 0) {
		accepted_refuse(c, DROP_UNKNOWN_SOURCE);
		return;
	}
	accepted_inbound(c);
}

static struct accepted *accepted_new(struct acceptor *a, struct worker_pod *pod, int fd, bool inbound,
				     const struct addr_port *peer, const struct addr_port *local)
{
	struct accepted *c = worker_pod_admit(a->w, pod) ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		bool full = pod->connections >= pod->max_connections;
		struct worker_drop drop = { .pod = pod,
					    .reason = full ? DROP_CONNECTION_LIMIT : DROP_NO_MEMORY,
					    .inbound = inbound,
					    .source = *peer,
					    .destination = *local };
		struct linger linger = { .l_onoff = 1, .l_linger = 0 };
		worker_drop(a->w, &drop);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(fd);
		if (!full)
			worker_pod_leave(a->w, pod);
		return NULL;
	}
	c->a = a;
	c->pod = worker_pod_ref(pod);
	c->fd = fd;
	c->inbound = inbound;
	c->peer = *peer;
	c->local = *local;
	c->deadline_ms = UINT64_MAX; /* the waits have their own */
	pending_add(c);
	return c;
}

void acceptor_outbound(struct acceptor *a, struct worker_pod *pod, int fd, const struct addr_port *original)
{
	struct addr_port source = { 0 }; /* its port is not known: the captured socket's peer is the destination */
	if (pod->addr_count)
		source.addr = pod->addrs[0];
	struct accepted *c = accepted_new(a, pod, fd, false, &source, original);
	if (!c)
		return;
	struct worker_wait *wait = worker_target_get(a->w, pod, original, NULL, on_target, c);
	if (wait)
		c->wait = wait;
}

void acceptor_inbound(struct acceptor *a, struct worker_pod *pod, int fd, const struct addr_port *peer,
		      const struct addr_port *local, enum pod_socket kind)
{
	struct accepted *c = accepted_new(a, pod, fd, true, peer, local);
	if (!c)
		return;
	c->from_node = kind == POD_LISTEN_NODE;
	if (kind != POD_LISTEN_ATTESTED) {
		accepted_inbound(c);
		return;
	}
	struct addr_port caller = { .addr = peer->addr }; /* of any port */
	struct worker_wait *wait = worker_endpoint_get(a->w, &caller, on_caller, c);
	if (wait)
		c->wait = wait;
}

/* --- the acceptor --- */

static void on_tick(struct loop_timer *timer, void *arg)
{
	struct acceptor *a = arg;
	struct accepted *c, *next;
	uint64_t now = now_ms(a);
	(void)timer;
	for (c = TAILQ_FIRST(&a->pending); c; c = next) {
		next = TAILQ_NEXT(c, all);
		if (now >= c->deadline_ms)
			accepted_decide(c);
		else if (c->ahead_ms && now >= c->ahead_ms && !c->peeked)
			accepted_ahead(c);
	}
}

static void list_pod_removed(struct accepted_list *list, const struct worker_pod *pod)
{
	struct accepted *c, *next;
	for (c = TAILQ_FIRST(list); c; c = next) {
		next = TAILQ_NEXT(c, all);
		if (!pod || c->pod == pod)
			accepted_leave(c, true);
	}
}

void acceptor_pod_removed(struct acceptor *a, struct worker_pod *pod)
{
	list_pod_removed(&a->pending, pod);
	list_pod_removed(&a->patient, pod);
}

void acceptor_drain(struct acceptor *a)
{
	struct accepted *c;
	while ((c = TAILQ_FIRST(&a->patient)))
		accepted_leave(c, false);
}

size_t acceptor_live(const struct acceptor *a)
{
	return a->pending_count;
}

int acceptor_new(struct worker *w, struct acceptor **out)
{
	struct acceptor *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->w = w;
	a->loop = worker_loop(w);
	TAILQ_INIT(&a->pending);
	TAILQ_INIT(&a->patient);
	int rc = loop_timer_new(a->loop, on_tick, a, &a->tick);
	if (rc < 0)
		free(a);
	else
		*out = a;
	return rc;
}

void acceptor_free(struct acceptor *a)
{
	if (!a)
		return;
	list_pod_removed(&a->pending, NULL);
	list_pod_removed(&a->patient, NULL);
	loop_timer_free(a->tick);
	free(a);
}
