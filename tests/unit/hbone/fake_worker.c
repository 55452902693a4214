/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hbone/fake_worker.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/route/exchange.h"
#include "agent/helper/tls_credentials.h"
#include "agent/helper/transport.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"
#include "tests/unit/hbone/certs.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

enum { TIMEOUT_MS = 5000, LOCAL_SOCKETS_MAX = 65536 };

static struct worker *local_owner[LOCAL_SOCKETS_MAX]; /* by fd: POD_CONNECT_LOCAL sockets that are not bound yet */

/* What the kernel's bind hook does for such a socket. */
int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	if (fd >= 0 && fd < LOCAL_SOCKETS_MAX && local_owner[fd]) {
		addr_from_sockaddr(sa, &local_owner[fd]->last_bind);
		local_owner[fd] = NULL;
		return 0;
	}
	return (int)syscall(SYS_bind, fd, sa, len);
}

/* --- what a worker provides --- */

struct loop *worker_loop(struct worker *w)
{
	return w->loop;
}

const struct helper_settings *worker_settings(const struct worker *w)
{
	return &w->settings;
}

struct link_shard *worker_metrics(struct worker *w)
{
	return &w->metrics;
}

struct hbone *worker_hbone(struct worker *w)
{
	return w->hbone;
}

struct transports *worker_transports(struct worker *w)
{
	return w->transports;
}

struct http_proxy *worker_http(struct worker *w)
{
	return (struct http_proxy *)w;
}

void http_proxy_inbound(struct http_proxy *p, struct worker_pod *pod, struct transport *t, enum http_protocol protocol)
{
	struct worker *w = (struct worker *)p;
	assert_ptr_equal(pod, w->beside ? w->beside : &w->pod);
	w->http++;
	w->http_transport = t;
	w->http2 = protocol == HTTP_PROTO_2;
	w->on_http(w, t);
}

struct worker_pod *worker_pod_ref(struct worker_pod *pod)
{
	pod->refs++;
	return pod;
}

void worker_pod_unref(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	assert_true(pod->refs > 0);
	pod->refs--;
}

struct worker_wait *worker_socket_take(struct worker *w, struct worker_pod *pod, enum pod_socket kind,
				       worker_socket_fn fn, void *arg)
{
	(void)pod;
	if (w->withhold_sockets) {
		fn(-ETIMEDOUT, arg);
		w->drops[DROP_NO_SOCKET]++;
		return NULL;
	}
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0 && fd < LOCAL_SOCKETS_MAX);
	w->sockets_taken++;
	local_owner[fd] = kind == POD_CONNECT_LOCAL ? w : NULL;
	fn(fd, arg);
	return NULL;
}

struct worker_wait *worker_endpoint_get(struct worker *w, const struct addr_port *endpoint, worker_endpoint_fn fn,
					void *arg)
{
	if (w->withhold_endpoints)
		return (struct worker_wait *)w;
	struct endpoint_info unknown = { .endpoint = *endpoint };
	for (size_t i = 0; i < w->endpoint_count; i++)
		if (addr_port_eq(&w->endpoints[i].endpoint, endpoint)) {
			fn(&w->endpoints[i], arg);
			return NULL;
		}
	fn(&unknown, arg);
	return NULL;
}

void worker_wait_cancel(struct worker_wait *wait)
{
	(void)wait;
}

void worker_endpoint_result(struct worker *w, const struct addr_port *endpoint, bool ok)
{
	(void)endpoint;
	if (ok)
		w->results_ok++;
	else
		w->results_failed++;
}

void worker_drop(struct worker *w, const struct worker_drop *drop)
{
	w->drops[drop->reason]++;
	str_copy(w->drop_peer, sizeof(w->drop_peer), drop->peer ? drop->peer : "");
	str_copy(w->drop_rule, sizeof(w->drop_rule), drop->rule ? drop->rule : "");
}

struct worker_pod *worker_pod_by_addr(struct worker *w, const struct addr *addr)
{
	struct worker_pod *all[] = { &w->pod, w->beside };
	for (size_t i = 0; i < 2; i++)
		for (size_t j = 0; all[i] && j < all[i]->addr_count; j++)
			if (addr_eq(&all[i]->addrs[j], addr))
				return all[i];
	return NULL;
}

bool worker_pod_admit(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	if (pod->connections >= pod->max_connections)
		return false;
	pod->connections++;
	return true;
}

void worker_pod_leave(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	assert_true(pod->connections > 0);
	pod->connections--;
}

/* --- set up --- */

static void on_tunnel_accept(struct loop_io *io, int events, void *arg)
{
	struct worker *w = arg;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	(void)events;
	if (w->withhold_tunnels) {
		loop_io_set(io, 0);
		return;
	}
	int fd = accept4(w->listener, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct addr_port peer;
	addr_from_sockaddr((struct sockaddr *)&sa, &peer);
	w->tunnels_accepted++;
	hbone_inbound(w->hbone, &w->pod, fd, &peer, &w->tunnel);
}

int tcp_listen(const char *address, struct addr_port *out)
{
	struct addr_port at = { 0 };
	struct sockaddr_storage sa;
	assert_int_equal(addr_parse(address, &at.addr), 0);
	socklen_t len = addr_to_sockaddr(&at, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, 512), 0);
	len = sizeof(sa);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	addr_from_sockaddr((struct sockaddr *)&sa, out);
	return fd;
}

void fake_worker_init(struct worker *w, struct loop *loop, struct test_ca *ca, const char *uri, const char *address)
{
	static char *const aliases[] = { (char *)"old.local" };
	*w = (struct worker){ .loop = loop, .listener = -1 };
	w->settings.trust_domain = (char *)"cluster.local";
	w->settings.trust_domain_aliases = (char **)(uintptr_t)aliases;
	w->settings.trust_domain_alias_count = 1;
	w->settings.threads = 1;
	assert_int_equal(identity_parse(uri, &w->pod.identity, NULL), 0);
	w->pod.uid = (char *)"shop/pod";
	w->pod.ns = (char *)"shop";
	w->pod.name = (char *)"pod";
	w->pod.cookie = (uintptr_t)w;
	w->pod.max_connections = 100000;
	w->pod.policy = policy_new();
	w->pod.addrs = calloc(1, sizeof(struct addr));
	w->pod.addr_count = 1;
	assert_int_equal(addr_parse(address, &w->pod.addrs[0]), 0);
	assert_int_equal(transports_new(w, &w->transports), 0);
	assert_int_equal(hbone_new(w, &w->hbone), 0);
	hbone_credentials(w->hbone, test_credentials_for(ca, uri));
	hbone_trust(w->hbone, test_trust(ca, NULL));
	w->listener = tcp_listen(address, &w->tunnel);
	assert_int_equal(loop_io_new(loop, w->listener, on_tunnel_accept, w, &w->listener_io), 0);
	loop_io_set(w->listener_io, LOOP_READ);
}

void fake_worker_done(struct worker *w)
{
	loop_io_free(w->listener_io);
	close(w->listener);
	hbone_free(w->hbone);
	transports_free(w->transports);
	assert_int_equal(w->pod.refs, 0);
	assert_int_equal(w->pod.connections, 0);
	assert_int_equal(w->metrics.buffers_bytes, 0);
	assert_int_equal(w->metrics.pool_connections, 0);
	assert_int_equal(w->metrics.outbound_opened, w->metrics.outbound_closed);
	assert_int_equal(w->metrics.inbound_opened, w->metrics.inbound_closed);
	identity_unref(w->pod.identity);
	policy_unref(w->pod.policy);
	free(w->pod.addrs);
	for (size_t i = 0; i < w->endpoint_count; i++)
		free(w->endpoints[i].identities);
}

void fake_worker_know(struct worker *w, const struct addr_port *endpoint, const struct worker *through)
{
	struct endpoint_info *info = &w->endpoints[w->endpoint_count++];
	*info = (struct endpoint_info){
		.endpoint = *endpoint, .known = true, .hbone = true, .tunnel = through->tunnel
	};
	info->identities = calloc(1, sizeof(char *));
	info->identities[0] = through->pod.identity->uri;
	info->identity_count = 1;
}

/* --- running --- */

struct run {
	struct loop *loop;
	bool (*done)(void *arg);
	void *arg;
	int turns;
	bool late;
};

static void on_turn(void *arg)
{
	struct run *run = arg;
	if (run->turns-- <= 0 || (run->done && run->done(run->arg)))
		loop_stop(run->loop);
	else
		loop_defer(run->loop, on_turn, run);
}

static void on_poll_timer(struct loop_timer *timer, void *arg)
{
	struct run *run = arg;
	(void)timer;
	if (run->done(run->arg)) {
		loop_stop(run->loop);
	} else if (run->turns-- <= 0) {
		run->late = true;
		loop_stop(run->loop);
	}
}

void run_until(struct loop *loop, bool (*done)(void *arg), void *arg)
{
	struct run run = { .loop = loop, .done = done, .arg = arg, .turns = TIMEOUT_MS };
	struct loop_timer *timer;
	if (done(arg))
		return;
	assert_int_equal(loop_timer_new(loop, on_poll_timer, &run, &timer), 0);
	loop_timer_start(timer, 0, 1);
	loop_run(loop);
	loop_timer_free(timer);
	if (run.late)
		fail_msg("what the test waits for did not happen in %d ms", TIMEOUT_MS);
}

struct count {
	const unsigned int *value;
	unsigned int want;
};

static bool count_reached(void *arg)
{
	const struct count *c = arg;
	return *c->value >= c->want;
}

void run_until_count(struct loop *loop, const unsigned int *value, unsigned int want)
{
	struct count c = { value, want };
	run_until(loop, count_reached, &c);
}

void run_turns(struct loop *loop, int turns)
{
	struct run run = { .loop = loop, .turns = turns };
	loop_defer(loop, on_turn, &run);
	loop_run(loop);
}

/* --- applications --- */

void tcp_pair(const char *address, int fds[2])
{
	struct addr_port at;
	int listener = tcp_listen(address, &at);
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(&at, &sa);
	fds[0] = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fds[0] >= 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&sa, len), 0);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fds[1] >= 0);
	close(listener);
	int one = 1;
	setsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

struct accepting {
	int listener, fd;
};

static bool accepted(void *arg)
{
	struct accepting *a = arg;
	a->fd = accept4(a->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return a->fd >= 0;
}

int tcp_accept(struct loop *loop, int listener)
{
	struct accepting a = { .listener = listener };
	run_until(loop, accepted, &a);
	return a.fd;
}

int app_connect(struct worker *w, const struct addr_port *endpoint)
{
	int fds[2];
	tcp_pair("127.0.0.1", fds);
	if (w->says)
		app_send(w->loop, fds[0], w->says, strlen(w->says));
	hbone_outbound(w->hbone, &w->pod, fds[1], endpoint, endpoint, NULL);
	return fds[0];
}

struct transfer {
	int fd;
	uint8_t *bytes;
	size_t len, done;
	ssize_t result;
};

static bool sent(void *arg)
{
	struct transfer *t = arg;
	ssize_t n = send(t->fd, t->bytes + t->done, t->len - t->done, MSG_NOSIGNAL);
	if (n > 0)
		t->done += (size_t)n;
	return t->done == t->len || (n < 0 && errno != EAGAIN);
}

void app_send(struct loop *loop, int fd, const void *bytes, size_t len)
{
	struct transfer t = { .fd = fd, .bytes = (uint8_t *)(uintptr_t)bytes, .len = len };
	run_until(loop, sent, &t);
	assert_int_equal(t.done, len);
}

static bool received(void *arg)
{
	struct transfer *t = arg;
	ssize_t n = recv(t->fd, t->bytes + t->done, t->len - t->done, 0);
	if (n > 0)
		t->done += (size_t)n;
	return t->done == t->len || n == 0 || (n < 0 && errno != EAGAIN);
}

void app_recv(struct loop *loop, int fd, void *bytes, size_t len)
{
	struct transfer t = { .fd = fd, .bytes = bytes, .len = len };
	run_until(loop, received, &t);
	assert_int_equal(t.done, len);
}

static bool came(void *arg)
{
	struct transfer *t = arg;
	t->result = recv(t->fd, t->bytes, t->len, 0);
	if (t->result < 0)
		t->result = -errno;
	return t->result != -EAGAIN;
}

ssize_t app_next(struct loop *loop, int fd, void *bytes, size_t len)
{
	struct transfer t = { .fd = fd, .bytes = bytes, .len = len };
	run_until(loop, came, &t);
	return t.result;
}
