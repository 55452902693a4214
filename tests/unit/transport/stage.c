/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/transport/stage.h"

#include "agent/base/loop.h"
#include "agent/helper/balance/upstream.h"
#include "agent/helper/observe/connection_log.h"
#include "agent/helper/transport_internal.h"
#include "agent/model/cluster.h"
#include "agent/model/l7.h"
#include "agent/model/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

enum { LOCAL_SOCKETS_MAX = 65536 };

static struct worker *local_owner[LOCAL_SOCKETS_MAX]; /* by fd: POD_CONNECT_LOCAL sockets that are not bound yet */

/* What the kernel's bind hook does for such a socket. */
int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	if (fd >= 0 && fd < LOCAL_SOCKETS_MAX && local_owner[fd]) {
		addr_from_sockaddr(sa, &local_owner[fd]->stage->last_bind);
		local_owner[fd] = NULL;
		return 0;
	}
	return (int)syscall(SYS_bind, fd, sa, len);
}

struct worker_wait *worker_socket_take(struct worker *w, struct worker_pod *pod, enum pod_socket kind,
				       worker_socket_fn fn, void *arg)
{
	(void)pod;
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0 && fd < LOCAL_SOCKETS_MAX);
	local_owner[fd] = kind == POD_CONNECT_LOCAL ? w : NULL;
	fn(fd, arg);
	return NULL;
}

struct worker_wait *worker_endpoint_get(struct worker *w, const struct addr_port *endpoint, worker_endpoint_fn fn,
					void *arg)
{
	assert_int_equal(endpoint->port, 0);
	fn(w->stage->no_caller ? NULL : &w->stage->caller, arg);
	return NULL;
}

struct worker_wait *worker_target_get(struct worker *w, struct worker_pod *pod, const struct addr_port *original,
				      const char *host, worker_target_fn fn, void *arg)
{
	(void)pod;
	(void)original;
	if (host)
		str_copy(w->stage->asked_name, sizeof(w->stage->asked_name), host);
	if (w->stage->withhold_target)
		return (struct worker_wait *)w;
	fn(host ? w->stage->named : w->stage->target, arg);
	return NULL;
}

void worker_wait_cancel(struct worker_wait *wait)
{
	(void)wait;
}

struct tcp_proxy *worker_tcp(struct worker *w)
{
	return w->stage->tcp;
}

struct http_proxy *worker_http(struct worker *w)
{
	return (struct http_proxy *)w;
}

struct hbone *worker_hbone(struct worker *w)
{
	return (struct hbone *)w;
}

/* --- the engine --- */

static void take_transport(struct worker *w, struct transport *t, enum http_protocol protocol, bool inbound)
{
	struct stage *s = w->stage;
	s->http++;
	s->http_inbound = inbound;
	s->protocol = protocol;
	s->told = (struct told){ .t = t, .take = SIZE_MAX };
	transport_on(t, &told_events, &s->told);
}

void http_proxy_outbound(struct http_proxy *p, struct worker_pod *pod, struct transport *t, enum http_protocol protocol,
			 const struct addr_port *original, struct http_vhost *vhost)
{
	(void)pod;
	(void)vhost;
	assert_true(addr_port_eq(original, &t->local));
	take_transport((struct worker *)p, t, protocol, false);
}

void http_proxy_inbound(struct http_proxy *p, struct worker_pod *pod, struct transport *t, enum http_protocol protocol)
{
	(void)pod;
	take_transport((struct worker *)p, t, protocol, true);
}

struct upstreams *http_proxy_upstreams(struct http_proxy *p)
{
	return (struct upstreams *)p;
}

struct upstream_wait *upstream_pick(struct upstreams *u, const struct upstream_query *q, upstream_pick_fn fn, void *arg)
{
	struct stage *s = ((struct worker *)u)->stage;
	s->picks++;
	str_copy(s->picked, sizeof(s->picked), q->cluster);
	str_copy(s->picked_host, sizeof(s->picked_host), q->host ? q->host : "");
	str_copy(s->picked_called, sizeof(s->picked_called), q->called ? q->called : "");
	fn(s->cluster, s->endpoint, s->endpoint ? UPSTREAM_OK : UPSTREAM_NO_ENDPOINT, arg);
	return NULL;
}

void upstream_cancel(struct upstream_wait *wait)
{
	(void)wait;
}

void upstream_report(struct upstreams *u, const char *cluster, const struct addr_port *endpoint, bool connected)
{
	struct stage *s = ((struct worker *)u)->stage;
	(void)cluster;
	(void)endpoint;
	*(connected ? &s->reports_ok : &s->reports_failed) += 1;
}

/* --- the tunnels --- */

void hbone_outbound(struct hbone *h, struct worker_pod *pod, int fd, const struct addr_port *endpoint,
		    const struct addr_port *original, struct connection_log *log)
{
	struct stage *s = ((struct worker *)h)->stage;
	const struct connection_end end = { .upstream = endpoint };
	(void)pod;
	(void)original;
	s->tunnels++;
	s->tunnel_fd = fd;
	s->tunnel_endpoint = *endpoint;
	connection_log_end(log, &end);
}

struct transport *hbone_open(struct hbone *h, struct worker_pod *pod, const struct endpoint_info *info,
			     transport_opened_fn fn, void *arg)
{
	(void)h;
	(void)pod;
	(void)info;
	(void)fn;
	(void)arg;
	return NULL;
}

int hbone_material(struct hbone *h, const char *uri, struct tls_credentials **credentials, struct tls_trust **trust)
{
	(void)h;
	(void)uri;
	(void)credentials;
	(void)trust;
	return -ENOENT;
}

void hbone_open_cancel(struct transport *t)
{
	(void)t;
}

/* --- setting up --- */

int stage_setup(void **state)
{
	rig_setup(state);
	struct worker *w = *state;
	w->stage = calloc(1, sizeof(*w->stage));
	w->stage->tunnel_fd = -1;
	w->stage->target = l7_target_new();
	w->stage->target->mode = L7_SNIFF;
	w->stage->target->default_cluster = strdup("outbound|6379||redis");
	w->stage->cluster = http_cluster_new();
	w->stage->endpoint = calloc(1, sizeof(*w->stage->endpoint));
	w->pod.policy = policy_new();
	assert_int_equal(tcp_proxy_new(w, &w->stage->tcp), 0);
	assert_int_equal(acceptor_new(w, &w->stage->acceptor), 0);
	return 0;
}

int stage_teardown(void **state)
{
	struct worker *w = *state;
	struct stage *s = w->stage;
	acceptor_free(s->acceptor);
	tcp_proxy_free(s->tcp);
	told_done(&s->told);
	if (s->tunnel_fd >= 0)
		close(s->tunnel_fd);
	assert_int_equal(w->metrics.outbound_opened, w->metrics.outbound_closed);
	assert_int_equal(w->metrics.inbound_opened, w->metrics.inbound_closed);
	l7_target_unref(s->target);
	l7_target_unref(s->named);
	http_cluster_unref(s->cluster);
	policy_unref(w->pod.policy);
	free(s->endpoint);
	free(s);
	return rig_teardown(state);
}

int stage_listen(const char *address, struct addr_port *out)
{
	struct addr_port at = { 0 };
	struct sockaddr_storage sa;
	assert_int_equal(addr_parse(address, &at.addr), 0);
	socklen_t len = addr_to_sockaddr(&at, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, 16), 0);
	len = sizeof(sa);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	addr_from_sockaddr((struct sockaddr *)&sa, out);
	return fd;
}

int stage_accept(struct worker *w, int listener)
{
	for (int i = 0; i < 2000; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			return fd;
		rig_run(w, 1);
	}
	fail_msg("no connection came");
	return -1;
}

static void pair(int fds[2])
{
	struct addr_port at;
	struct sockaddr_storage sa;
	int listener = stage_listen("127.0.0.1", &at);
	socklen_t len = addr_to_sockaddr(&at, &sa);
	fds[0] = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&sa, len), 0);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fds[1] >= 0);
	close(listener);
}

int stage_outbound(struct worker *w)
{
	struct addr_port original = { .port = 80 };
	int fds[2];
	addr_parse("10.96.0.1", &original.addr);
	pair(fds);
	acceptor_outbound(w->stage->acceptor, &w->pod, fds[1], &original);
	return fds[0];
}

int stage_inbound(struct worker *w, const struct addr_port *local, enum pod_socket kind)
{
	struct addr_port peer = { .port = 40000 };
	int fds[2];
	addr_parse("10.1.1.1", &peer.addr);
	pair(fds);
	acceptor_inbound(w->stage->acceptor, &w->pod, fds[1], &peer, local, kind);
	return fds[0];
}
