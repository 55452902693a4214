/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers that misbehave. The helper here is this very binary, started anew by the supervisor; the node's name, which it
 * gets in its greeting, says what it does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/link/channel.h"
#include "agent/link/message.h"
#include "agent/link/process.h"
#include "agent/link/supervisor.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"
#include "agent/model/l7.h"
#include "agent/model/plan.h"

enum { COOKIE = 5, LINK_FD = 3 };

/* --- the helper's side: blocking, simple, rude --- */

static Weft__Link__ToHelper *helper_read(void)
{
	static uint8_t bytes[CHANNEL_MESSAGE_MAX];
	for (;;) {
		ssize_t n = recv(LINK_FD, bytes, sizeof(bytes), 0);
		if (n < 0 && errno == EAGAIN) {
			usleep(200); /* the descriptor is non-blocking and this side has no loop */
			continue;
		}
		if (n <= 0)
			_exit(0);
		return weft__link__to_helper__unpack(NULL, (size_t)n, bytes);
	}
}

static void helper_send_bytes(const void *bytes, size_t len)
{
	while (send(LINK_FD, bytes, len, MSG_NOSIGNAL) < 0)
		if (errno != EAGAIN)
			_exit(0);
}

static void helper_send(Weft__Link__ToAgent__MsgCase which, void *message)
{
	uint8_t bytes[32768];
	Weft__Link__ToAgent m = WEFT__LINK__TO_AGENT__INIT;
	m.msg_case = which;
	m.ready = message;
	helper_send_bytes(bytes, weft__link__to_agent__pack(&m, bytes));
}

static void helper_log(const char *text)
{
	Weft__Link__Log m = WEFT__LINK__LOG__INIT;
	m.level = LOG_INFO;
	m.text = (char *)(uintptr_t)text;
	helper_send(WEFT__LINK__TO_AGENT__MSG_LOG, &m);
}

static void helper_ready(uint32_t version)
{
	Weft__Link__Ready m = WEFT__LINK__READY__INIT;
	m.version = version;
	helper_send(WEFT__LINK__TO_AGENT__MSG_READY, &m);
}

static void helper_csr(const char *identity)
{
	Weft__Link__Csr m = WEFT__LINK__CSR__INIT;
	m.identity = (char *)(uintptr_t)identity;
	m.csr_pem = (char *)(uintptr_t) "request";
	helper_send(WEFT__LINK__TO_AGENT__MSG_CSR, &m);
}

static void helper_sockets(uint64_t cookie, uint32_t kind, uint32_t count)
{
	Weft__Link__SocketsWanted m = WEFT__LINK__SOCKETS_WANTED__INIT;
	m.cookie = cookie;
	m.kind = kind;
	m.count = count;
	helper_send(WEFT__LINK__TO_AGENT__MSG_SOCKETS_WANTED, &m);
}

static void helper_endpoint(Weft__Link__ToAgent__MsgCase which, uint32_t number, size_t addr_len)
{
	struct addr_port at = { .port = 80 };
	memcpy(at.addr.b + 12, &number, 4);
	Weft__Link__AddrPort a;
	message_addr_port_set(&a, &at);
	a.addr.len = addr_len;
	Weft__Link__EndpointQuery query = WEFT__LINK__ENDPOINT_QUERY__INIT;
	Weft__Link__EndpointResult result = WEFT__LINK__ENDPOINT_RESULT__INIT;
	query.endpoint = result.endpoint = &a;
	bool asks = which == WEFT__LINK__TO_AGENT__MSG_ENDPOINT_QUERY;
	helper_send(which, asks ? (void *)&query : (void *)&result);
}

static void helper_name(const char *name)
{
	Weft__Link__DnsQuery m = WEFT__LINK__DNS_QUERY__INIT;
	m.cookie = COOKIE;
	m.name = (char *)(uintptr_t)name;
	helper_send(WEFT__LINK__TO_AGENT__MSG_DNS_QUERY, &m);
}

static void helper_dropped(uint32_t reason)
{
	Weft__Link__Dropped m = WEFT__LINK__DROPPED__INIT;
	m.cookie = COOKIE;
	m.reason = reason;
	helper_send(WEFT__LINK__TO_AGENT__MSG_DROPPED, &m);
}

/* Until the pod is known, so that what comes after is about it. */
static void helper_wait_for(Weft__Link__ToHelper__MsgCase which, Weft__Link__ToHelper **out)
{
	for (;;) {
		Weft__Link__ToHelper *m = helper_read();
		if (m->msg_case == which) {
			*out = m;
			return;
		}
		weft__link__to_helper__free_unpacked(m, NULL);
	}
}

static void helper_send_descriptor(void)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = (char[]){ "x" }, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &(int){ 2 }, sizeof(int));
	sendmsg(LINK_FD, &msg, 0);
}

static void helper_flood_log(void)
{
	for (int i = 0; i < 5000; i++)
		helper_log("noise");
}

static void helper_many_endpoints(void)
{
	for (uint32_t i = 0; i < 20000; i++)
		helper_endpoint(WEFT__LINK__TO_AGENT__MSG_ENDPOINT_QUERY, i, 16);
}

static void helper_foreign_csrs(int count)
{
	for (int i = 0; i < count; i++)
		helper_csr("spiffe://cluster.local/ns/other/sa/admin");
}

static void helper_target(Weft__Link__ToAgent__MsgCase which, uint16_t port, const char *host, size_t addr_len)
{
	struct addr_port at = { .port = port };
	Weft__Link__AddrPort a;
	message_addr_port_set(&a, &at);
	a.addr.len = addr_len;
	Weft__Link__TargetQuery query = WEFT__LINK__TARGET_QUERY__INIT;
	Weft__Link__TargetForget forget = WEFT__LINK__TARGET_FORGET__INIT;
	query.cookie = forget.cookie = COOKIE;
	query.original = forget.original = &a;
	query.host = forget.host = (char *)(uintptr_t)host;
	bool asks = which == WEFT__LINK__TO_AGENT__MSG_TARGET_QUERY;
	helper_send(which, asks ? (void *)&query : (void *)&forget);
}

static void helper_cluster(Weft__Link__ToAgent__MsgCase which, const char *name)
{
	Weft__Link__ClusterQuery query = WEFT__LINK__CLUSTER_QUERY__INIT;
	Weft__Link__ClusterForget forget = WEFT__LINK__CLUSTER_FORGET__INIT;
	query.name = forget.name = (char *)(uintptr_t)name;
	bool asks = which == WEFT__LINK__TO_AGENT__MSG_CLUSTER_QUERY;
	helper_send(which, asks ? (void *)&query : (void *)&forget);
}

#define ASK_TARGET WEFT__LINK__TO_AGENT__MSG_TARGET_QUERY
#define ASK_CLUSTER WEFT__LINK__TO_AGENT__MSG_CLUSTER_QUERY

static void helper_follow(void)
{
	helper_target(ASK_TARGET, 80, "x", 16);
	helper_target(ASK_TARGET, 80, "", 16);
	helper_cluster(ASK_CLUSTER, "c");
	helper_cluster(ASK_CLUSTER, "none");
}

/* More than may be followed, as slowly as it takes not to be limited for its rate. */
static void helper_many_targets(void)
{
	for (unsigned int i = 0; i < 9000; i++) {
		helper_target(ASK_TARGET, (uint16_t)i, "", 16);
		if (i > 8150)
			usleep(1000);
	}
}

static void helper_many_clusters(void)
{
	for (unsigned int i = 0; i < 17000; i++) {
		char name[32];
		snprintf(name, sizeof(name), "c%u", i);
		helper_cluster(ASK_CLUSTER, name);
		if (i > 16300)
			usleep(1000);
	}
}

static void helper_tap_record(uint32_t id, size_t len)
{
	Weft__Link__TapRecord m = WEFT__LINK__TAP_RECORD__INIT;
	char *json = calloc(1, len + 1);
	memset(json, 'j', len);
	m.id = id;
	m.json = json;
	helper_send(WEFT__LINK__TO_AGENT__MSG_TAP_RECORD, &m);
	free(json);
}

static void helper_spans(void)
{
	Weft__Link__Spans m = WEFT__LINK__SPANS__INIT;
	m.batch = (ProtobufCBinaryData){ 5, (uint8_t[]){ 0, 1, 2, 3, 4 } };
	m.count = 2;
	helper_send(WEFT__LINK__TO_AGENT__MSG_SPANS, &m);
}

/* What it was told, in words. */
static void helper_note(const Weft__Link__ToHelper *m)
{
	char text[256] = "";
	if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_TARGET) {
		const char *service = m->target->own ? "own" : m->target->target ? m->target->target->service : "none";
		snprintf(text, sizeof(text), "target %s %s", *m->target->host ? m->target->host : "-", service);
		if (m->target->vhost)
			snprintf(text + strlen(text), 32, " vhost %u", (unsigned int)m->target->vhost);
	} else if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_VHOST) {
		snprintf(text, sizeof(text), "vhost %u %s", (unsigned int)m->vhost->id, m->vhost->vhost->name);
	} else if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_VHOST_FORGET) {
		snprintf(text, sizeof(text), "forget %u", (unsigned int)m->vhost_forget->id);
	} else if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_CLUSTER) {
		unsigned int max = m->cluster->cluster ? m->cluster->cluster->max_requests : 0;
		snprintf(text, sizeof(text), "cluster %s %u", m->cluster->name, max);
		if (max == 9)
			helper_cluster(WEFT__LINK__TO_AGENT__MSG_CLUSTER_FORGET, m->cluster->name);
	} else if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_TAP_START) {
		snprintf(text, sizeof(text), "tap %u %s %u", m->tap_start->id, m->tap_start->filter,
			 m->tap_start->per_second);
		helper_tap_record(m->tap_start->id, 3);
		helper_tap_record(m->tap_start->id + 1, 3);
		helper_spans();
	} else if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_TAP_STOP) {
		snprintf(text, sizeof(text), "untap %u", m->tap_stop->id);
		helper_tap_record(m->tap_stop->id, 3);
	} else if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_CARRIED) {
		const Weft__Link__Carried *c = m->carried;
		snprintf(text, sizeof(text), "carried %u %d %u %u %s %s %u %u", (unsigned int)c->cookie, c->server,
			 c->destination->port, c->upstream ? c->upstream->port : 0, c->cluster, c->peer, c->reason,
			 (unsigned int)c->sent_bytes);
	} else if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_LOG_SINK) {
		snprintf(text, sizeof(text), "sink %s", m->log_sink->path);
	}
	if (*text)
		helper_log(text);
}

static void helper_misbehave(const char *mode)
{
	if (strcmp(mode, "garbage") == 0)
		helper_send_bytes("\xff\xff\xff\xff garbage", 12);
	else if (strcmp(mode, "long") == 0)
		helper_send_bytes(calloc(1, LINK_HELPER_MESSAGE_MAX + 1), LINK_HELPER_MESSAGE_MAX + 1);
	else if (strcmp(mode, "descriptor") == 0)
		helper_send_descriptor();
	else if (strcmp(mode, "listener-wanted") == 0)
		helper_sockets(COOKIE, POD_LISTEN_HBONE, 1);
	else if (strcmp(mode, "many-sockets") == 0)
		helper_sockets(COOKIE, POD_CONNECT_REMOTE, 1000);
	else if (strcmp(mode, "foreign-sockets") == 0)
		helper_sockets(COOKIE + 1, POD_CONNECT_REMOTE, 4);
	else if (strcmp(mode, "bad-endpoint") == 0)
		helper_endpoint(WEFT__LINK__TO_AGENT__MSG_ENDPOINT_QUERY, 1, 4);
	else if (strcmp(mode, "bad-target") == 0)
		helper_target(ASK_TARGET, 80, "", 15);
	else if (strcmp(mode, "bad-host") == 0)
		helper_target(ASK_TARGET, 80, "a\nb", 16);
	else if (strcmp(mode, "bad-cluster") == 0)
		helper_cluster(ASK_CLUSTER, "a b");
	else if (strcmp(mode, "no-cluster") == 0)
		helper_cluster(ASK_CLUSTER, "");
	else if (strcmp(mode, "long-tap") == 0)
		helper_tap_record(1, 20000);
	else if (strcmp(mode, "many-targets") == 0)
		helper_many_targets();
	else if (strcmp(mode, "many-clusters") == 0)
		helper_many_clusters();
	else if (strcmp(mode, "follow") == 0)
		helper_follow();
	else if (strcmp(mode, "bad-name") == 0)
		helper_name("a b;c");
	else if (strcmp(mode, "bad-reason") == 0)
		helper_dropped(9999);
	else if (strcmp(mode, "foreign-csrs") == 0)
		helper_foreign_csrs(100);
	else if (strcmp(mode, "foreign-csr") == 0)
		helper_foreign_csrs(1);
	else if (strcmp(mode, "foreign-result") == 0)
		helper_endpoint(WEFT__LINK__TO_AGENT__MSG_ENDPOINT_RESULT, 1, 16);
	else if (strcmp(mode, "flood-log") == 0)
		helper_flood_log();
	else if (strcmp(mode, "many-endpoints") == 0)
		helper_many_endpoints();
	else if (strcmp(mode, "own-csrs") == 0)
		for (int i = 0; i < 100; i++)
			helper_csr("spiffe://cluster.local/ns/shop/sa/web");
}

static int helper_main(void)
{
	Weft__Link__ToHelper *hello, *pod;
	signal(SIGALRM, SIG_DFL);
	alarm(300);
	helper_wait_for(WEFT__LINK__TO_HELPER__MSG_HELLO, &hello);
	const char *mode = hello->hello->node;
	if (strcmp(mode, "crash") == 0)
		_exit(7);
	helper_ready(strcmp(mode, "version") == 0 ? 99 : LINK_VERSION);
	if (strcmp(mode, "deaf") == 0) {
		pause();
		return 0;
	}
	if (strcmp(mode, "observe") != 0)
		helper_wait_for(WEFT__LINK__TO_HELPER__MSG_POD_SET, &pod);
	helper_misbehave(mode);
	helper_log("done");
	for (;;) {
		Weft__Link__ToHelper *m = helper_read();
		if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_SOCKETS)
			helper_log(m->sockets->error);
		if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_CERTIFICATE)
			helper_log(m->certificate->error);
		helper_note(m);
		weft__link__to_helper__free_unpacked(m, NULL);
	}
}

/* --- the agent's side --- */

struct fixture {
	struct loop *loop;
	struct supervisor *s;
	struct mesh_settings mesh;
	struct workload *workload;
	char run_dir[64], self[PATH_MAX], heard[8192];
	unsigned int died, sockets, csrs, results, drops, logs, endpoints;
	const char *service, *host_service; /* of the target that the agent knows */
	const char *routes;		    /* NULL: none */
	uint32_t max_requests;		    /* of the cluster */
	unsigned int targets, clusters, taps, spans;
	const char *awaited;
	bool done, (*until)(struct fixture *f), timed_out;
	uint64_t limit_ns;
};

static void on_died(const char *why, void *arg)
{
	(void)why;
	((struct fixture *)arg)->died++;
}

static int open_sockets(uint64_t cookie, enum pod_socket kind, int *fds, size_t count, struct err *err, void *arg)
{
	(void)cookie;
	(void)kind;
	(void)fds;
	(void)count;
	((struct fixture *)arg)->sockets++;
	return err_set(err, -EMFILE, "none left");
}

static void endpoint(const struct addr_port *at, struct link_endpoint *out, void *arg)
{
	(void)at;
	(void)out;
	((struct fixture *)arg)->endpoints++;
}

static void on_target(uint64_t cookie, const struct addr_port *original, const char *host, struct l7_target **out,
		      void *arg)
{
	struct fixture *f = arg;
	(void)original;
	assert_int_equal(cookie, COOKIE);
	f->targets++;
	const char *service = host && f->host_service ? f->host_service : f->service;
	if (!service)
		return;
	*out = l7_target_new();
	(*out)->service = strdup(service);
	if (f->routes) {
		(*out)->vhost = http_vhost_new();
		(*out)->vhost->name = strdup(f->routes);
		assert_int_equal(http_vhost_seal((*out)->vhost, NULL), 0);
	}
	l7_target_seal(*out);
}

static void on_cluster(const char *name, struct http_cluster **out, void *arg)
{
	struct fixture *f = arg;
	f->clusters++;
	if (strcmp(name, "none") == 0 || !f->max_requests)
		return;
	*out = http_cluster_new();
	(*out)->name = strdup(name);
	(*out)->max_requests = f->max_requests;
	http_cluster_seal(*out);
}

static void on_spans(const uint8_t *batch, size_t len, uint32_t count, void *arg)
{
	assert_int_equal(len, 5);
	assert_int_equal(batch[4], 4);
	((struct fixture *)arg)->spans += count;
}

static void on_tapped(const char *json, void *arg)
{
	assert_string_equal(json, "jjj");
	((struct fixture *)arg)->taps++;
}

static void dns(uint64_t cookie, const char *name, struct link_dns_answer *out, void *arg)
{
	(void)cookie;
	(void)name;
	(void)out;
	(void)arg;
}

static void on_csr(uint64_t request, const char *identity, const char *csr_pem, void *arg)
{
	struct fixture *f = arg;
	assert_string_equal(csr_pem, "request");
	assert_string_equal(identity, "spiffe://cluster.local/ns/shop/sa/web");
	f->csrs++;
	supervisor_certificate(f->s, request, identity, NULL, 0, "refused");
}

static void on_dropped(const struct link_dropped *dropped, void *arg)
{
	(void)dropped;
	((struct fixture *)arg)->drops++;
}

static void on_result(const struct addr_port *at, bool ok, void *arg)
{
	(void)at;
	(void)ok;
	((struct fixture *)arg)->results++;
}

static void on_log(enum log_level level, const char *text, void *arg)
{
	struct fixture *f = arg;
	(void)level;
	f->logs++;
	if (strcmp(text, "done") == 0)
		f->done = true;
	if (strlen(f->heard) + strlen(text) + 2 < sizeof(f->heard) && strcmp(text, "noise") != 0)
		strcat(strcat(f->heard, text), "\n");
}

static void on_tick(struct loop_timer *timer, void *arg)
{
	struct fixture *f = arg;
	(void)timer;
	bool holds = f->until(f);
	f->timed_out = !holds && clock_now_ns() > f->limit_ns;
	if (holds || f->timed_out)
		loop_stop(f->loop);
}

/* ms: on a machine that has nothing else to do. */
static bool run_until(struct fixture *f, bool (*until)(struct fixture *f), unsigned int ms)
{
	struct loop_timer *timer;
	f->until = until;
	f->limit_ns = clock_now_ns() + 20 * ms * 1000000ull;
	assert_int_equal(loop_timer_new(f->loop, on_tick, f, &timer), 0);
	loop_timer_start(timer, 0, 1);
	loop_run(f->loop);
	loop_timer_free(timer);
	return !f->timed_out;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_true(readlink("/proc/self/exe", f->self, sizeof(f->self) - 1) > 0);
	strcpy(f->run_dir, "/tmp/weft-test-XXXXXX");
	assert_non_null(mkdtemp(f->run_dir));
	f->mesh = (struct mesh_settings){ .trust_domain = (char *)"cluster.local",
					  .cluster_domain = (char *)"cluster.local" };
	f->workload = workload_new();
	f->workload->uid = strdup("shop/web");
	f->workload->ns = strdup("shop");
	f->workload->name = strdup("web");
	f->workload->identity = identity_new("cluster.local", "shop", "web");
	assert_int_equal(loop_new(&f->loop, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct supervisor_status status = { 0 };
	char path[128];
	if (f->s)
		supervisor_status(f->s, &status);
	if (status.pid)
		kill(status.pid, SIGKILL);
	supervisor_free(f->s);
	loop_free(f->loop);
	workload_unref(f->workload);
	snprintf(path, sizeof(path), "%s/helper.pid", f->run_dir);
	unlink(path);
	rmdir(f->run_dir);
	free(f);
	return 0;
}

static void start(struct fixture *f, const char *mode)
{
	struct supervisor_options options = {
		.loop = f->loop, .helper_path = f->self, .run_dir = f->run_dir, .uid = 65534, .gid = 65534, .node = mode
	};
	struct supervisor_events events = { .on_died = on_died,
					    .open_sockets = open_sockets,
					    .endpoint = endpoint,
					    .target = on_target,
					    .cluster = on_cluster,
					    .on_spans = on_spans,
					    .dns = dns,
					    .on_csr = on_csr,
					    .on_dropped = on_dropped,
					    .on_endpoint_result = on_result,
					    .on_log = on_log,
					    .arg = f };
	struct err err = ERR_INIT;
	if (supervisor_new(&options, &f->mesh, &events, &f->s, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(supervisor_pod_set(f->s, COOKIE, f->workload, NULL, &err), 0);
}

static bool is_done(struct fixture *f)
{
	return f->done;
}

static bool has_died(struct fixture *f)
{
	return f->died > 0;
}

static struct supervisor_status status_of(struct fixture *f)
{
	struct supervisor_status status;
	supervisor_status(f->s, &status);
	return status;
}

static void test_supervisor_breach_kills_helper(void **state)
{
	static const char *const breaches[] = { "garbage",	"long",		"descriptor", "listener-wanted",
						"many-sockets", "bad-endpoint", "bad-name",   "bad-reason",
						"version",	"foreign-csrs", "bad-target", "bad-host",
						"bad-cluster",	"no-cluster",	"long-tap" };
	struct fixture *f = *state;
	for (size_t i = 0; i < ARRAY_SIZE(breaches); i++) {
		f->died = 0;
		start(f, breaches[i]);
		if (!run_until(f, has_died, 5000))
			fail_msg("%s: the helper lives", breaches[i]);
		assert_true(status_of(f).protocol_errors > 0);
		assert_true(status_of(f).restarts > 0);
		assert_int_equal(f->sockets, 0);
		assert_int_equal(f->csrs, 0);
		assert_int_equal(f->drops + f->targets + f->clusters + f->taps, 0);
		kill(status_of(f).pid, SIGKILL);
		supervisor_free(f->s);
		f->s = NULL;
	}
}

static bool heard_no_pod(struct fixture *f)
{
	return strstr(f->heard, "no such pod") != NULL;
}

static void test_supervisor_sockets_of_unknown_pod_refused(void **state)
{
	struct fixture *f = *state;
	start(f, "foreign-sockets");
	assert_true(run_until(f, heard_no_pod, 5000));
	assert_int_equal(f->sockets, 0);
	assert_int_equal(f->died, 0);
}

static bool heard_no_identity(struct fixture *f)
{
	return strstr(f->heard, "no pod on this node has this identity") != NULL;
}

static void test_supervisor_csr_for_foreign_identity_refused(void **state)
{
	struct fixture *f = *state;
	start(f, "foreign-csr");
	assert_true(run_until(f, heard_no_identity, 5000));
	assert_int_equal(f->csrs, 0);
	assert_int_equal(f->died, 0);
}

static void test_supervisor_csrs_of_own_identity_are_rate_limited(void **state)
{
	struct fixture *f = *state;
	start(f, "own-csrs");
	assert_true(run_until(f, is_done, 5000));
	assert_true(f->csrs >= 1 && f->csrs < 20);
	assert_true(status_of(f).rate_limited > 50);
}

static void test_supervisor_result_of_unasked_endpoint_ignored(void **state)
{
	struct fixture *f = *state;
	start(f, "foreign-result");
	assert_true(run_until(f, is_done, 5000));
	assert_int_equal(f->results, 0);
}

static bool limited(struct fixture *f)
{
	return status_of(f).rate_limited >= 3000;
}

static void test_supervisor_log_flood_is_cut(void **state)
{
	struct fixture *f = *state;
	start(f, "flood-log");
	assert_true(run_until(f, limited, 5000));
	assert_true(f->logs < 2500);
	assert_int_equal(f->died, 0);
}

static bool died_or_done(struct fixture *f)
{
	return f->done || f->died;
}

static void test_supervisor_endpoints_followed_are_bounded(void **state)
{
	struct fixture *f = *state;
	start(f, "many-endpoints");
	assert_true(run_until(f, died_or_done, 8000));
	assert_true(f->endpoints <= 16384 + 1);
}

static void test_supervisor_targets_and_clusters_followed_are_bounded(void **state)
{
	struct fixture *f = *state;
	start(f, "many-targets");
	assert_true(run_until(f, has_died, 8000));
	assert_true(f->targets > 8000 && f->targets <= 8192);
	kill(status_of(f).pid, SIGKILL);
	supervisor_free(f->s);
	f->s = NULL;
	f->died = 0;
	start(f, "many-clusters");
	assert_true(run_until(f, has_died, 8000));
	assert_true(f->clusters > 16000 && f->clusters <= 16384);
}

static size_t times(const char *text, const char *part)
{
	size_t n = 0;
	for (const char *at = text; (at = strstr(at, part)); at += strlen(part))
		n++;
	return n;
}

static bool heard_awaited(struct fixture *f)
{
	return strstr(f->heard, f->awaited) != NULL;
}

static bool hears(struct fixture *f, const char *text)
{
	f->awaited = text;
	return run_until(f, heard_awaited, 5000);
}

/* Nothing more is said: what was asked for last is answered after it. */
static void test_supervisor_follows_targets_and_clusters(void **state)
{
	struct fixture *f = *state;
	f->service = "one";
	f->max_requests = 5;
	start(f, "follow");
	assert_true(hears(f, "cluster none 0\n"));
	assert_non_null(strstr(f->heard, "target x own\n"));
	assert_non_null(strstr(f->heard, "target - one\n"));
	assert_non_null(strstr(f->heard, "cluster c 5\n"));
	assert_int_equal(status_of(f).targets, 2);
	assert_int_equal(status_of(f).clusters, 2);

	f->service = "two";
	supervisor_refresh(f->s);
	assert_true(hears(f, "target - two\n"));
	f->max_requests = 6;
	supervisor_refresh(f->s);
	assert_true(hears(f, "cluster c 6\n"));
	f->host_service = "host";
	supervisor_refresh(f->s);
	assert_true(hears(f, "target x host\n"));
	f->host_service = f->service = NULL;
	supervisor_refresh(f->s);
	assert_true(hears(f, "target - none\n"));
	/* What did not differ was not said again. */
	assert_int_equal(times(f->heard, "target - two"), 1);
	assert_int_equal(times(f->heard, "cluster c"), 2);
	assert_int_equal(times(f->heard, "cluster none"), 1);

	/* A cluster ends after the routes that led to it; one that is new comes before. */
	f->heard[0] = 0;
	f->service = "elsewhere";
	f->max_requests = 0;
	supervisor_refresh(f->s);
	assert_true(hears(f, "target - elsewhere\ncluster c 0\n"));
	f->service = "back";
	f->max_requests = 7;
	supervisor_refresh(f->s);
	assert_true(hears(f, "cluster c 7\ntarget - back\n"));

	f->max_requests = 9; /* the helper forgets it then */
	supervisor_refresh(f->s);
	assert_true(hears(f, "cluster c 9\n"));
	f->max_requests = 10;
	f->service = "three";
	supervisor_refresh(f->s);
	assert_true(hears(f, "target - three\n"));
	assert_int_equal(status_of(f).clusters, 1);
	assert_int_equal(times(f->heard, "cluster c"), 3); /* 0, 7, 9 */
}

static void test_supervisor_tells_routes_once(void **state)
{
	struct fixture *f = *state;
	f->service = "one";
	f->host_service = "host";
	f->routes = "a";
	f->max_requests = 5;
	start(f, "follow");
	assert_true(hears(f, "cluster none 0\n"));
	assert_non_null(strstr(f->heard, "vhost 1 a\ntarget x host vhost 1\ntarget - one vhost 1\n"));
	f->heard[0] = 0;
	f->routes = "b";
	supervisor_refresh(f->s);
	/* The old ones are forgotten when the last target has the new ones. */
	assert_true(hears(f, "forget 1\n"));
	assert_int_equal(times(f->heard, "vhost 2 b\n"), 1);
	assert_int_equal(times(f->heard, " vhost 2\n"), 2);
	f->heard[0] = 0;
	f->host_service = NULL; /* as the address's own: no target of its own */
	supervisor_refresh(f->s);
	assert_true(hears(f, "target x own\n"));
	f->service = NULL;
	supervisor_refresh(f->s);
	assert_true(hears(f, "target - none\nforget 2\n"));
	assert_int_equal(times(f->heard, "forget"), 1);
}

static void test_supervisor_new_helper_gets_sinks_and_taps(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	uint32_t id = 0, other;
	start(f, "observe");
	assert_int_equal(supervisor_log_sink(f->s, "/var/log/a", 2, &err), 0);
	assert_true(hears(f, "sink /var/log/a\n"));
	assert_int_equal(supervisor_tap_start(f->s, "filter", 7, on_tapped, f, &id), 0);
	assert_true(hears(f, "tap 1 filter 7\n"));
	assert_int_equal(f->taps, 1); /* and not of the tap that there is none of */
	assert_int_equal(f->spans, 2);
	f->heard[0] = 0;
	kill(status_of(f).pid, SIGKILL);
	assert_true(hears(f, "sink /var/log/a\n"));
	assert_true(hears(f, "tap 1 filter 7\n"));
	supervisor_tap_stop(f->s, id);
	assert_true(hears(f, "untap 1\n"));
	assert_int_equal(f->taps, 2);
	for (int i = 0; i < 4; i++)
		assert_int_equal(supervisor_tap_start(f->s, "", 0, on_tapped, f, &other), 0);
	assert_int_equal(supervisor_tap_start(f->s, "", 0, on_tapped, f, &other), -EBUSY);

	for (int i = 0; i < 15; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/var/log/%d", i);
		assert_int_equal(supervisor_log_sink(f->s, path, 2, &err), 0);
	}
	assert_int_equal(supervisor_log_sink(f->s, "/var/log/b", 2, &err), -E2BIG);
	assert_non_null(strstr(err.text, "/var/log/b"));
	assert_int_equal(supervisor_log_sink(f->s, "/var/log/a", -1, &err), 0); /* makes room */
	assert_int_equal(supervisor_log_sink(f->s, "/var/log/b", 2, &err), 0);

	struct link_carried carried = {
		.cookie = 7, .destination = { .port = 80 }, .cluster = "c", .sent_bytes = 9, .reason = DROP_POLICY_DENY
	};
	assert_true(supervisor_carried(f->s, &carried));
	assert_true(hears(f, "carried 7 0 80 0 c  1 9\n"));
	carried = (struct link_carried){ .cookie = 8, .server = true, .upstream = { .port = 81 }, .peer = "p" };
	assert_true(supervisor_carried(f->s, &carried));
	assert_true(hears(f, "carried 8 1 0 81  p 0 0\n"));
	unsigned int taken = 0;
	for (int i = 0; i < 20000; i++)
		taken += supervisor_carried(f->s, &carried);
	assert_in_range(taken, 100, 15000); /* it has a limit, and the helper lives on */
	assert_true(hears(f, "carried 8 1 0 81  p 0 0\n"));
}

static void test_supervisor_deaf_helper_is_killed_when_queue_is_full(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	start(f, "deaf");
	for (int i = 0; i < 40000 && !status_of(f).protocol_errors; i++)
		supervisor_pod_set(f->s, COOKIE, f->workload, NULL, &err);
	assert_int_equal(status_of(f).protocol_errors, 1);
	assert_true(run_until(f, has_died, 5000));
}

static bool many_deaths(struct fixture *f)
{
	return f->died >= 4;
}

static void test_supervisor_crash_loop_backs_off(void **state)
{
	struct fixture *f = *state;
	uint64_t from = clock_now_ns();
	start(f, "crash");
	assert_true(run_until(f, many_deaths, 5000));
	/* At once, then after 100 and 200 ms: not earlier. */
	assert_true((clock_now_ns() - from) / 1000000 >= 300);
}

static void test_supervisor_missing_binary_says_so(void **state)
{
	struct fixture *f = *state;
	struct supervisor_options options = { .loop = f->loop,
					      .helper_path = "/nonexistent/weft-helper",
					      .run_dir = f->run_dir,
					      .uid = 65534,
					      .gid = 65534,
					      .node = "n" };
	struct supervisor_events events = { 0 };
	struct err err = ERR_INIT;
	assert_int_equal(supervisor_new(&options, &f->mesh, &events, &f->s, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/weft-helper"));
	options.uid = 0;
	assert_int_equal(supervisor_new(&options, &f->mesh, &events, &f->s, &err), -EINVAL);
}

static void test_process_find_other_start_time_is_another_process(void **state)
{
	struct fixture *f = *state;
	struct process self = { .pid = getpid(), .pidfd = -1 }, found[4];
	char path[128];
	struct err err = ERR_INIT;
	assert_int_equal(process_find(getpid(), 1, &found[0]), -ESRCH);
	/* A file of this process under a wrong time, then of a process that is none. */
	snprintf(path, sizeof(path), "%s/helper.pid", f->run_dir);
	self.start_ticks = 1;
	const struct process *list[] = { &self };
	assert_int_equal(process_file_write(path, list, 1, &err), 0);
	assert_int_equal(process_file_read(path, found, ARRAY_SIZE(found)), 0);
	assert_int_equal(process_file_read("/nonexistent", found, ARRAY_SIZE(found)), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--uid") == 0)
		return helper_main();
	const struct CMUnitTest tests[] = {
		T(test_supervisor_breach_kills_helper),
		T(test_supervisor_sockets_of_unknown_pod_refused),
		T(test_supervisor_csr_for_foreign_identity_refused),
		T(test_supervisor_csrs_of_own_identity_are_rate_limited),
		T(test_supervisor_result_of_unasked_endpoint_ignored),
		T(test_supervisor_log_flood_is_cut),
		T(test_supervisor_endpoints_followed_are_bounded),
		T(test_supervisor_targets_and_clusters_followed_are_bounded),
		T(test_supervisor_follows_targets_and_clusters),
		T(test_supervisor_tells_routes_once),
		T(test_supervisor_new_helper_gets_sinks_and_taps),
		T(test_supervisor_deaf_helper_is_killed_when_queue_is_full),
		T(test_supervisor_crash_loop_backs_off),
		T(test_supervisor_missing_binary_says_so),
		T(test_process_find_other_start_time_is_another_process),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
