/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/balance/fake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"

struct fake fake;

/* --- loop */

struct loop_timer {
	loop_timer_fn fn;
	void *arg;
	uint64_t due_ns, repeat_ns; /* due_ns 0: stopped */
	struct loop_timer *next;
};

static struct loop_timer *timers;
static struct {
	void (*fn)(void *arg);
	void *arg;
} deferred[256];
static size_t deferred_count;

uint64_t loop_now_ns(const struct loop *loop)
{
	(void)loop;
	return fake.now_ns;
}

uint64_t clock_now_ns(void)
{
	return 7; /* a fixed seed */
}

int loop_timer_new(struct loop *loop, loop_timer_fn fn, void *arg, struct loop_timer **out)
{
	(void)loop;
	struct loop_timer *t = calloc(1, sizeof(*t));
	assert_non_null(t);
	*t = (struct loop_timer){ .fn = fn, .arg = arg, .next = timers };
	timers = t;
	*out = t;
	return 0;
}

void loop_timer_start(struct loop_timer *t, uint64_t after_ms, uint64_t repeat_ms)
{
	t->due_ns = fake.now_ns + after_ms * 1000000;
	t->repeat_ns = repeat_ms * 1000000;
}

void loop_timer_stop(struct loop_timer *t)
{
	t->due_ns = 0;
}

void loop_timer_free(struct loop_timer *t)
{
	struct loop_timer **at = &timers;
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	free(t);
}

void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	(void)loop;
	assert_true(deferred_count < ARRAY_SIZE(deferred));
	deferred[deferred_count].fn = fn;
	deferred[deferred_count++].arg = arg;
}

void fake_turn(void)
{
	for (int turns = 0; deferred_count; turns++) {
		assert_true(turns < 100); /* it must come to rest */
		size_t n = deferred_count;
		__typeof__(deferred[0]) now[256];
		memcpy(now, deferred, n * sizeof(now[0]));
		deferred_count = 0;
		for (size_t i = 0; i < n; i++)
			now[i].fn(now[i].arg);
	}
}

void fake_advance_ms(uint64_t ms)
{
	uint64_t end_ns = fake.now_ns + ms * 1000000;
	for (;;) {
		struct loop_timer *first = NULL;
		for (struct loop_timer *t = timers; t; t = t->next)
			if (t->due_ns && t->due_ns <= end_ns && (!first || t->due_ns < first->due_ns))
				first = t;
		if (!first)
			break;
		if (first->due_ns > fake.now_ns)
			fake.now_ns = first->due_ns;
		first->due_ns = first->repeat_ns ? fake.now_ns + first->repeat_ns : 0;
		first->fn(first, first->arg);
		fake_turn();
	}
	fake.now_ns = end_ns;
}

/* --- worker */

struct cluster_watch {
	char name[256];
	worker_cluster_fn changed;
	void *arg;
	struct cluster_watch *next;
};

static struct cluster_watch *watches;
static struct table *clusters; /* name -> struct http_cluster, or &nothing */
static struct http_cluster nothing;

struct loop *worker_loop(struct worker *w)
{
	(void)w;
	return NULL;
}

const struct helper_settings *worker_settings(const struct worker *w)
{
	return &w->settings;
}

struct link_shard *worker_metrics(struct worker *w)
{
	return &w->shard;
}

void worker_drop(struct worker *w, const struct worker_drop *drop)
{
	(void)w;
	(void)drop;
}

struct worker_pod *worker_pod_ref(struct worker_pod *pod)
{
	pod->refs++;
	return pod;
}

void worker_pod_unref(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	assert_true(pod->refs > 1);
	pod->refs--;
}

struct cluster_watch *worker_cluster_watch(struct worker *w, const char *name, worker_cluster_fn changed, void *arg)
{
	(void)w;
	struct cluster_watch *watch = calloc(1, sizeof(*watch));
	assert_non_null(watch);
	snprintf(watch->name, sizeof(watch->name), "%s", name);
	watch->changed = changed;
	watch->arg = arg;
	watch->next = watches;
	watches = watch;
	fake.watches++;
	fake.watched++;
	struct http_cluster *c = table_get_str(clusters, name);
	if (c)
		changed(c == &nothing ? NULL : c, arg);
	return watch;
}

void worker_cluster_unwatch(struct cluster_watch *watch)
{
	struct cluster_watch **at = &watches;
	if (!watch)
		return;
	while (*at != watch)
		at = &(*at)->next;
	*at = watch->next;
	free(watch);
	fake.watches--;
}

struct worker_wait {
	worker_endpoint_fn fn;
	void *arg;
	bool over;
};

static struct worker_wait info_waits[16];
static size_t info_wait_count;

struct worker_wait *worker_endpoint_get(struct worker *w, const struct addr_port *endpoint, worker_endpoint_fn fn,
					void *arg)
{
	(void)w;
	(void)endpoint;
	fake.info_asked++;
	if (!fake.info_withheld) {
		fn(&fake.info, arg);
		return NULL;
	}
	assert_true(info_wait_count < ARRAY_SIZE(info_waits));
	info_waits[info_wait_count] = (struct worker_wait){ fn, arg, false };
	return &info_waits[info_wait_count++];
}

void worker_wait_cancel(struct worker_wait *wait)
{
	if (!wait)
		return;
	assert_false(wait->over);
	wait->over = true;
}

void fake_tell_info(const struct endpoint_info *info)
{
	fake.info_withheld = false;
	for (size_t i = 0; i < info_wait_count; i++) {
		if (info_waits[i].over)
			continue;
		info_waits[i].over = true;
		info_waits[i].fn(info, info_waits[i].arg);
	}
	info_wait_count = 0;
}

void fake_push(const char *name, struct http_cluster *c)
{
	struct http_cluster *old = table_get_str(clusters, name);
	assert_int_equal(table_set_str(clusters, name, c ? c : &nothing), 0);
	for (struct cluster_watch *w = watches, *next; w; w = next) {
		next = w->next;
		if (strcmp(w->name, name) == 0)
			w->changed(c, w->arg);
	}
	if (old && old != &nothing)
		http_cluster_unref(old);
}

struct http_cluster *fake_cluster(size_t n)
{
	struct http_cluster *c = http_cluster_new();
	assert_non_null(c);
	c->name = strdup("c");
	c->lb = CLUSTER_ROUND_ROBIN;
	c->endpoint_count = n;
	c->endpoints = calloc(n + 1, sizeof(*c->endpoints));
	assert_non_null(c->endpoints);
	for (size_t i = 0; i < n; i++) {
		char text[32];
		snprintf(text, sizeof(text), "10.0.0.%zu:80", i + 1);
		assert_int_equal(addr_port_parse(text, &c->endpoints[i].addr), 0);
		c->endpoints[i].weight = 1;
		c->endpoints[i].healthy = true;
	}
	return c;
}

void fake_push_c(struct http_cluster *c)
{
	if (c)
		http_cluster_seal(c);
	fake_push("c", c);
}

/* --- transport */

static size_t on_write(struct transport *t, const struct iovec *iov, int count)
{
	(void)t;
	size_t n = 0;
	for (int i = 0; i < count; i++)
		n += iov[i].iov_len;
	return n;
}

static const struct transport_ops transport_ops = { .write = on_write };

struct transport_connect *transport_connect(struct worker *w, struct worker_pod *pod,
					    const struct http_cluster *cluster, const struct cluster_endpoint *endpoint,
					    const char *alpn, const char *sni, transport_connect_fn fn, void *arg)
{
	(void)w;
	(void)cluster;
	struct transport_connect *c = calloc(1, sizeof(*c));
	assert_non_null(c);
	assert_true(fake.connect_count < FAKE_MAX);
	*c = (struct transport_connect){ .to = endpoint->addr, .pod = pod, .fn = fn, .arg = arg };
	snprintf(c->alpn, sizeof(c->alpn), "%s", alpn ? alpn : "");
	snprintf(c->sni, sizeof(c->sni), "%s", sni ? sni : "");
	c->hbone = endpoint->tunnel == ENDPOINT_HBONE;
	snprintf(c->identity, sizeof(c->identity), "%s", endpoint->identity_count ? endpoint->identities[0] : "");
	fake.connects[fake.connect_count++] = c;
	return c;
}

void transport_connect_cancel(struct transport_connect *c)
{
	if (!c)
		return;
	assert_false(c->over || c->cancelled);
	c->cancelled = true;
}

size_t fake_connecting(void)
{
	size_t n = 0;
	for (size_t i = 0; i < fake.connect_count; i++)
		n += !fake.connects[i]->over && !fake.connects[i]->cancelled;
	return n;
}

struct transport_connect *fake_connect_at(size_t at)
{
	for (size_t i = 0; i < fake.connect_count; i++)
		if (!fake.connects[i]->over && !fake.connects[i]->cancelled && at-- == 0)
			return fake.connects[i];
	fail_msg("no such connect");
	return NULL;
}

struct fake_conn *fake_connected(struct transport_connect *c)
{
	struct fake_conn *conn = calloc(1, sizeof(*conn));
	assert_non_null(conn);
	assert_true(fake.conn_count < FAKE_MAX);
	conn->t.ops = &transport_ops;
	conn->t.alpn = fake.alpn;
	conn->to = c->to;
	fake.conns[fake.conn_count++] = conn;
	c->over = true;
	c->fn(&conn->t, 0, c->arg);
	fake_turn();
	return conn;
}

void fake_refused(struct transport_connect *c, int error)
{
	c->over = true;
	c->fn(NULL, error, c->arg);
	fake_turn();
}

struct fake_conn *fake_connected_all(void)
{
	struct fake_conn *last = NULL;
	while (fake_connecting())
		last = fake_connected(fake_connect_at(0));
	return last;
}

size_t fake_open_conns(void)
{
	size_t n = 0;
	for (size_t i = 0; i < fake.conn_count; i++)
		n += !fake.conns[i]->closed;
	return n;
}

/* --- codecs */

static void on_stream_reset(struct http_stream *s, enum http_reset why)
{
	struct fake_stream *f = (struct fake_stream *)s;
	struct fake_conn *c = (struct fake_conn *)s->conn;
	(void)why;
	assert_true(f->open);
	f->open = false;
	c->live--;
	if (c->base.protocol == HTTP_PROTO_1)
		c->draining = true; /* the middle of a message */
	if (c->draining && !c->live)
		http_conn_close(&c->base);
	else
		c->base.events->on_capacity(&c->base, c->base.arg);
}

static const struct http_stream_ops stream_ops = { .reset = on_stream_reset };

static void conn_close(struct http_conn *base)
{
	struct fake_conn *c = (struct fake_conn *)base;
	assert_false(c->closed);
	c->closed = true;
	for (size_t i = 0; i < ARRAY_SIZE(c->streams); i++)
		if (c->streams[i].open) {
			c->streams[i].open = false;
			c->live--;
			c->streams[i].base.events->on_reset(&c->streams[i].base, HTTP_RESET_CLOSED);
		}
	base->events->on_closed(base, base->arg);
}

static void conn_drain(struct http_conn *base)
{
	struct fake_conn *c = (struct fake_conn *)base;
	assert_false(c->closed);
	c->draining = true;
	if (!c->live)
		conn_close(base);
}

static uint32_t conn_capacity(const struct http_conn *base)
{
	const struct fake_conn *c = (const struct fake_conn *)base;
	return c->closed || c->draining ? 0 : c->max - (uint32_t)c->live;
}

static size_t conn_streams(const struct http_conn *base)
{
	return ((const struct fake_conn *)base)->live;
}

static int conn_open(struct http_conn *base, const struct http_stream_events *events, void *user,
		     struct http_stream **out)
{
	struct fake_conn *c = (struct fake_conn *)base;
	assert_false(c->closed);
	if (!conn_capacity(base))
		return -EAGAIN;
	for (size_t i = 0; i < ARRAY_SIZE(c->streams); i++) {
		struct fake_stream *s = &c->streams[i];
		if (s->open)
			continue;
		*s = (struct fake_stream){ .base = { .ops = &stream_ops, .events = events, .user = user, .conn = base },
					   .open = true };
		c->live++;
		base->requests++;
		*out = &s->base;
		return 0;
	}
	return -EAGAIN;
}

static const struct http_conn_ops conn_ops = {
	.drain = conn_drain, .close = conn_close, .open = conn_open, .capacity = conn_capacity, .streams = conn_streams
};

static int client_new(struct transport *t, const struct http_limits *limits, const struct http_conn_events *events,
		      void *arg, enum http_protocol protocol, uint32_t max, struct http_conn **out)
{
	struct fake_conn *c = container_of(t, struct fake_conn, t);
	c->base = (struct http_conn){
		.ops = &conn_ops, .events = events, .arg = arg, .transport = t, .protocol = protocol
	};
	c->max = max;
	c->limits = *limits;
	*out = &c->base;
	return 0;
}

int http1_client_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
		     const struct http_conn_events *events, void *arg, struct http_conn **out)
{
	(void)loop;
	return client_new(t, limits, events, arg, HTTP_PROTO_1, 1, out);
}

int http2_client_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
		     const struct http_conn_events *events, void *arg, struct http_conn **out)
{
	(void)loop;
	return client_new(t, limits, events, arg, HTTP_PROTO_2, fake.h2_max, out);
}

void fake_stream_ends(struct http_stream *s)
{
	struct fake_stream *f = (struct fake_stream *)s;
	struct fake_conn *c = (struct fake_conn *)s->conn;
	assert_true(f->open);
	f->open = false;
	c->live--;
	c->base.events->on_capacity(&c->base, c->base.arg);
	if (c->draining && !c->live && !c->closed)
		conn_close(&c->base);
	fake_turn();
}

void fake_conn_breaks(struct http_conn *c)
{
	conn_close(c);
	fake_turn();
}

void fake_goaway(struct http_conn *base)
{
	struct fake_conn *c = (struct fake_conn *)base;
	c->draining = true;
	base->events->on_capacity(base, base->arg);
	if (!c->live)
		conn_close(base);
	fake_turn();
}

/* --- requests */

static size_t answers;

static void on_request_reset(struct http_stream *s, enum http_reset why)
{
	struct request *r = s->user;
	(void)why;
	r->resets++;
	if (r->up)
		request_done(fake.u, r, OUTCOME_RESET, 0);
}

static const struct http_stream_events request_events = { .on_reset = on_request_reset };

static void on_upstream(struct upstream *up, enum upstream_failure why, const struct cluster_endpoint *endpoint,
			void *arg)
{
	struct request *r = arg;
	r->answers++;
	r->order = ++answers;
	r->up = up;
	r->why = why;
	r->wait = NULL;
	if (endpoint)
		r->endpoint = endpoint->addr;
	assert_int_equal(up != NULL, why == UPSTREAM_OK);
}

void request_query(struct upstream_query *q)
{
	*q = (struct upstream_query){ .pod = &fake.pods[0], .cluster = "c", .host = "c.example" };
}

void request_start_on(struct upstreams *u, struct request *r, const struct upstream_query *q)
{
	*r = (struct request){ 0 };
	struct upstream_wait *wait = upstream_get(u, q, &request_events, r, on_upstream, r);
	if (!r->answers)
		r->wait = wait;
	else
		assert_null(wait);
}

void request_start_with(struct request *r, const struct upstream_query *q)
{
	request_start_on(fake.u, r, q);
}

void request_start(struct request *r)
{
	struct upstream_query q;
	request_query(&q);
	request_start_with(r, &q);
}

void request_done(struct upstreams *u, struct request *r, enum upstream_outcome outcome, uint16_t status)
{
	struct upstream *up = TAKE(r->up);
	assert_non_null(up);
	upstream_done(u, up, outcome, status, 1000000);
}

void request_end(struct request *r, uint16_t status)
{
	assert_non_null(r->up);
	fake_stream_ends(r->up->stream);
	request_done(fake.u, r, OUTCOME_RESPONSE, status);
	fake_turn();
}

unsigned int request_whole(uint16_t status)
{
	struct request r;
	request_start(&r);
	if (!r.answers)
		fake_connected_all();
	assert_int_equal(r.answers, 1);
	if (!r.up)
		return 0;
	request_end(&r, status);
	return r.endpoint.addr.b[15];
}

int fake_setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.now_ns = 1000000000000ull;
	fake.h2_max = 100;
	answers = 0;
	/* What a test that failed left behind. */
	timers = NULL;
	watches = NULL;
	deferred_count = 0;
	info_wait_count = 0;
	clusters = table_new(NULL);
	assert_non_null(clusters);
	for (size_t i = 0; i < 2; i++) {
		fake.pods[i] = (struct worker_pod){ .refs = 1, .cookie = i + 1, .uid = i ? "pod-b" : "pod-a" };
		fake.workers[i].settings.connect_timeout_ms = 10000;
	}
	return upstreams_new(&fake.workers[0], &fake.u);
}

int fake_teardown(void **state)
{
	(void)state;
	struct table_iter it = { 0 };
	upstreams_free(TAKE(fake.u));
	fake_turn();
	while (clusters && table_next(clusters, &it))
		if (it.value != &nothing) {
			assert_int_equal(((struct http_cluster *)it.value)->refs, 1);
			http_cluster_unref(it.value);
		}
	table_free(TAKE(clusters));
	assert_int_equal(fake_open_conns(), 0);
	assert_int_equal(fake_connecting(), 0);
	assert_int_equal(fake.watches, 0);
	for (size_t i = 0; i < fake.connect_count; i++)
		free(fake.connects[i]);
	for (size_t i = 0; i < fake.conn_count; i++)
		free(fake.conns[i]);
	fake.connect_count = fake.conn_count = 0;
	assert_int_equal(fake.pods[0].refs + fake.pods[1].refs, 2);
	assert_null(timers);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(fake.workers[i].shard.upstream_connections, 0);
		assert_int_equal(fake.workers[0].shard.outlier_ejected + fake.workers[1].shard.outlier_ejected, 0);
	}
	return 0;
}
