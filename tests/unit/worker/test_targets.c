/* SPDX-License-Identifier: Apache-2.0 */
/* What calls above L4 mean: the worker's cache and the hub behind it. The reports that a worker makes are carried to a hub
 * put together by hand, whose agent is the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/helper/helper_internal.h"
#include "agent/link/channel.h"
#include "agent/model/cluster.h"
#include "agent/model/l7.h"
#include "tests/unit/worker/worker_fixture.h"

enum { COOKIE = 7 };

struct fixture {
	struct worker_fixture *f;
	struct helper h;
	int agent;
	size_t carried; /* reports that the hub has seen */
	struct worker_pod *pod;
	Weft__Link__ToAgent *heard; /* what the agent heard last */
};

static void on_message(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *arg)
{
	(void)bytes;
	(void)len;
	(void)fds;
	(void)fd_count;
	(void)arg;
}

static void on_closed(const struct err *err, void *arg)
{
	(void)err;
	(void)arg;
}

static struct worker_pod *pod_of(struct worker_fixture *f, uint64_t cookie)
{
	struct pod_entry *entry = table_get(f->w->pods, &cookie, sizeof(cookie));
	return entry ? &entry->pod : NULL;
}

static int setup(void **state)
{
	struct fixture *t = calloc(1, sizeof(*t));
	int pair[2];
	t->f = worker_fixture_new();
	assert_int_equal(channel_pair(pair, NULL), 0);
	t->agent = pair[1];
	t->h.loop = t->f->link_loop;
	t->h.worker_count = 2;
	t->h.workers[0] = t->h.workers[1] = t->f->w;
	assert_int_equal(channel_new(t->h.loop, pair[0], on_message, on_closed, t, &t->h.channel), 0);
	t->h.targets = target_hub_new(&t->h);
	worker_fixture_pod(t->f, COOKIE, NULL);
	t->pod = pod_of(t->f, COOKIE);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *t = *state;
	target_hub_free(t->h.targets);
	channel_free(t->h.channel);
	close(t->agent);
	worker_fixture_free(t->f);
	if (t->heard)
		weft__link__to_agent__free_unpacked(t->heard, NULL);
	free(t);
	return 0;
}

/* Carries the worker's reports to the hub, and the hub's orders to the worker. */
static void run(struct fixture *t)
{
	for (int i = 0; i < 3; i++) {
		worker_fixture_run(t->f);
		for (; t->carried < t->f->report_count; t->carried++) {
			const struct report *r = t->f->reports[t->carried];
			if (r->kind >= REPORT_TARGET_QUERY && r->kind <= REPORT_CLUSTER_FORGET)
				target_hub_on_report(t->h.targets, r);
		}
	}
}

static size_t reports(struct fixture *t, enum report_kind kind)
{
	return worker_fixture_count(t->f, kind, NULL);
}

/* The next message that the agent gets, in t->heard; MSG__NOT_SET when there is none. */
static Weft__Link__ToAgent__MsgCase hears(struct fixture *t)
{
	uint8_t bytes[4096];
	run(t);
	if (t->heard)
		weft__link__to_agent__free_unpacked(t->heard, NULL);
	t->heard = NULL;
	ssize_t n = recv(t->agent, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (n <= 0)
		return WEFT__LINK__TO_AGENT__MSG__NOT_SET;
	t->heard = weft__link__to_agent__unpack(NULL, (size_t)n, bytes);
	assert_non_null(t->heard);
	return t->heard->msg_case;
}

static bool hears_nothing(struct fixture *t)
{
	return hears(t) == WEFT__LINK__TO_AGENT__MSG__NOT_SET;
}

static struct addr_port at(uint16_t port)
{
	struct addr_port a = { .port = port };
	assert_int_equal(addr_parse("10.0.0.9", &a.addr), 0);
	return a;
}

static struct l7_target *target_named(const char *service)
{
	struct l7_target *target = l7_target_new();
	target->mode = L7_HTTP;
	target->service = strdup(service);
	l7_target_seal(target);
	return target;
}

static void agent_says(struct fixture *t, uint16_t port, const char *host, enum news what, const char *service)
{
	struct addr_port a = at(port);
	target_hub_target(t->h.targets, COOKIE, &a, host, what, service ? target_named(service) : NULL);
	run(t);
}

struct answer {
	int some, none;
	char service[64];
};

static void on_target(struct l7_target *target, void *arg)
{
	struct answer *a = arg;
	if (!target) {
		a->none++;
		return;
	}
	a->some++;
	str_copy(a->service, sizeof(a->service), target->service);
}

static struct worker_wait *ask(struct fixture *t, uint16_t port, const char *host, struct answer *a)
{
	struct addr_port original = at(port);
	return worker_target_get(t->f->w, t->pod, &original, host, on_target, a);
}

/* --- targets --- */

static void test_target_is_asked_once_and_kept(void **state)
{
	struct fixture *t = *state;
	struct answer a = { 0 }, b = { 0 };
	assert_non_null(ask(t, 80, NULL, &a));
	assert_non_null(ask(t, 80, NULL, &b));
	assert_int_equal(hears(t), WEFT__LINK__TO_AGENT__MSG_TARGET_QUERY);
	assert_int_equal(t->heard->target_query->cookie, COOKIE);
	assert_int_equal(t->heard->target_query->original->port, 80);
	assert_string_equal(t->heard->target_query->host, "");
	assert_true(hears_nothing(t));
	agent_says(t, 80, "", NEWS_OBJECT, "one");
	assert_int_equal(a.some + b.some, 2);
	assert_null(ask(t, 80, NULL, &a)); /* at once */
	assert_int_equal(a.some, 2);
	assert_true(hears_nothing(t));
}

static void test_target_change_is_seen_by_the_next(void **state)
{
	struct fixture *t = *state;
	struct answer a = { 0 };
	ask(t, 80, NULL, &a);
	run(t);
	agent_says(t, 80, "", NEWS_OBJECT, "one");
	agent_says(t, 80, "", NEWS_OBJECT, "two");
	assert_int_equal(a.some, 1); /* a call is answered once */
	ask(t, 80, NULL, &a);
	assert_string_equal(a.service, "two");
	agent_says(t, 80, "", NEWS_NONE, NULL);
	ask(t, 80, NULL, &a);
	assert_int_equal(a.none, 1);
}

static void test_host_without_difference_leads_to_the_address(void **state)
{
	struct fixture *t = *state;
	struct answer a = { 0 }, b = { 0 };
	ask(t, 80, "Other.Example", &a);
	assert_int_equal(hears(t), WEFT__LINK__TO_AGENT__MSG_TARGET_QUERY);
	assert_string_equal(t->heard->target_query->host, "other.example");
	agent_says(t, 80, "other.example", NEWS_OWN, NULL);
	/* Now the address itself has to be asked about. */
	assert_int_equal(a.some + a.none, 0);
	assert_int_equal(hears(t), WEFT__LINK__TO_AGENT__MSG_TARGET_QUERY);
	assert_string_equal(t->heard->target_query->host, "");
	agent_says(t, 80, "", NEWS_OBJECT, "own");
	assert_int_equal(a.some, 1);
	assert_string_equal(a.service, "own");
	/* Both are known from now on. */
	ask(t, 80, "other.example", &b);
	assert_int_equal(b.some, 1);
	assert_true(hears_nothing(t));
	/* And when the host comes to mean something, it does. */
	agent_says(t, 80, "other.example", NEWS_OBJECT, "other");
	ask(t, 80, "other.example", &b);
	assert_string_equal(b.service, "other");
	ask(t, 80, NULL, &b);
	assert_string_equal(b.service, "own");
}

static void test_host_that_is_none_is_the_address(void **state)
{
	struct fixture *t = *state;
	struct answer a = { 0 };
	char longer[400];
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	ask(t, 80, longer, &a);
	ask(t, 80, "a b", &a);
	ask(t, 80, "", &a);
	assert_int_equal(hears(t), WEFT__LINK__TO_AGENT__MSG_TARGET_QUERY);
	assert_string_equal(t->heard->target_query->host, "");
	assert_true(hears_nothing(t));
}

static void test_many_hosts_cost_the_oldest_and_then_their_rate(void **state)
{
	struct fixture *t = *state;
	struct answer a = { 0 };
	size_t forgotten = 0, queries = 0;
	ask(t, 80, NULL, &a);
	run(t);
	agent_says(t, 80, "", NEWS_OBJECT, "own");
	for (int i = 0; i < 2000; i++) {
		char host[32];
		snprintf(host, sizeof(host), "h%d.example", i);
		ask(t, 80, host, &a);
		if (i % 50 == 0) {
			run(t);
			queries += reports(t, REPORT_TARGET_QUERY);
			forgotten += reports(t, REPORT_TARGET_FORGET);
			worker_fixture_forget(t->f);
			t->carried = 0;
			while (recv(t->agent, (uint8_t[1024]){ 0 }, 1024, MSG_DONTWAIT) > 0)
				;
		}
	}
	run(t);
	queries += reports(t, REPORT_TARGET_QUERY);
	forgotten += reports(t, REPORT_TARGET_FORGET);
	assert_in_range(queries, 500, 1000); /* a burst and a little: not all */
	assert_true(forgotten > 300);
	assert_true(t->f->w->target_count < 200);
	assert_true(a.none > 1000);
	/* The address itself is as it was. */
	struct answer own = { 0 };
	assert_null(ask(t, 80, NULL, &own));
	assert_int_equal(own.some, 1);
}

static void test_cancelled_wait_is_not_called(void **state)
{
	struct fixture *t = *state;
	struct answer a = { 0 };
	worker_wait_cancel(ask(t, 80, NULL, &a));
	run(t);
	agent_says(t, 80, "", NEWS_OBJECT, "one");
	assert_int_equal(a.some + a.none, 0);
}

static void test_pod_removed_forgets_and_answers_who_waits(void **state)
{
	struct fixture *t = *state;
	struct answer known = { 0 }, waiting = { 0 }, late = { 0 };
	ask(t, 80, NULL, &known);
	run(t);
	agent_says(t, 80, "", NEWS_OBJECT, "one");
	ask(t, 81, "x", &waiting);
	worker_pod_ref(t->pod);
	worker_pod_remove(t->f->w, COOKIE);
	assert_int_equal(waiting.none, 1);
	run(t);
	assert_int_equal(reports(t, REPORT_TARGET_FORGET), 2);
	assert_int_equal(t->f->w->target_count, 0);
	ask(t, 80, NULL, &late);
	assert_int_equal(late.none, 1);
	worker_pod_unref(t->f->w, t->pod);
}

static void test_without_agent_what_is_known_holds_and_the_rest_fails(void **state)
{
	struct fixture *t = *state;
	struct answer known = { 0 }, waiting = { 0 }, later = { 0 };
	ask(t, 80, NULL, &known);
	run(t);
	agent_says(t, 80, "", NEWS_OBJECT, "one");
	ask(t, 81, NULL, &waiting);
	run(t);
	channel_free(t->h.channel);
	t->h.channel = NULL;
	t->h.alone = true;
	target_hub_alone(t->h.targets);
	run(t);
	assert_int_equal(waiting.none, 1);
	ask(t, 80, NULL, &known);
	assert_int_equal(known.some, 2);
	ask(t, 82, NULL, &later);
	run(t);
	assert_int_equal(later.none, 1);
}

static void agent_goes(struct fixture *t)
{
	channel_free(TAKE(t->h.channel));
	close(t->agent);
	worker_handle(t->f->w, order_new(ORDER_AWAY, 0));
	run(t);
}

static void agent_comes(struct fixture *t)
{
	int pair[2];
	assert_int_equal(channel_pair(pair, NULL), 0);
	t->agent = pair[1];
	assert_int_equal(channel_new(t->h.loop, pair[0], on_message, on_closed, t, &t->h.channel), 0);
	worker_handle(t->f->w, order_new(ORDER_BACK, 0));
	target_hub_back(t->h.targets);
	run(t);
}

static void test_next_agent_is_asked_what_the_last_left_open_and_then_the_rest(void **state)
{
	struct fixture *t = *state;
	struct answer known = { 0 }, waiting = { 0 };
	ask(t, 80, NULL, &known);
	run(t);
	agent_says(t, 80, "", NEWS_OBJECT, "one");
	agent_goes(t);
	ask(t, 80, NULL, &known);
	ask(t, 81, NULL, &waiting);
	run(t);
	assert_int_equal(known.some, 2);
	assert_int_equal(waiting.some + waiting.none, 0);
	agent_comes(t);
	assert_int_equal(hears(t), WEFT__LINK__TO_AGENT__MSG_TARGET_QUERY);
	assert_int_equal(t->heard->target_query->original->port, 81);
	agent_says(t, 81, "", NEWS_OBJECT, "two");
	assert_int_equal(waiting.some, 1);
	for (int i = 0; i < 1000 && hears(t) != WEFT__LINK__TO_AGENT__MSG_TARGET_QUERY; i++)
		;
	assert_non_null(t->heard);
	assert_int_equal(t->heard->target_query->original->port, 80);
	agent_says(t, 80, "", NEWS_OBJECT, "three");
	ask(t, 80, NULL, &known);
	assert_int_equal(known.some, 3);
	assert_string_equal(known.service, "three");
}

static void test_questions_have_no_time_limit_while_an_agent_may_come(void **state)
{
	struct fixture *t = *state;
	struct worker *w = t->f->w;
	uint64_t now = loop_now_ns(w->loop);
	assert_int_equal(worker_deadline(w, now + 5), now + 5);
	worker_handle(w, order_new(ORDER_AWAY, 0));
	assert_true(worker_deadline(w, now + 5) == UINT64_MAX);
	worker_handle(w, order_new(ORDER_BACK, 0));
	assert_in_range(worker_deadline(w, now + 5) - now, WAIT_TIMEOUT_MS * 1000000ull,
			(WAIT_TIMEOUT_MS + 1000) * 1000000ull);
	worker_handle(w, order_new(ORDER_AWAY, 0));
	worker_handle(w, order_new(ORDER_ALONE, 0));
	uint64_t late = now + 10 * WAIT_TIMEOUT_MS * 1000000ull;
	assert_int_equal(worker_deadline(w, late), late);
}

/* --- clusters --- */

struct watcher {
	struct worker *w;
	struct cluster_watch *watch;
	int calls;
	uint32_t last; /* max_requests; 0: none */
	bool end_at_once, watch_another;
	struct watcher *other;
};

static void on_cluster(struct http_cluster *cluster, void *arg)
{
	struct watcher *watcher = arg;
	watcher->calls++;
	watcher->last = cluster ? cluster->max_requests : 0;
	if (watcher->end_at_once) {
		worker_cluster_unwatch(watcher->watch);
		watcher->watch = NULL;
	}
	if (watcher->other) {
		struct watcher *other = watcher->other;
		watcher->other = NULL;
		if (other->watch)
			worker_cluster_unwatch(other->watch);
		other->watch = watcher->watch_another ? worker_cluster_watch(watcher->w, "c", on_cluster, other) : NULL;
	}
}

static void watch(struct fixture *t, struct watcher *watcher, const char *name)
{
	watcher->w = t->f->w;
	watcher->watch = worker_cluster_watch(t->f->w, name, on_cluster, watcher);
	assert_non_null(watcher->watch);
}

static void agent_says_cluster(struct fixture *t, const char *name, uint32_t max_requests)
{
	struct http_cluster *c = NULL;
	if (max_requests) {
		c = http_cluster_new();
		c->name = strdup(name);
		c->max_requests = max_requests;
		http_cluster_seal(c);
	}
	target_hub_cluster(t->h.targets, name, c ? NEWS_OBJECT : NEWS_NONE, c);
	run(t);
}

static void test_cluster_is_asked_once_and_followed(void **state)
{
	struct fixture *t = *state;
	struct watcher a = { 0 }, b = { 0 };
	watch(t, &a, "c");
	watch(t, &b, "c");
	assert_int_equal(hears(t), WEFT__LINK__TO_AGENT__MSG_CLUSTER_QUERY);
	assert_string_equal(t->heard->cluster_query->name, "c");
	assert_true(hears_nothing(t));
	assert_int_equal(a.calls, 0);
	agent_says_cluster(t, "c", 5);
	assert_int_equal(a.last, 5);
	assert_int_equal(b.last, 5);
	agent_says_cluster(t, "c", 6);
	assert_int_equal(a.last, 6);
	agent_says_cluster(t, "c", 0);
	assert_int_equal(b.last, 0);
	assert_int_equal(b.calls, 3);
	worker_cluster_unwatch(a.watch);
	agent_says_cluster(t, "c", 7);
	assert_int_equal(a.calls, 3);
	assert_int_equal(b.last, 7);
	worker_cluster_unwatch(b.watch);
	/* Kept for a while: known at once. */
	watch(t, &a, "c");
	assert_int_equal(a.calls, 4);
	assert_int_equal(a.last, 7);
	assert_true(hears_nothing(t));
	worker_cluster_unwatch(a.watch);
}

static void test_cluster_callbacks_may_end_and_make_watches(void **state)
{
	struct fixture *t = *state;
	struct watcher a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
	watch(t, &a, "c");
	watch(t, &b, "c");
	watch(t, &c, "c");
	a.end_at_once = true;
	b.other = &c; /* ends that of the next */
	a.other = &d;
	a.watch_another = true;
	run(t);
	agent_says_cluster(t, "c", 5);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 1);
	assert_int_equal(c.calls, 0);
	assert_int_equal(d.calls, 1); /* when it began to watch, and not again */
	agent_says_cluster(t, "c", 6);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 2);
	assert_int_equal(d.calls, 2);
	b.end_at_once = d.end_at_once = true;
	agent_says_cluster(t, "c", 7);
	assert_null(b.watch);
	assert_null(d.watch);
}

static void test_cluster_without_agent(void **state)
{
	struct fixture *t = *state;
	struct watcher known = { 0 }, waiting = { 0 }, later = { 0 };
	watch(t, &known, "c");
	run(t);
	agent_says_cluster(t, "c", 5);
	watch(t, &waiting, "d");
	run(t);
	channel_free(t->h.channel);
	t->h.channel = NULL;
	t->h.alone = true;
	target_hub_alone(t->h.targets);
	run(t);
	assert_int_equal(waiting.calls, 1);
	assert_int_equal(waiting.last, 0);
	watch(t, &later, "e");
	run(t);
	assert_int_equal(later.calls, 1);
	worker_cluster_unwatch(later.watch);
	watch(t, &later, "e"); /* as before: fails at once */
	run(t);
	assert_int_equal(later.calls, 2);
	assert_int_equal(known.calls, 1);
	worker_cluster_unwatch(known.watch);
	worker_cluster_unwatch(waiting.watch);
	worker_cluster_unwatch(later.watch);
}

static void test_dynamic_clusters_have_their_limit(void **state)
{
	struct fixture *t = *state;
	struct watcher *all = calloc(700, sizeof(*all)), fixed = { 0 };
	int refused = 0;
	for (int i = 0; i < 700; i++) {
		char name[64];
		snprintf(name, sizeof(name), "outbound|443||*.example.com|h%d.example.com", i);
		watch(t, &all[i], name);
		refused += all[i].calls; /* told at once that there is none */
		if (i % 100 == 0) {
			worker_fixture_run(t->f);
			worker_fixture_forget(t->f);
		}
	}
	assert_in_range(refused, 100, 190);
	watch(t, &fixed, "outbound|80||a.example.com");
	assert_int_equal(fixed.calls, 0);
	for (int i = 0; i < 700; i++)
		worker_cluster_unwatch(all[i].watch);
	worker_cluster_unwatch(fixed.watch);
	free(all);
}

static void test_cluster_name_that_is_none_is_not_asked_for(void **state)
{
	struct fixture *t = *state;
	struct watcher a = { 0 };
	char longer[2000];
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	const char *const names[] = { "", "a b", "a\n", longer };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		watch(t, &a, names[i]);
		assert_int_equal(a.calls, i + 1);
		worker_cluster_unwatch(a.watch);
	}
	assert_true(hears_nothing(t));
}

/* --- the hub --- */

static void hub_report(struct fixture *t, enum report_kind kind, unsigned int worker, const char *text)
{
	struct report r = { .kind = kind, .worker = worker, .cookie = COOKIE, .destination = at(80) };
	r.text = strdup(text);
	target_hub_on_report(t->h.targets, &r);
	free(r.text);
}

static void test_hub_forgets_when_last_worker_has(void **state)
{
	struct fixture *t = *state;
	hub_report(t, REPORT_TARGET_QUERY, 0, "");
	hub_report(t, REPORT_TARGET_QUERY, 1, "");
	hub_report(t, REPORT_CLUSTER_QUERY, 0, "c");
	hub_report(t, REPORT_CLUSTER_QUERY, 1, "c");
	while (!hears_nothing(t))
		;
	hub_report(t, REPORT_TARGET_FORGET, 0, "");
	hub_report(t, REPORT_CLUSTER_FORGET, 0, "c");
	assert_true(hears_nothing(t));
	hub_report(t, REPORT_TARGET_FORGET, 1, "");
	assert_int_equal(hears(t), WEFT__LINK__TO_AGENT__MSG_TARGET_FORGET);
	hub_report(t, REPORT_CLUSTER_FORGET, 1, "c");
	assert_int_equal(hears(t), WEFT__LINK__TO_AGENT__MSG_CLUSTER_FORGET);
	assert_true(hears_nothing(t));
	agent_says(t, 80, "", NEWS_OBJECT, "late"); /* crossed on the way: nobody's any more */
	agent_says_cluster(t, "c", 5);
}

static void test_hub_second_worker_is_answered_without_agent(void **state)
{
	struct fixture *t = *state;
	hub_report(t, REPORT_CLUSTER_QUERY, 0, "c");
	assert_int_equal(hears(t), WEFT__LINK__TO_AGENT__MSG_CLUSTER_QUERY);
	agent_says_cluster(t, "c", 5);
	struct watcher a = { 0 };
	watch(t, &a, "c");
	assert_true(hears_nothing(t));
	assert_int_equal(a.last, 5);
	worker_cluster_unwatch(a.watch);
}

/* --- routes are shared --- */

static struct http_vhost *routes_named(const char *name)
{
	struct http_vhost *v = http_vhost_new();
	v->name = strdup(name);
	assert_int_equal(http_vhost_seal(v, NULL), 0);
	return v;
}

static int decode(struct fixture *t, uint64_t vhost, struct l7_target **out)
{
	Weft__Link__TargetAnswer m = WEFT__LINK__TARGET_ANSWER__INIT;
	Weft__Link__L7Target target = WEFT__LINK__L7_TARGET__INIT;
	m.target = &target;
	m.vhost = vhost;
	return target_hub_decode(t->h.targets, &m, out);
}

static void test_hub_targets_share_routes_that_were_told(void **state)
{
	struct fixture *t = *state;
	struct l7_target *a, *b, *none, *other;
	assert_int_equal(decode(t, 5, &a), -EINVAL); /* not told */
	target_hub_vhost(t->h.targets, 5, routes_named("five"));
	target_hub_vhost(t->h.targets, 6, routes_named("six"));
	assert_int_equal(decode(t, 5, &a), 0);
	assert_int_equal(decode(t, 5, &b), 0);
	assert_int_equal(decode(t, 6, &other), 0);
	assert_int_equal(decode(t, 0, &none), 0);
	assert_ptr_equal(a->vhost, b->vhost);
	assert_string_equal(a->vhost->name, "five");
	assert_ptr_not_equal(a->vhost, other->vhost);
	assert_null(none->vhost);
	assert_int_not_equal(a->id, other->id);
	assert_int_not_equal(a->id, none->id);
	target_hub_vhost_forget(t->h.targets, 5);
	assert_int_equal(decode(t, 5, &none), -EINVAL);
	assert_int_equal(a->vhost->refs, 2); /* who has it keeps it */
	l7_target_unref(a);
	l7_target_unref(b);
	l7_target_unref(none);
	l7_target_unref(other);
}

/* --- what is told of requests --- */

static void test_spans_wait_for_the_link_thread_and_no_longer(void **state)
{
	struct fixture *t = *state;
	struct worker *w = t->f->w;
	const uint8_t batch[100] = { 7 };
	for (int i = 0; i < 100; i++)
		worker_spans(w, batch, sizeof(batch), 3);
	assert_int_equal(w->shard->spans_dropped, 36 * 3);
	worker_fixture_run(t->f);
	const struct report *last = NULL;
	assert_int_equal(worker_fixture_count(t->f, REPORT_SPANS, &last), 64);
	assert_int_equal(last->len, sizeof(batch));
	assert_int_equal(last->count, 3);
	assert_int_equal(last->text[0], 7);
	w->spans_pending = 0; /* the link thread has seen them */
	uint8_t *longer = calloc(1, 200 << 10);
	worker_spans(w, longer, 200 << 10, 1);
	worker_spans(w, longer, 100 << 10, 1);
	free(longer);
	assert_int_equal(w->shard->spans_dropped, 36 * 3 + 1);
	w->away = true;
	worker_spans(w, batch, sizeof(batch), 5);
	assert_int_equal(w->shard->spans_dropped, 36 * 3 + 1 + 5);
}

static void test_taps_have_their_rate(void **state)
{
	struct fixture *t = *state;
	struct worker *w = t->f->w;
	const struct worker_tap *taps;
	uint32_t before, after, id[] = { 5, 6, 7, 8, 9 };
	assert_int_equal(worker_taps(w, &taps, &before), 0);
	for (size_t i = 0; i < ARRAY_SIZE(id); i++) {
		struct order *order = order_new(ORDER_TAP, 0);
		order->id = id[i];
		order->count = 10;
		order->text = str_format("filter %u", id[i]);
		worker_handle(w, order);
	}
	assert_int_equal(worker_taps(w, &taps, &after), WORKER_TAPS_MAX);
	assert_int_not_equal(before, after);
	assert_string_equal(taps[0].filter, "filter 5");
	int allowed = 0;
	for (int i = 0; i < 100; i++)
		allowed += worker_tap_allows(w, 6);
	assert_in_range(allowed, 10, 11);
	assert_int_equal(w->shard->taps_dropped, 100 - allowed);
	assert_false(worker_tap_allows(w, 9)); /* there was no place for it */
	worker_tap_set(w, 5, NULL, 0);
	assert_int_equal(worker_taps(w, &taps, &before), WORKER_TAPS_MAX - 1);
	assert_int_not_equal(before, after);
	for (size_t i = 0; i < WORKER_TAPS_MAX - 1; i++)
		assert_true(taps[i].id != 5);
	worker_tap_record(w, 6, strdup("{}"));
	run(t);
	assert_int_equal(reports(t, REPORT_TAP), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_target_is_asked_once_and_kept),
		T(test_target_change_is_seen_by_the_next),
		T(test_host_without_difference_leads_to_the_address),
		T(test_host_that_is_none_is_the_address),
		T(test_many_hosts_cost_the_oldest_and_then_their_rate),
		T(test_cancelled_wait_is_not_called),
		T(test_pod_removed_forgets_and_answers_who_waits),
		T(test_without_agent_what_is_known_holds_and_the_rest_fails),
		T(test_cluster_is_asked_once_and_followed),
		T(test_cluster_callbacks_may_end_and_make_watches),
		T(test_next_agent_is_asked_what_the_last_left_open_and_then_the_rest),
		T(test_questions_have_no_time_limit_while_an_agent_may_come),
		T(test_cluster_without_agent),
		T(test_dynamic_clusters_have_their_limit),
		T(test_cluster_name_that_is_none_is_not_asked_for),
		T(test_hub_forgets_when_last_worker_has),
		T(test_hub_second_worker_is_answered_without_agent),
		T(test_hub_targets_share_routes_that_were_told),
		T(test_spans_wait_for_the_link_thread_and_no_longer),
		T(test_taps_have_their_rate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
