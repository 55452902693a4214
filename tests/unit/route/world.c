/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/route/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"
#include "agent/model/l7.h"
#include "agent/model/telemetry.h"

struct worker {
	struct link_shard metrics;
	struct world *world;
	struct loop *loop;
	struct worker_pod pod;
	struct http_proxy *proxy;
	struct http_cluster *cluster;
	worker_target_fn target_fn;
	void *target_arg;
	struct http_conn *dead[ATTEMPTS];
};

static struct world *the_world;

/* --- the worker --- */

struct loop *worker_loop(struct worker *w)
{
	return w->loop;
}

struct link_shard *worker_metrics(struct worker *w)
{
	return &w->metrics;
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

void worker_drop(struct worker *w, const struct worker_drop *drop)
{
	w->metrics.drops[drop->reason]++;
}

struct http_proxy *worker_http(struct worker *w)
{
	return w->proxy;
}

struct observe *worker_observe(struct worker *w)
{
	(void)w;
	return NULL;
}

static void target_answer(struct worker *w, const char *host, worker_target_fn fn, void *arg)
{
	struct world *world = w->world;
	if (world->no_target) {
		fn(NULL, arg);
		return;
	}
	struct l7_target *t = l7_target_new();
	t->mode = L7_HTTP;
	t->registry_only = world->registry_only;
	struct http_vhost *vhost = host && str_eq(host, "other") ? world->other :
				   world->registry_only		 ? NULL :
								   world->vhost;
	t->vhost = vhost ? http_vhost_ref(vhost) : NULL;
	fn(t, arg);
	l7_target_unref(t);
}

struct worker_wait *worker_target_get(struct worker *w, struct worker_pod *pod, const struct addr_port *original,
				      const char *host, worker_target_fn fn, void *arg)
{
	(void)pod;
	(void)original;
	str_copy(w->world->asked_host, sizeof(w->world->asked_host), host ? host : "-");
	if (w->world->target_later) {
		w->target_fn = fn;
		w->target_arg = arg;
		return (struct worker_wait *)w;
	}
	target_answer(w, host, fn, arg);
	return NULL;
}

void worker_wait_cancel(struct worker_wait *wait)
{
	if (wait)
		((struct worker *)wait)->target_fn = NULL;
}

/* --- observe --- */

void record_finish(struct observe *o, const struct request_record *r)
{
	(void)o;
	struct world *w = the_world;
	w->records++;
	w->flags = r->flags;
	w->status = r->status;
	w->tries = r->attempts;
	w->grpc_status = r->grpc_status;
	w->request_bytes = r->request_bytes;
	w->response_bytes = r->response_bytes;
	w->request_messages = r->grpc_request_messages;
	w->response_messages = r->grpc_response_messages;
	str_copy(w->details, sizeof(w->details), r->details);
	str_copy(w->failure, sizeof(w->failure), r->transport_failure ? r->transport_failure : "-");
	w->endpoint[0] = '\0';
	str_copy(w->cluster, sizeof(w->cluster), r->cluster ? r->cluster->name : "");
	if (r->endpoint)
		addr_port_text(&r->endpoint->addr, w->endpoint);
	assert_true(r->began_ns && r->start_ns && r->end_ns >= r->began_ns);
	assert_non_null(r->request);
}

void trace_begin(struct observe *o, struct request_record *r, struct http_head *head, const struct telemetry *t)
{
	(void)o;
	(void)t;
	if (!r->keep_request_id && !http_get_id(head, HTTP_X_REQUEST_ID).p)
		http_add_id(head, HTTP_X_REQUEST_ID, "new-id", 6);
}

void trace_inject(struct observe *o, const struct request_record *r, struct http_head *head)
{
	(void)o;
	(void)r;
	http_set_id(head, HTTP_TRACEPARENT, "traced", 6);
}

void record_format(const struct request_record *r, const char *format, struct sb *out)
{
	assert_non_null(r);
	sb_addf(out, "<%s>", format);
}

/* --- filters --- */

enum stage_result stage_authorize(struct exchange *x)
{
	return the_world->authorize ? the_world->authorize(x) : STAGE_CONTINUE;
}

bool authorize_holds(struct exchange *x)
{
	assert_int_equal(x->side, SIDE_SERVER);
	return !the_world->rules_forbid;
}

enum stage_result stage_jwt(struct exchange *x)
{
	return the_world->jwt ? the_world->jwt(x) : STAGE_CONTINUE;
}

/* --- endpoints --- */

struct upstreams {
	struct worker *w;
};

int upstreams_new(struct worker *w, struct upstreams **out)
{
	*out = calloc(1, sizeof(**out));
	(*out)->w = w;
	return 0;
}

void upstreams_free(struct upstreams *u)
{
	free(u);
}

void upstreams_drain(struct upstreams *u)
{
	(void)u;
}

void upstreams_pod_changed(struct upstreams *u, const struct worker_pod *pod)
{
	(void)u;
	(void)pod;
}

void upstreams_pod_removed(struct upstreams *u, struct worker_pod *pod)
{
	(void)u;
	(void)pod;
}

static void ignore_conn(struct http_conn *c, void *arg)
{
	(void)c;
	(void)arg;
}

static void on_upstream_closed(struct http_conn *c, void *arg)
{
	struct seen_attempt *a = arg;
	(void)c;
	a->conn = NULL;
}

static const struct http_conn_events upstream_conn_events = {
	.on_capacity = ignore_conn,
	.on_closed = on_upstream_closed,
};

static void attempt_give(struct world *w, struct seen_attempt *a, enum upstream_failure why)
{
	struct http_cluster *c = w->w->cluster;
	size_t n = (size_t)(a - w->attempts);
	a->pending = false;
	if (why != UPSTREAM_OK) {
		a->done = true;
		bool chosen = why == UPSTREAM_CONNECT || why == UPSTREAM_CONNECT_TIMEOUT;
		a->fn(NULL, why, chosen ? &c->endpoints[n % c->endpoint_count] : NULL, a->arg);
		return;
	}
	a->t = fake_transport_new();
	int rc = w->upstream_h2 ? http2_client_new(w->w->loop, &a->t->t, &http_limits_default, &upstream_conn_events, a,
						   &a->conn) :
				  http1_client_new(w->w->loop, &a->t->t, &http_limits_default, &upstream_conn_events, a,
						   &a->conn);
	assert_int_equal(rc, 0);
	a->up = (struct upstream){ .cluster = c, .endpoint = &c->endpoints[n % c->endpoint_count], .conn = a->conn };
	if (str_eq(a->cluster, "cookie"))
		str_copy(a->up.cookie, sizeof(a->up.cookie), "lb=1; Path=/");
	rc = http_client_open(a->conn, a->events, a->user, &a->up.stream);
	assert_int_equal(rc, 0);
	a->fn(&a->up, UPSTREAM_OK, a->up.endpoint, a->arg);
}

void world_attempt_ready(struct world *w, size_t attempt, enum upstream_failure why)
{
	assert_true(attempt < w->attempt_count && w->attempts[attempt].pending);
	attempt_give(w, &w->attempts[attempt], why);
}

struct upstream_wait *upstream_get(struct upstreams *u, const struct upstream_query *q,
				   const struct http_stream_events *events, void *user, upstream_fn fn, void *arg)
{
	struct world *w = u->w->world;
	assert_true(w->attempt_count < ATTEMPTS);
	size_t n = w->attempt_count++;
	struct seen_attempt *a = &w->attempts[n];
	*a = (struct seen_attempt){ .upgrade = q->upgrade,
				    .h2 = q->downstream_h2,
				    .avoid_count = q->avoid_count,
				    .skip = q->skip_priorities,
				    .pinned = q->pinned,
				    .source = q->source,
				    .fn = fn,
				    .arg = arg,
				    .events = events,
				    .user = user };
	str_copy(a->cluster, sizeof(a->cluster), q->cluster);
	str_copy(a->host, sizeof(a->host), q->host ? q->host : "-");
	assert_non_null(q->head);
	struct script s =
		w->script_count ? w->script[n < w->script_count ? n : w->script_count - 1] : (struct script){ 0 };
	if (s.later) {
		a->pending = true;
		return (struct upstream_wait *)a;
	}
	attempt_give(w, a, s.failure);
	return NULL;
}

const char *transport_failure(struct worker *w)
{
	(void)w;
	return "TLS_error: as the test says";
}

const struct http_cluster *upstream_cluster(struct upstreams *u, const char *name)
{
	return str_eq(name, "c") ? u->w->cluster : NULL;
}

struct caller *upstream_retry_begin(struct upstreams *u, struct worker_pod *pod, const char *cluster,
				    const struct upstream *up)
{
	struct world *w = u->w->world;
	assert_ptr_equal(pod, &w->w->pod);
	assert_non_null(cluster);
	if (up)
		assert_false(container_of(up, struct seen_attempt, up)->done);
	if (w->retries_over)
		return NULL;
	w->retry_leaves++;
	return (struct caller *)w;
}

void upstream_retry_end(struct caller *leave)
{
	struct world *w = (struct world *)leave;
	if (!w)
		return;
	assert_true(w->retry_leaves > 0);
	w->retry_leaves--;
}

void upstream_cancel(struct upstream_wait *wait)
{
	struct seen_attempt *a = (struct seen_attempt *)wait;
	if (!a)
		return;
	assert_true(a->pending);
	a->pending = false;
	a->done = true;
}

void upstream_done(struct upstreams *u, struct upstream *up, enum upstream_outcome outcome, uint16_t status,
		   uint64_t latency_ns)
{
	(void)u;
	(void)latency_ns;
	struct seen_attempt *a = container_of(up, struct seen_attempt, up);
	assert_false(a->done);
	a->done = true;
	a->outcome = outcome;
	a->status = status;
}

/* --- the pod's own application --- */

struct transport_connect {
	transport_connect_fn fn;
	void *arg;
	bool cancelled;
	struct world *w;
};

static void app_connected(void *arg)
{
	struct transport_connect *c = arg;
	struct world *w = c->w;
	if (!c->cancelled && w->app_error) {
		c->fn(NULL, w->app_error, c->arg);
	} else if (!c->cancelled) {
		assert_true(w->app_count < ARRAY_SIZE(w->app));
		struct fake_transport *t = w->app[w->app_count++] = fake_transport_new();
		c->fn(&t->t, 0, c->arg);
	}
	free(c);
}

struct transport_connect *transport_connect_local(struct worker *w, struct worker_pod *pod,
						  const struct addr_port *peer, const struct addr_port *local,
						  transport_connect_fn fn, void *arg)
{
	(void)pod;
	char text[ADDR_PORT_TEXT_MAX];
	assert_string_equal(addr_port_text(peer, text), "10.0.0.1:40000");
	assert_string_equal(addr_port_text(local, text), "10.0.0.2:80");
	struct transport_connect *c = calloc(1, sizeof(*c));
	*c = (struct transport_connect){ .fn = fn, .arg = arg, .w = w->world };
	loop_defer(w->loop, app_connected, c);
	return c;
}

void transport_connect_cancel(struct transport_connect *c)
{
	if (c)
		c->cancelled = true;
}

/* --- the world --- */

static struct http_cluster *cluster_new(void)
{
	struct http_cluster *c = http_cluster_new();
	c->name = strdup("c");
	c->endpoint_count = 3;
	c->endpoints = calloc(c->endpoint_count, sizeof(*c->endpoints));
	for (size_t i = 0; i < c->endpoint_count; i++) {
		char text[40];
		snprintf(text, sizeof(text), "10.1.0.%zu:8080", i + 1);
		addr_port_parse(text, &c->endpoints[i].addr);
		c->endpoints[i].weight = 1;
	}
	return c;
}

static void route_init(struct http_route *r, const char *name)
{
	r->name = strdup(name);
	r->destinations = calloc(1, sizeof(*r->destinations));
	r->destination_count = 1;
	r->destinations[0].cluster = strdup("c");
	r->destinations[0].weight = r->total_weight = 1;
}

struct http_route *world_add_route(struct world *w)
{
	struct http_vhost *v = w->vhost;
	assert_true(v->route_count < 4);
	memmove(&v->routes[1], &v->routes[0], v->route_count * sizeof(v->routes[0]));
	v->route_count++;
	memset(&v->routes[0], 0, sizeof(v->routes[0]));
	route_init(&v->routes[0], "added");
	w->route = &v->routes[1];
	return &v->routes[0];
}

struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));
	the_world = w;
	w->w = calloc(1, sizeof(*w->w));
	w->w->world = w;
	struct err err = ERR_INIT;
	assert_int_equal(loop_new(&w->w->loop, &err), 0);
	w->w->pod = (struct worker_pod){ .refs = 1, .ns = (char *)"shop", .name = (char *)"pod", .max_connections = 8 };
	assert_int_equal(identity_parse("spiffe://cluster.local/ns/shop/sa/me", &w->w->pod.identity, &err), 0);
	w->w->cluster = cluster_new();
	w->vhost = http_vhost_new();
	w->vhost->name = strdup("shop:80");
	w->vhost->host = strdup("shop");
	w->vhost->include_attempt_count = true;
	w->vhost->routes = calloc(4, sizeof(*w->vhost->routes));
	w->vhost->route_count = 1;
	w->route = w->vhost->routes;
	route_init(w->route, "r");
	assert_int_equal(http_proxy_new(w->w, &w->proxy), 0);
	w->w->proxy = w->proxy;
	return w;
}

static void connect_with(struct world *w, bool inbound, struct identity *peer, enum http_protocol protocol)
{
	w->client = fake_transport_new();
	addr_port_parse("10.0.0.1:40000", &w->client->t.remote);
	addr_port_parse("10.0.0.2:80", &w->client->t.local);
	w->client->t.peer = peer;
	if (inbound)
		http_proxy_inbound(w->proxy, &w->w->pod, &w->client->t, protocol);
	else
		http_proxy_outbound(w->proxy, &w->w->pod, &w->client->t, protocol, &w->client->t.local, w->vhost);
}

void world_connect(struct world *w)
{
	struct err err = ERR_INIT;
	if (!w->vhost->id)
		assert_int_equal(http_vhost_seal(w->vhost, &err), 0);
	connect_with(w, false, NULL, HTTP_PROTO_1);
}

void world_connect_inbound(struct world *w, const char *peer)
{
	struct identity *identity = NULL;
	struct err err = ERR_INIT;
	if (peer)
		assert_int_equal(identity_parse(peer, &identity, &err), 0);
	connect_with(w, true, identity, HTTP_PROTO_1);
	identity_unref(identity);
}

void world_connect_h2(struct world *w, bool inbound)
{
	struct err err = ERR_INIT;
	assert_int_equal(http_vhost_seal(w->vhost, &err), 0);
	connect_with(w, inbound, NULL, HTTP_PROTO_2);
}

struct worker_pod *worker_pod_of(struct world *w)
{
	return &w->w->pod;
}

void world_tick(struct world *w, unsigned int ms)
{
	fake_tick(w->w->loop, ms);
}

void world_send(struct world *w, const char *text)
{
	fake_push_text(w->client, text);
	world_tick(w, 0);
}

const char *world_received(struct world *w)
{
	world_tick(w, 0);
	return w->client->out;
}

void world_answer(struct world *w, size_t attempt, const char *text)
{
	assert_true(attempt < w->attempt_count && w->attempts[attempt].t);
	fake_push_text(w->attempts[attempt].t, text);
	world_tick(w, 0);
}

const char *world_request(struct world *w, size_t attempt)
{
	world_tick(w, 0);
	assert_true(attempt < w->attempt_count);
	return w->attempts[attempt].t ? w->attempts[attempt].t->out : "";
}

void world_priority(struct world *w, size_t endpoint, uint8_t priority)
{
	w->w->cluster->endpoints[endpoint].priority = priority;
}

void world_retry(struct world *w, const char *on, uint32_t attempts)
{
	struct err err = ERR_INIT;
	assert_int_equal(http_retry_on_parse(on, &w->route->retry, &err), 0);
	w->route->retry.attempts = attempts;
	w->route->retry.other_hosts = true;
}

void world_free(struct world *w)
{
	http_proxy_free(w->proxy);
	world_tick(w, 0);
	for (size_t i = 0; i < w->attempt_count; i++) {
		struct seen_attempt *a = &w->attempts[i];
		assert_true(a->done);
		if (a->conn)
			http_conn_close(a->conn);
	}
	world_tick(w, 0);
	for (size_t i = 0; i < w->attempt_count; i++)
		fake_transport_free(w->attempts[i].t);
	for (size_t i = 0; i < w->app_count; i++)
		fake_transport_free(w->app[i]);
	fake_transport_free(w->client);
	assert_int_equal(w->records, w->w->metrics.http_requests);
	assert_int_equal(w->retry_leaves, 0);
	assert_int_equal(w->w->metrics.http_connections, 0);
	assert_int_equal(w->w->pod.refs, 1);
	assert_int_equal(w->w->pod.connections, 0);
	http_vhost_unref(w->vhost);
	http_vhost_unref(w->other);
	http_cluster_unref(w->w->cluster);
	identity_unref(w->w->pod.identity);
	loop_free(w->w->loop);
	http_heads_trim();
	free(w->w);
	free(w);
}
