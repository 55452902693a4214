/* SPDX-License-Identifier: Apache-2.0 */
/* Streams from other nodes to this pod's application. Decisions rest on the mTLS identity and the tunnel's source
 * address alone; baggage and forwarded headers are the peer's word and not looked at. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/observe/connection_log.h"
#include "agent/helper/route/exchange.h"
#include "agent/helper/sniff.h"
#include "agent/helper/transport_dial.h"
#include "agent/helper/worker_accept.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"
#include "agent/model/telemetry.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	SNIFF_SILENT_MS = 200,	 /* then a client that has said nothing is taken to wait for its server */
	SNIFF_HALTING_MS = 1000, /* then what it has begun is not HTTP */
	SNIFF_DECLARED_MS = SERVER_IDLE_S * 1000,
};

/* Ports of the mesh in every pod, ours and Istio's: a tunnel into them would go around policy. */
static const uint16_t mesh_ports[] = { MESH_HBONE_PORT, 15001, 15006 };

void hbone_inbound(struct hbone *h, struct worker_pod *pod, int fd, const struct addr_port *peer,
		   const struct addr_port *local)
{
	if (!worker_pod_admit(h->w, pod)) {
		hbone_refuse(h, pod, DROP_CONNECTION_LIMIT, true, peer, local, NULL, NULL);
		close(fd);
		return;
	}
	struct hbone_conn *c;
	if (hbone_conn_new(h, pod, true, &c) < 0) {
		hbone_refuse(h, pod, DROP_NO_MEMORY, true, peer, local, NULL, NULL);
		worker_pod_leave(h->w, pod);
		close(fd);
		return;
	}
	hbone_enter(h);
	c->remote = *peer;
	c->local = *local;
	conn_accepted(c, fd);
	hbone_leave(h);
}

void inbound_fail(struct hbone_stream *s, int status, enum drop_reason reason, const char *rule)
{
	struct hbone_conn *c = s->conn;
	if (reason != DROP_NONE) {
		connection_log_refused(s->log, reason, rule, NULL);
		hbone_refuse(s->h, s->pod, reason, true, &c->remote, &s->destination, c->peer.identity->uri, rule);
	}
	if (s->h2.id && !s->h2.answered) {
		h2_respond(c->h2, &s->h2, status, true);
		/* The response is complete, so the rest of the request is not wanted (RFC 9113, 8.1). */
		h2_reset(c->h2, &s->h2, H2_NO_ERROR);
		conn_touch(c);
	}
	stream_abort(s, H2_CANCEL);
}

void inbound_answer(struct hbone_stream *s)
{
	if (s->h2.answered)
		return;
	h2_respond(s->conn->h2, &s->h2, 200, false);
	conn_touch(s->conn);
}

static void inbound_open(struct hbone_stream *s)
{
	held_add(s);
	if (relay_start(s) < 0) {
		held_answer(s);
		stream_abort(s, H2_INTERNAL_ERROR);
	}
	if (s->state == STREAM_CLOSED)
		return;
	relay_end(s); /* the peer may have ended already */
}

static void on_app_connected(struct loop_io *io, int events, void *arg)
{
	struct hbone_stream *s = arg;
	struct hbone *h = s->h;
	(void)io;
	(void)events;
	if (s->state != STREAM_CONNECTING)
		return;

	hbone_enter(h);
	int error = 0;
	socklen_t len = sizeof(error);
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	loop_io_free(TAKE(s->io));
	if (error)
		inbound_fail(s, 503, DROP_UPSTREAM_CONNECT, NULL);
	else
		inbound_open(s);
	hbone_leave(h);
}

static void on_socket(int fd, void *arg)
{
	struct hbone_stream *s = arg;
	struct hbone *h = s->h;
	s->wait = NULL;
	hbone_enter(h);
	if (fd < 0) {
		connection_log_refused(s->log, DROP_NO_SOCKET, NULL, NULL);
		inbound_fail(s, 503, DROP_NONE, NULL); /* counted by the worker */
		hbone_leave(h);
		return;
	}
	s->fd = fd;
	/* The kernel takes the peer as what the application is to see (POD_CONNECT_LOCAL). */
	struct addr_port to = pod_inbound_target(s->pod, &s->destination);
	s->app_port = to.port;
	int rc = transport_dial(fd, &s->conn->remote, &to, true);
	if (rc == 0) {
		inbound_open(s);
	} else if (rc != -EINPROGRESS) {
		inbound_fail(s, 503, DROP_UPSTREAM_CONNECT, NULL);
	} else {
		rc = loop_io_open(h->loop, fd, LOOP_WRITE, on_app_connected, s, &s->io);
		if (rc < 0)
			inbound_fail(s, 503, DROP_INTERNAL, NULL);
	}
	hbone_leave(h);
}

static void judge(const struct hbone_stream *s, bool requests_later, struct policy_verdict *verdict)
{
	struct policy_input in = {
		.peer = s->conn->peer.identity,
		.source = s->conn->remote.addr,
		.destination = s->destination.addr,
		.port = s->destination.port,
		.sni = s->sni,
		.requests_later = requests_later,
		.proto = IPPROTO_TCP,
	};
	*verdict = (struct policy_verdict){ .reason = DROP_NOT_READY };
	if (s->pod->policy)
		policy_eval(s->pod->policy, &in, verdict);
}

static bool is_pods(const struct worker_pod *pod, const struct addr *a)
{
	for (size_t i = 0; i < pod->addr_count; i++)
		if (addr_eq(&pod->addrs[i], a))
			return true;
	return false;
}

static bool is_mesh_port(uint16_t port)
{
	for (size_t i = 0; i < ARRAY_SIZE(mesh_ports); i++)
		if (mesh_ports[i] == port)
			return true;
	return port == 0;
}

/* By the L4 rules, to the application's own socket. */
static void inbound_l4(struct hbone_stream *s)
{
	struct policy_verdict verdict;
	judge(s, false, &verdict);
	if (verdict.reason != DROP_NONE) {
		inbound_fail(s, 401, verdict.reason, verdict.rule ? verdict.rule->name : NULL);
		return;
	}
	if (ahead_take(s)) {
		inbound_open(s);
		return;
	}
	s->state = STREAM_CONNECTING;
	s->deadline_ms = (uint32_t)(hbone_now_ms(s->h) + CONNECT_TIMEOUT_MS);
	struct worker_wait *wait = worker_socket_take(s->h->w, s->pod, POD_CONNECT_LOCAL, on_socket, s);
	if (wait)
		s->wait = wait;
}

/* --- HTTP: the engine judges and connects, request by request --- */

static void inbound_http(struct hbone_stream *s, enum http_protocol protocol)
{
	ahead_leave(s);
	connection_log_end(TAKE(s->log), NULL); /* its requests have lines */
	s->http = true;
	s->state = STREAM_OPEN;
	s->began_s = s->active_s = (uint32_t)(hbone_now_ms(s->h) / 1000);
	stream_settle(s);
	struct transport *t = hbone_transport_new(s);
	if (!t) {
		inbound_fail(s, 503, DROP_NO_MEMORY, NULL);
		return;
	}
	http_proxy_inbound(worker_http(s->h->w), s->pod, t, protocol);
}

/* No HTTP. name: NULL where it can't be told. */
static void inbound_bytes(struct hbone_stream *s, const char *name)
{
	if (name && policy_needs_sni(s->pod->policy, s->destination.port))
		s->sni = strdup(name);
	inbound_l4(s);
}

/* What came is kept in to_app until it says enough; its credit does not return, so the window bounds it. */
void inbound_sniff(struct hbone_stream *s)
{
	char name[SNIFF_NAME_MAX];
	const uint8_t *bytes = buffer_head(&s->to_app);
	size_t len = s->to_app.len;
	enum sniffed what = sniff(bytes, len, name);
	bool begins = what == SNIFF_MORE && (len == 0 || bytes[0] == 'P' || bytes[0] == 0x16);
	if (s->declared && (what == SNIFF_OTHER || (what == SNIFF_MORE && !begins)))
		what = SNIFF_HTTP1; /* whatever it is: the codec answers */
	if (s->declared && s->h2.remote_end && len == 0) {
		h2_end(s->conn->h2, &s->h2);
		conn_touch(s->conn);
		stream_close(s);
		return;
	}
	if (what == SNIFF_MORE && s->h2.remote_end)
		what = s->declared && len ? SNIFF_HTTP1 : SNIFF_OTHER;
	if (what == SNIFF_HTTP1 && !s->l4_named)
		inbound_http(s, HTTP_PROTO_1);
	else if (what == SNIFF_HTTP2 && !s->l4_named)
		inbound_http(s, HTTP_PROTO_2);
	else if (what != SNIFF_MORE)
		inbound_bytes(s, sniff_server_name(what, bytes, len, name));
	else if (len)
		s->deadline_ms = (uint32_t)(hbone_now_ms(s->h) + SNIFF_HALTING_MS);
}

bool inbound_admits(const struct hbone_stream *s)
{
	struct policy_verdict verdict;
	judge(s, false, &verdict);
	return verdict.reason == DROP_NONE;
}

/* A client that is refused unless its server name is one that a rule wants: its server has nothing to say before. */
static bool must_say(const struct hbone_stream *s)
{
	return policy_needs_sni(s->pod->policy, s->destination.port) && !inbound_admits(s);
}

static void inbound_l7(struct hbone_stream *s, bool declared)
{
	s->declared = declared;
	s->state = STREAM_SNIFFING;
	/* A client that says nothing where HTTP is declared is only early: it has the idle time of the tunnel. */
	declared |= must_say(s);
	s->deadline_ms = (uint32_t)(hbone_now_ms(s->h) + (declared ? SNIFF_DECLARED_MS : SNIFF_SILENT_MS));
	if (declared)
		stream_settle(s);
	else
		ahead_wait(s);
	inbound_answer(s);
}

void inbound_late(struct hbone_stream *s)
{
	if (s->state == STREAM_SNIFFING && !s->declared)
		inbound_bytes(s, sniff_server_name(SNIFF_MORE, buffer_head(&s->to_app), s->to_app.len, NULL));
	else if (s->state == STREAM_SNIFFING && s->to_app.len)
		inbound_http(s, HTTP_PROTO_1);
	else
		inbound_fail(s, 503, DROP_UPSTREAM_CONNECT, NULL);
}

void inbound_request(struct hbone_stream *s, const struct h2_request *request)
{
	s->deadline_ms = (uint32_t)(hbone_now_ms(s->h) + CONNECT_TIMEOUT_MS);
	if (request->problem) {
		inbound_fail(s, 400, DROP_HBONE_PROTOCOL, request->problem);
		return;
	}
	if (addr_port_parse(request->authority, &s->destination) < 0 || !is_pods(s->pod, &s->destination.addr)) {
		inbound_fail(s, 400, DROP_HBONE_AUTHORITY, NULL);
		return;
	}
	if (is_mesh_port(s->destination.port)) {
		inbound_fail(s, 400, DROP_RESERVED_PORT, NULL);
		return;
	}
	enum port_kind kind = pod_port_kind(s->pod, s->destination.port);
	s->log = connection_log_new(s->h->w, s->pod, REPORTER_SERVER);
	connection_log_caller(s->log, &s->conn->remote, s->conn->peer.identity);
	s->l4 = kind == PORT_L4 || kind == PORT_NAME;
	s->l4_named = kind == PORT_NAME;
	if (kind == PORT_L4)
		inbound_l4(s);
	else
		inbound_l7(s, kind == PORT_HTTP);
}

/* What is said of requests aside. */
static bool may_be_allowed(const struct hbone_stream *s)
{
	struct policy_verdict verdict;
	judge(s, true, &verdict);
	return verdict.reason == DROP_NONE;
}

static void inbound_cut(struct hbone_stream *s, const struct policy_verdict *verdict)
{
	worker_metrics(s->h->w)->policy_cuts++;
	if (verdict->reason == DROP_NONE)
		stream_abort(s, H2_CANCEL);
	else
		inbound_fail(s, 401, verdict->reason, verdict->rule ? verdict->rule->name : NULL);
}

void inbound_judge(struct hbone_stream *s)
{
	if (!s->conn || s->http || (s->state != STREAM_OPEN && s->state != STREAM_CONNECTING))
		return;
	struct policy_verdict verdict;
	/* Requests in a stream that was taken for bytes would go around rules that the port has got since. */
	enum port_kind kind = pod_port_kind(s->pod, s->destination.port);
	bool blind = s->l4 && kind == PORT_HTTP;
	judge(s, false, &verdict);
	/* Or its application is to be found elsewhere now. */
	blind |= s->app_port && s->app_port != pod_inbound_target(s->pod, &s->destination).port;
	if (verdict.reason == DROP_NONE && !blind) {
		s->blind_ms = 0;
		return;
	}
	if (s->l4 && (kind == PORT_HTTP || kind == PORT_SNIFF) && may_be_allowed(s) && blind_may_finish(s))
		return;
	inbound_cut(s, &verdict);
}

void inbound_end_blind(struct hbone_stream *s)
{
	struct policy_verdict verdict;
	judge(s, false, &verdict);
	inbound_cut(s, &verdict);
}
