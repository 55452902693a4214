/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/model/identity.h"
#include "agent/model/workload.h"
#include "tests/unit/worker/worker_fixture.h"

enum { COOKIE = 9 };

static const int no_listeners[POD_LISTENERS] = { -1, -1, -1, -1, -1, -1, -1 };

static int setup(void **state)
{
	*state = worker_fixture_new();
	return 0;
}

static int teardown(void **state)
{
	worker_fixture_free(*state);
	return 0;
}

static struct worker_pod *pod_of(struct worker_fixture *f)
{
	uint64_t cookie = COOKIE;
	struct pod_entry *entry = table_get(f->w->pods, &cookie, sizeof(cookie));
	return entry ? &entry->pod : NULL;
}

static int dial(uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

/* --- listeners --- */

static bool got_inbound(struct worker_fixture *f)
{
	return f->inbound > 0;
}

static void test_worker_hbone_listener_hands_connection_over(void **state)
{
	struct worker_fixture *f = *state;
	int fds[POD_LISTENERS];
	uint16_t port;
	memcpy(fds, no_listeners, sizeof(fds));
	fds[POD_LISTEN_HBONE] = worker_fixture_listen(&port);
	worker_fixture_pod(f, COOKIE, fds);
	int client = dial(port);
	assert_true(worker_fixture_until(f, got_inbound));
	assert_ptr_equal(f->seen.pod, pod_of(f));
	assert_int_equal(f->seen.b.port, port);
	assert_true(fcntl(f->seen.fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(f->seen.fd, F_GETFD) & FD_CLOEXEC);
	close(client);
}

static void test_worker_pod_without_certificate_waits_in_queue(void **state)
{
	struct worker_fixture *f = *state;
	int fds[POD_LISTENERS];
	uint16_t port;
	memcpy(fds, no_listeners, sizeof(fds));
	fds[POD_LISTEN_HBONE] = worker_fixture_listen(&port);
	f->no_certificate = true;
	worker_fixture_pod(f, COOKIE, fds);
	int client = dial(port);
	for (int i = 0; i < 5; i++)
		worker_fixture_run(f);
	assert_int_equal(f->inbound, 0);
	worker_pods_credentialed(f->w, "spiffe://cluster.local/ns/other/sa/web"); /* another's */
	worker_fixture_run(f);
	assert_int_equal(f->inbound, 0);
	worker_pods_credentialed(f->w, "spiffe://cluster.local/ns/shop/sa/web");
	assert_true(worker_fixture_until(f, got_inbound));
	close(client);
}

static void test_worker_pod_without_certificate_does_not_wait_for_ever(void **state)
{
	struct worker_fixture *f = *state;
	int fds[POD_LISTENERS];
	uint16_t port;
	memcpy(fds, no_listeners, sizeof(fds));
	fds[POD_LISTEN_HBONE] = worker_fixture_listen(&port);
	f->no_certificate = true;
	worker_fixture_pod(f, COOKIE, fds);
	int client = dial(port);
	loop_timer_start(f->w->arm_timer, 1, 0); /* its time is over */
	assert_true(worker_fixture_until(f, got_inbound));
	close(client);
}

static bool dropped_unknown(struct worker_fixture *f)
{
	return worker_fixture_count(f, REPORT_DROPPED, NULL) > 0;
}

static void test_worker_outbound_without_note_is_refused(void **state)
{
	struct worker_fixture *f = *state;
	int fds[POD_LISTENERS];
	const struct report *report = NULL;
	uint16_t port;
	memcpy(fds, no_listeners, sizeof(fds));
	fds[POD_LISTEN_OUTBOUND] = worker_fixture_listen(&port);
	worker_fixture_pod(f, COOKIE, fds);
	int client = dial(port); /* nothing captured it, so getsockname() is the listener's own address */
	assert_true(worker_fixture_until(f, dropped_unknown));
	worker_fixture_count(f, REPORT_DROPPED, &report);
	assert_int_equal(report->reason, DROP_UNKNOWN_DESTINATION);
	assert_int_equal(f->shard.drops[DROP_UNKNOWN_DESTINATION], 1);
	assert_int_equal(f->outbound, 0);
	char byte;
	assert_true(read(client, &byte, 1) <= 0);
	close(client);
}

static bool refused_not_ready(struct worker_fixture *f)
{
	return f->shard.drops[DROP_NOT_READY] > 0;
}

static bool asked_for_caller(struct worker_fixture *f)
{
	return worker_fixture_count(f, REPORT_ENDPOINT_QUERY, NULL) > 0;
}

/* The pod has no policy yet, so nobody comes in. */
static void test_worker_inbound_listeners_are_served(void **state)
{
	struct worker_fixture *f = *state;
	int fds[POD_LISTENERS];
	uint16_t attested, anonymous;
	char byte;
	memcpy(fds, no_listeners, sizeof(fds));
	fds[POD_LISTEN_ATTESTED] = worker_fixture_listen(&attested);
	fds[POD_LISTEN_ANONYMOUS] = worker_fixture_listen(&anonymous);
	worker_fixture_pod(f, COOKIE, fds);
	int client = dial(anonymous);
	assert_true(worker_fixture_until(f, refused_not_ready));
	worker_fixture_run(f);
	assert_int_equal(recv(client, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNRESET);
	close(client);
	assert_false(asked_for_caller(f));

	client = dial(attested);
	assert_true(worker_fixture_until(f, asked_for_caller));
	const struct report *query;
	worker_fixture_count(f, REPORT_ENDPOINT_QUERY, &query);
	assert_true(addr_is_loopback(&query->destination.addr));
	assert_int_equal(query->destination.port, 0); /* the workload, whatever its port */
	assert_int_equal(pod_of(f)->connections, 1);
	close(client);
	worker_pod_remove(f->w, COOKIE);
}

static void test_worker_pod_removed_closes_listener(void **state)
{
	struct worker_fixture *f = *state;
	int fds[POD_LISTENERS];
	uint16_t port;
	memcpy(fds, no_listeners, sizeof(fds));
	fds[POD_LISTEN_HBONE] = worker_fixture_listen(&port);
	worker_fixture_pod(f, COOKIE, fds);
	struct order *order = order_new(ORDER_POD_REMOVE, 0);
	order->cookie = COOKIE;
	worker_handle(f->w, order);
	worker_fixture_run(f);
	assert_int_equal(f->removals, 1);
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
}

static void test_worker_pod_kept_by_reference_outlives_removal(void **state)
{
	struct worker_fixture *f = *state;
	worker_fixture_pod(f, COOKIE, no_listeners);
	struct worker_pod *pod = worker_pod_ref(pod_of(f));
	struct order *order = order_new(ORDER_POD_REMOVE, 0);
	order->cookie = COOKIE;
	worker_handle(f->w, order);
	assert_true(pod->removed);
	assert_string_equal(pod->uid, "shop/web");
	worker_pod_unref(f->w, pod);
}

static void test_worker_pod_set_again_keeps_listener_and_tells_policy(void **state)
{
	struct worker_fixture *f = *state;
	int fds[POD_LISTENERS];
	uint16_t port;
	memcpy(fds, no_listeners, sizeof(fds));
	fds[POD_LISTEN_HBONE] = worker_fixture_listen(&port);
	worker_fixture_pod(f, COOKIE, fds);
	struct worker_pod *pod = pod_of(f);
	worker_fixture_pod(f, COOKIE, NULL);
	assert_ptr_equal(pod_of(f), pod);
	assert_int_equal(f->policy_changes, 0); /* it is the same */
	int client = dial(port);
	assert_true(worker_fixture_until(f, got_inbound));
	close(client);
}

/* Metrics keep what they made of a pod's description by this number. */
static void test_worker_pod_set_with_other_labels_has_another_labels_id(void **state)
{
	struct worker_fixture *f = *state;
	worker_fixture_pod(f, COOKIE, no_listeners);
	uint64_t before = pod_of(f)->labels_id;
	worker_fixture_pod(f, COOKIE, NULL);
	assert_true(pod_of(f)->labels_id == before);

	struct order *order = order_new(ORDER_POD, 0);
	struct pod_spec *spec = order->spec = calloc(1, sizeof(*spec));
	spec->refs = 1;
	spec->cookie = COOKIE;
	spec->uid = strdup("shop/web");
	spec->ns = strdup("shop");
	spec->name = strdup("web");
	spec->identity = identity_new("cluster.local", "shop", "web");
	spec->labels = calloc(1, sizeof(*spec->labels));
	spec->label_count = 1;
	spec->labels[0] = (struct label){ strdup("version"), strdup("v2") };
	worker_handle(f->w, order);
	assert_false(pod_of(f)->labels_id == before);
}

/* --- limits --- */

static void test_worker_admit_stops_at_its_share(void **state)
{
	struct worker_fixture *f = *state;
	worker_fixture_pod(f, COOKIE, no_listeners);
	struct worker_pod *pod = pod_of(f);
	for (int i = 0; i < 4; i++) /* 7 by two workers, rounded up */
		assert_true(worker_pod_admit(f->w, pod));
	assert_false(worker_pod_admit(f->w, pod));
	worker_pod_leave(f->w, pod);
	assert_true(worker_pod_admit(f->w, pod));
}

static void pod_at(struct worker_fixture *f, uint64_t cookie, const char *addr)
{
	worker_fixture_pod(f, cookie, no_listeners);
	struct pod_entry *entry = table_get(f->w->pods, &cookie, sizeof(cookie));
	entry->spec->addrs = calloc(1, sizeof(struct addr));
	entry->spec->addr_count = 1;
	assert_int_equal(addr_parse(addr, entry->spec->addrs), 0);
	entry->pod.addrs = entry->spec->addrs;
	entry->pod.addr_count = 1;
}

static void test_worker_pod_by_addr_knows_only_who_has_it_alone(void **state)
{
	struct worker_fixture *f = *state;
	struct addr addr, other;
	assert_int_equal(addr_parse("10.1.0.9", &addr), 0);
	assert_int_equal(addr_parse("10.1.0.8", &other), 0);
	pod_at(f, COOKIE, "10.1.0.9");
	pod_at(f, COOKIE + 1, "10.1.0.8");
	assert_ptr_equal(worker_pod_by_addr(f->w, &addr), pod_of(f));
	pod_at(f, COOKIE + 2, "10.1.0.9"); /* on the host's address there may be several */
	assert_null(worker_pod_by_addr(f->w, &addr));
	worker_pod_remove(f->w, COOKIE + 2);
	assert_non_null(worker_pod_by_addr(f->w, &addr));
	assert_int_equal(addr_parse("10.1.0.7", &addr), 0);
	assert_null(worker_pod_by_addr(f->w, &addr));
	worker_listeners_close(f->w); /* a new helper serves them */
	assert_null(worker_pod_by_addr(f->w, &other));
}

static void test_worker_pod_by_addr_waits_for_the_certificate(void **state)
{
	struct worker_fixture *f = *state;
	struct addr addr;
	assert_int_equal(addr_parse("10.1.0.9", &addr), 0);
	f->no_certificate = true;
	pod_at(f, COOKIE, "10.1.0.9");
	assert_null(worker_pod_by_addr(f->w, &addr));
	worker_pods_credentialed(f->w, "spiffe://cluster.local/ns/shop/sa/web");
	assert_ptr_equal(worker_pod_by_addr(f->w, &addr), pod_of(f));
}

static void test_worker_drop_reports_are_limited_counts_are_not(void **state)
{
	struct worker_fixture *f = *state;
	struct worker_drop drop = { .reason = DROP_TLS_HANDSHAKE, .peer = "spiffe://x", .rule = "r" };
	const struct report *report = NULL;
	for (int i = 0; i < 1000; i++)
		worker_drop(f->w, &drop);
	worker_fixture_run(f);
	assert_int_equal(f->shard.drops[DROP_TLS_HANDSHAKE], 1000);
	size_t reported = worker_fixture_count(f, REPORT_DROPPED, &report);
	assert_true(reported >= 100 && reported <= 300);
	assert_string_equal(report->text, "spiffe://x");
	assert_string_equal(report->rule, "r");
}

/* --- sockets --- */

struct taken {
	int calls, fd;
};

static void on_socket(int fd, void *arg)
{
	struct taken *t = arg;
	t->calls++;
	t->fd = fd;
}

static void give_sockets(struct worker_fixture *f, enum pod_socket kind, size_t count)
{
	struct order *order = order_new(ORDER_SOCKETS, count);
	order->cookie = COOKIE;
	order->socket = kind;
	for (size_t i = 0; i < count; i++)
		order->fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	worker_handle(f->w, order);
}

static size_t wanted(struct worker_fixture *f, enum pod_socket kind)
{
	size_t n = 0;
	for (size_t i = 0; i < f->report_count; i++)
		if (f->reports[i]->kind == REPORT_SOCKETS_WANTED && f->reports[i]->socket == kind)
			n++;
	return n;
}

static void test_worker_new_pod_asks_for_sockets_ahead(void **state)
{
	struct worker_fixture *f = *state;
	worker_fixture_pod(f, COOKIE, no_listeners);
	worker_fixture_run(f);
	assert_int_equal(wanted(f, POD_CONNECT_REMOTE), 1);
	assert_int_equal(wanted(f, POD_CONNECT_LOCAL), 1);
	assert_int_equal(wanted(f, POD_UDP_REMOTE), 0); /* only when a name is asked for */
}

static void test_worker_socket_take_from_pool_calls_back_at_once(void **state)
{
	struct worker_fixture *f = *state;
	struct taken t = { 0 };
	worker_fixture_pod(f, COOKIE, no_listeners);
	give_sockets(f, POD_CONNECT_REMOTE, 16);
	worker_fixture_run(f);
	worker_fixture_forget(f);
	for (int i = 0; i < 8; i++) {
		assert_null(worker_socket_take(f->w, pod_of(f), POD_CONNECT_REMOTE, on_socket, &t));
		assert_int_equal(t.calls, i + 1);
		assert_true(t.fd >= 0);
		close(t.fd);
	}
	worker_fixture_run(f);
	assert_int_equal(wanted(f, POD_CONNECT_REMOTE), 0); /* eight are left */
	worker_socket_take(f->w, pod_of(f), POD_CONNECT_REMOTE, on_socket, &t);
	close(t.fd);
	worker_socket_take(f->w, pod_of(f), POD_CONNECT_REMOTE, on_socket, &t);
	close(t.fd);
	worker_fixture_run(f);
	assert_int_equal(wanted(f, POD_CONNECT_REMOTE), 1); /* one request at a time */
}

static void test_worker_socket_take_from_empty_pool_waits(void **state)
{
	struct worker_fixture *f = *state;
	struct taken t = { 0 }, cancelled = { 0 };
	worker_fixture_pod(f, COOKIE, no_listeners);
	struct worker_wait *first = worker_socket_take(f->w, pod_of(f), POD_CONNECT_LOCAL, on_socket, &cancelled);
	assert_non_null(first);
	assert_non_null(worker_socket_take(f->w, pod_of(f), POD_CONNECT_LOCAL, on_socket, &t));
	worker_wait_cancel(first);
	give_sockets(f, POD_CONNECT_LOCAL, 2);
	assert_int_equal(cancelled.calls, 0);
	assert_int_equal(t.calls, 1);
	assert_true(t.fd >= 0);
	close(t.fd);
}

static void test_worker_socket_refused_fails_waits(void **state)
{
	struct worker_fixture *f = *state;
	struct taken t = { 0 };
	worker_fixture_pod(f, COOKIE, no_listeners);
	worker_socket_take(f->w, pod_of(f), POD_CONNECT_LOCAL, on_socket, &t);
	give_sockets(f, POD_CONNECT_LOCAL, 0);
	assert_int_equal(t.calls, 1);
	assert_int_equal(t.fd, -EIO);
}

static void test_worker_socket_pod_removed_fails_waits(void **state)
{
	struct worker_fixture *f = *state;
	struct taken t = { 0 };
	worker_fixture_pod(f, COOKIE, no_listeners);
	worker_socket_take(f->w, pod_of(f), POD_CONNECT_LOCAL, on_socket, &t);
	struct order *order = order_new(ORDER_POD_REMOVE, 0);
	order->cookie = COOKIE;
	worker_handle(f->w, order);
	assert_int_equal(t.calls, 1);
	assert_true(t.fd < 0);
}

static void test_worker_socket_alone_serves_what_is_left(void **state)
{
	struct worker_fixture *f = *state;
	struct taken t = { 0 }, waiting = { 0 };
	worker_fixture_pod(f, COOKIE, no_listeners);
	give_sockets(f, POD_CONNECT_REMOTE, 1);
	worker_socket_take(f->w, pod_of(f), POD_CONNECT_LOCAL, on_socket, &waiting);
	worker_handle(f->w, order_new(ORDER_ALONE, 0));
	assert_true(waiting.calls == 1 && waiting.fd < 0);
	worker_socket_take(f->w, pod_of(f), POD_CONNECT_REMOTE, on_socket, &t);
	assert_true(t.fd >= 0);
	close(t.fd);
	worker_socket_take(f->w, pod_of(f), POD_CONNECT_REMOTE, on_socket, &t);
	assert_int_equal(t.calls, 2);
	assert_int_equal(t.fd, -ENOTCONN); /* at once, not after a timeout */
}

static struct taken timed;

static bool timed_out(struct worker_fixture *f)
{
	(void)f;
	return timed.calls > 0;
}

static void test_worker_socket_without_answer_times_out(void **state)
{
	struct worker_fixture *f = *state;
	timed = (struct taken){ 0 };
	worker_fixture_pod(f, COOKIE, no_listeners);
	struct worker_wait *wait = worker_socket_take(f->w, pod_of(f), POD_CONNECT_LOCAL, on_socket, &timed);
	/* Two seconds have passed, as far as it knows. */
	assert_true(wait->deadline_ns > loop_now_ns(f->w->loop) + 1900000000ull);
	wait->deadline_ns = 0;
	struct worker_wait *later = worker_socket_take(f->w, pod_of(f), POD_CONNECT_LOCAL, on_socket, &timed);
	worker_wait_cancel(later);
	loop_timer_start(f->w->wait_timer, 1, 0);
	assert_true(worker_fixture_until(f, timed_out));
	assert_int_equal(timed.fd, -ETIMEDOUT);
}

/* --- endpoints --- */

struct answered {
	int calls;
	bool some, hbone;
};

static void on_endpoint(const struct endpoint_info *info, void *arg)
{
	struct answered *a = arg;
	a->calls++;
	a->some = info != NULL;
	a->hbone = info && info->hbone;
}

static struct addr_port endpoint_at(uint16_t port)
{
	struct addr_port at = { .port = port };
	assert_int_equal(addr_parse("10.0.0.9", &at.addr), 0);
	return at;
}

static void give_endpoint(struct worker_fixture *f, uint16_t port, bool hbone)
{
	struct order *order = order_new(ORDER_ENDPOINT, 0);
	order->endpoint = calloc(1, sizeof(*order->endpoint));
	order->endpoint->refs = 1;
	order->endpoint->info = (struct endpoint_info){ .endpoint = endpoint_at(port), .known = true, .hbone = hbone };
	worker_handle(f->w, order);
}

static void test_worker_endpoint_is_asked_once_and_pushed_after(void **state)
{
	struct worker_fixture *f = *state;
	struct answered a = { 0 };
	struct addr_port at = endpoint_at(80);
	assert_non_null(worker_endpoint_get(f->w, &at, on_endpoint, &a));
	assert_non_null(worker_endpoint_get(f->w, &at, on_endpoint, &a));
	worker_fixture_run(f);
	assert_int_equal(worker_fixture_count(f, REPORT_ENDPOINT_QUERY, NULL), 1);
	give_endpoint(f, 80, true);
	assert_int_equal(a.calls, 2);
	assert_true(a.some && a.hbone);
	give_endpoint(f, 80, false); /* it changed */
	assert_null(worker_endpoint_get(f->w, &at, on_endpoint, &a));
	assert_int_equal(a.calls, 3);
	assert_false(a.hbone);
	give_endpoint(f, 81, true); /* nobody asked */
	worker_fixture_run(f);
	assert_int_equal(worker_fixture_count(f, REPORT_ENDPOINT_QUERY, NULL), 1);
}

static size_t results(struct worker_fixture *f)
{
	worker_fixture_run(f);
	size_t count = worker_fixture_count(f, REPORT_ENDPOINT_RESULT, NULL);
	worker_fixture_forget(f);
	return count;
}

static void test_worker_endpoint_success_is_reported_after_failures_only(void **state)
{
	struct worker_fixture *f = *state;
	struct answered a = { 0 };
	struct addr_port at = endpoint_at(80);
	worker_endpoint_get(f->w, &at, on_endpoint, &a);
	give_endpoint(f, 80, true);
	worker_endpoint_result(f->w, &at, true); /* what was before is not known */
	assert_int_equal(results(f), 1);
	worker_endpoint_result(f->w, &at, true);
	assert_int_equal(results(f), 0);
	worker_endpoint_result(f->w, &at, false);
	worker_endpoint_result(f->w, &at, false);
	assert_int_equal(results(f), 2);
	worker_endpoint_result(f->w, &at, true);
	worker_endpoint_result(f->w, &at, true);
	assert_int_equal(results(f), 1);
}

static void test_worker_endpoints_beyond_limit_forget_least_used(void **state)
{
	struct worker_fixture *f = *state;
	struct answered a = { 0 };
	const struct report *report = NULL;
	for (uint32_t i = 0; i < 4097; i++) { /* 8192 by two workers */
		struct addr_port at = endpoint_at((uint16_t)(1000 + i));
		worker_wait_cancel(worker_endpoint_get(f->w, &at, on_endpoint, &a));
		if (i % 400 == 0 || i == 4095) {
			worker_fixture_run(f);
			worker_fixture_forget(f);
		}
	}
	worker_fixture_run(f);
	assert_int_equal(worker_fixture_count(f, REPORT_ENDPOINT_FORGET, &report), 1);
	assert_int_equal(report->destination.port, 1000);
	assert_int_equal(table_count(f->w->endpoints), 4096);
}

static void test_worker_endpoint_alone_answers_only_what_it_knows(void **state)
{
	struct worker_fixture *f = *state;
	struct answered waiting = { 0 }, a = { 0 };
	struct addr_port known = endpoint_at(80), other = endpoint_at(81);
	worker_wait_cancel(worker_endpoint_get(f->w, &known, on_endpoint, &a));
	give_endpoint(f, 80, true);
	worker_handle(f->w, order_new(ORDER_ALONE, 0));
	worker_endpoint_get(f->w, &known, on_endpoint, &a);
	assert_true(a.calls == 1 && a.some);
	/* Another worker may know it: the link thread is asked, and knows no better. */
	worker_endpoint_get(f->w, &other, on_endpoint, &waiting);
	worker_fixture_run(f);
	assert_int_equal(worker_fixture_count(f, REPORT_ENDPOINT_QUERY, NULL), 2);
	struct order *order = order_new(ORDER_ENDPOINT, 0);
	order->endpoint = calloc(1, sizeof(*order->endpoint));
	*order->endpoint = (struct endpoint_shared){ .refs = 1, .absent = true, .info.endpoint = other };
	worker_handle(f->w, order);
	assert_true(waiting.calls == 1 && !waiting.some);
}

/* --- draining --- */

static bool has_drained(struct worker_fixture *f)
{
	return f->drains > 0 && worker_fixture_count(f, REPORT_LIVE, NULL) > 0;
}

static void test_worker_drain_accepts_what_waits_then_closes(void **state)
{
	struct worker_fixture *f = *state;
	int fds[POD_LISTENERS];
	uint16_t port;
	memcpy(fds, no_listeners, sizeof(fds));
	fds[POD_LISTEN_HBONE] = worker_fixture_listen(&port);
	worker_fixture_pod(f, COOKIE, fds);
	int client = dial(port);
	worker_handle(f->w, order_new(ORDER_DRAIN, 0));
	assert_true(worker_fixture_until(f, got_inbound));
	assert_int_equal(f->drains, 0);
	loop_timer_start(f->w->drain_timer, 1, 0); /* its time is over */
	assert_true(worker_fixture_until(f, has_drained));
	assert_true(f->w->closed);
	assert_true(close(client) == 0);
}

static void test_worker_dump_answers_with_its_array(void **state)
{
	struct worker_fixture *f = *state;
	const struct report *report = NULL;
	struct order *order = order_new(ORDER_DUMP, 0);
	order->id = 4;
	order->text = strdup("pools");
	worker_handle(f->w, order);
	worker_fixture_run(f);
	assert_int_equal(worker_fixture_count(f, REPORT_DUMP, &report), 1);
	assert_int_equal(report->id, 4);
	assert_string_equal(report->text, "[\"pools\"]");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_worker_hbone_listener_hands_connection_over),
		T(test_worker_pod_without_certificate_waits_in_queue),
		T(test_worker_pod_without_certificate_does_not_wait_for_ever),
		T(test_worker_outbound_without_note_is_refused),
		T(test_worker_inbound_listeners_are_served),
		T(test_worker_pod_removed_closes_listener),
		T(test_worker_pod_kept_by_reference_outlives_removal),
		T(test_worker_pod_set_again_keeps_listener_and_tells_policy),
		T(test_worker_pod_set_with_other_labels_has_another_labels_id),
		T(test_worker_admit_stops_at_its_share),
		T(test_worker_drop_reports_are_limited_counts_are_not),
		T(test_worker_pod_by_addr_knows_only_who_has_it_alone),
		T(test_worker_pod_by_addr_waits_for_the_certificate),
		T(test_worker_new_pod_asks_for_sockets_ahead),
		T(test_worker_socket_take_from_pool_calls_back_at_once),
		T(test_worker_socket_take_from_empty_pool_waits),
		T(test_worker_socket_refused_fails_waits),
		T(test_worker_socket_pod_removed_fails_waits),
		T(test_worker_socket_alone_serves_what_is_left),
		T(test_worker_socket_without_answer_times_out),
		T(test_worker_endpoint_is_asked_once_and_pushed_after),
		T(test_worker_endpoint_success_is_reported_after_failures_only),
		T(test_worker_endpoints_beyond_limit_forget_least_used),
		T(test_worker_endpoint_alone_answers_only_what_it_knows),
		T(test_worker_drain_accepts_what_waits_then_closes),
		T(test_worker_dump_answers_with_its_array),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
