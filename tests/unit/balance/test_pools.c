/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "tests/unit/balance/fake.h"

static void test_a_connection_is_made_once_and_used_again(void **state)
{
	(void)state;
	struct request r;
	fake_push_c(fake_cluster(1));
	request_start(&r);
	assert_int_equal(r.answers, 0);
	assert_int_equal(fake_connecting(), 1);
	assert_string_equal(fake_connect_at(0)->alpn, "http/1.1");
	fake_connected_all();
	assert_int_equal(r.answers, 1);
	assert_ptr_equal(r.up->conn, &fake.conns[0]->base);
	assert_int_equal(upstreams_live(fake.u), 1);
	request_end(&r, 200);
	assert_int_equal(upstreams_live(fake.u), 0);

	request_start(&r); /* at once */
	assert_int_equal(r.answers, 1);
	assert_int_equal(r.up->conn->requests, 2);
	request_end(&r, 200);
	assert_int_equal(fake.conn_count, 1);
	assert_int_equal(fake.workers[0].shard.upstream_connections, 1);
}

static void test_the_connection_used_last_is_used_next(void **state)
{
	(void)state;
	struct request a, b;
	fake_push_c(fake_cluster(1));
	request_start(&a);
	request_start(&b);
	assert_int_equal(fake_connecting(), 2);
	fake_connected_all();
	request_end(&b, 200);
	struct http_conn *last = a.up->conn;
	request_end(&a, 200);
	request_start(&b);
	assert_ptr_equal(b.up->conn, last);
	request_end(&b, 200);
}

static void test_max_connections_and_pending_limit_each_pod(void **state)
{
	(void)state;
	struct request r[4], other;
	struct upstream_query q;
	struct http_cluster *c = fake_cluster(1);
	c->tcp.max_connections = 1;
	c->max_pending = 2;
	fake_push_c(c);
	request_start(&r[0]);
	request_start(&r[1]);
	request_start(&r[2]);
	assert_int_equal(fake_connecting(), 1);
	assert_int_equal(r[2].why, UPSTREAM_OVERFLOW);
	fake_connected_all();
	assert_int_equal(r[0].answers, 1);
	assert_int_equal(r[1].answers, 0);
	request_start(&r[2]); /* there is a place to wait again */
	assert_int_equal(r[2].answers, 0);
	request_start(&r[3]);
	assert_int_equal(r[3].why, UPSTREAM_OVERFLOW);
	assert_int_equal(fake.workers[0].shard.upstream_overflows, 2);

	request_query(&q); /* the limits are not of all pods together */
	q.pod = &fake.pods[1];
	request_start_with(&other, &q);
	assert_int_equal(fake_connecting(), 1);
	assert_ptr_equal(fake_connect_at(0)->pod, &fake.pods[1]);
	fake_connected_all();
	request_end(&other, 200);

	request_end(&r[0], 200); /* in the order in which they came */
	assert_int_equal(r[1].answers, 1);
	assert_int_equal(r[2].answers, 0);
	request_end(&r[1], 200);
	request_end(&r[2], 200);
	assert_int_equal(fake.conn_count, 2);
}

static void test_limits_are_of_all_workers(void **state)
{
	(void)state;
	struct upstreams *second;
	struct request a, b;
	struct upstream_query q;
	assert_int_equal(upstreams_new(&fake.workers[1], &second), 0);
	struct http_cluster *c = fake_cluster(1);
	c->max_requests = 1;
	fake_push_c(c);
	request_query(&q);
	request_start(&a);
	fake_connected_all();
	request_start_on(second, &b, &q);
	fake_connected_all();
	assert_int_equal(b.why, UPSTREAM_OVERFLOW);
	request_end(&a, 200);
	request_start_on(second, &b, &q);
	assert_non_null(b.up);
	request_start(&a);
	assert_int_equal(a.why, UPSTREAM_OVERFLOW);
	fake_stream_ends(b.up->stream);
	request_done(second, &b, OUTCOME_RESPONSE, 200);
	upstreams_free(second);
	assert_int_equal(request_whole(200), 1);
	fake.workers[0].shard.upstream_connections += fake.workers[1].shard.upstream_connections;
	fake.workers[1].shard.upstream_connections = 0;
}

static void test_a_new_request_does_not_overtake_those_that_wait(void **state)
{
	(void)state;
	struct request a, b, late;
	struct http_cluster *c = fake_cluster(1);
	c->tcp.max_connections = 1;
	fake_push_c(c);
	request_start(&a);
	fake_connected_all();
	request_start(&b);
	/* The codec is done with a; what waits is served at the end of the tick. */
	struct fake_conn *conn = fake.conns[0];
	conn->streams[0].open = false;
	conn->live = 0;
	conn->base.events->on_capacity(&conn->base, conn->base.arg);
	request_start(&late);
	assert_int_equal(late.answers, 0);
	fake_turn();
	assert_int_equal(b.answers, 1);
	assert_int_equal(late.answers, 0);
	request_done(fake.u, &a, OUTCOME_RESPONSE, 200);
	request_end(&b, 200);
	assert_true(late.answers && late.order > b.order);
	request_end(&late, 200);
}

static void test_a_stream_that_is_over_counts_no_more_before_done(void **state)
{
	(void)state;
	struct request a, b;
	struct http_cluster *c = fake_cluster(1);
	c->tcp.max_connections = 1;
	c->max_requests = 1;
	fake_push_c(c);
	request_start(&a);
	fake_connected_all();
	request_start(&b);
	assert_int_equal(b.answers, 0);
	fake_stream_ends(a.up->stream);
	assert_int_equal(b.answers, 1);
	assert_int_equal(b.why, UPSTREAM_OK);
	request_done(fake.u, &a, OUTCOME_RESPONSE, 200);
	request_end(&b, 200);
}

static void test_who_is_cancelled_is_not_called_and_makes_room(void **state)
{
	(void)state;
	struct request r[3];
	struct http_cluster *c = fake_cluster(1);
	c->tcp.max_connections = 1;
	c->max_pending = 2;
	fake_push_c(c);
	request_start(&r[0]);
	request_start(&r[1]);
	upstream_cancel(r[0].wait);
	upstream_cancel(NULL);
	request_start(&r[2]);
	assert_int_equal(r[2].answers, 0);
	fake_connected_all();
	assert_int_equal(r[0].answers, 0);
	assert_int_equal(r[1].answers, 1);
	request_end(&r[1], 200);
	request_end(&r[2], 200);

	/* All go while it connects: the connection is kept for those to come. */
	fake_push_c(fake_cluster(2));
	request_start(&r[0]);
	if (r[0].up)
		request_end(&r[0], 200), request_start(&r[0]);
	assert_non_null(r[0].wait);
	upstream_cancel(r[0].wait);
	fake_connected_all();
	assert_int_equal(fake_open_conns(), 2);
}

static void test_a_failed_connect_fails_one_that_waited(void **state)
{
	(void)state;
	struct request a, b;
	fake_push_c(fake_cluster(1));
	request_start(&a);
	request_start(&b);
	fake_refused(fake_connect_at(0), -ECONNREFUSED);
	assert_int_equal(a.why, UPSTREAM_CONNECT);
	assert_int_equal(a.endpoint.port, 80);
	assert_int_equal(b.answers, 0); /* its own is on its way */
	fake_refused(fake_connect_at(0), -EPERM);
	assert_int_equal(b.why, UPSTREAM_REFUSED);
	assert_int_equal(fake_connecting(), 0);
	assert_int_equal(fake.workers[0].shard.upstream_connections, 0);
}

static void test_a_failed_connect_fails_all_that_hoped_for_it(void **state)
{
	(void)state;
	struct request r[3];
	struct http_cluster *c = fake_cluster(1);
	c->protocol = CLUSTER_H2;
	fake_push_c(c);
	for (size_t i = 0; i < 3; i++)
		request_start(&r[i]);
	assert_int_equal(fake_connecting(), 1); /* shared */
	assert_string_equal(fake_connect_at(0)->alpn, "h2");
	fake_refused(fake_connect_at(0), -EPROTO);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(r[i].why, UPSTREAM_TLS);
}

static void test_a_connect_takes_no_longer_than_its_timeout(void **state)
{
	(void)state;
	struct request a, b;
	struct http_cluster *c = fake_cluster(1);
	c->tcp.connect_timeout_ms = 2000;
	fake_push_c(c);
	request_start(&a);
	fake_advance_ms(1000);
	request_start(&b);
	fake_advance_ms(999);
	assert_int_equal(a.answers, 0);
	fake_advance_ms(2);
	assert_int_equal(a.why, UPSTREAM_CONNECT_TIMEOUT);
	assert_int_equal(b.answers, 0);
	fake_advance_ms(1000);
	assert_int_equal(b.why, UPSTREAM_CONNECT_TIMEOUT);
	assert_int_equal(fake_connecting(), 0);
}

static void test_h2_streams_share_up_to_the_peers_and_our_limit(void **state)
{
	(void)state;
	static struct request r[40];
	struct http_cluster *c = fake_cluster(1);
	c->protocol = CLUSTER_H2;
	c->max_concurrent_streams = 10;
	fake_push_c(c);
	for (size_t i = 0; i < 10; i++)
		request_start(&r[i]);
	assert_int_equal(fake_connecting(), 1);
	request_start(&r[10]);
	assert_int_equal(fake_connecting(), 2);
	fake_connected_all();
	for (size_t i = 0; i < 11; i++)
		assert_int_equal(r[i].answers, 1);
	assert_int_equal(fake.conns[0]->live, 10);
	assert_int_equal(fake.conns[1]->live, 1);
	for (size_t i = 0; i < 11; i++)
		request_end(&r[i], 200);
	assert_int_equal(fake_open_conns(), 2);

	/* A peer that allows less than was hoped for. */
	c = fake_cluster(1);
	c->protocol = CLUSTER_H2;
	c->subset = strdup("other");
	c->tls = CLUSTER_TLS_SIMPLE; /* other connections */
	fake.h2_max = 2;
	fake_push_c(c);
	assert_int_equal(fake_open_conns(), 0);
	for (size_t i = 0; i < 5; i++)
		request_start(&r[i]);
	assert_int_equal(fake_connecting(), 1);
	fake_connected_all();
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(r[i].answers, 1);
	assert_int_equal(fake_open_conns(), 3);
	for (size_t i = 0; i < 5; i++)
		request_end(&r[i], 200);
}

static void test_protocol_follows_the_client_and_upgrades(void **state)
{
	(void)state;
	struct request a, b, d;
	struct upstream_query q;
	struct http_cluster *c = fake_cluster(1);
	c->protocol = CLUSTER_AS_CLIENT;
	fake_push_c(c);
	request_query(&q);
	request_start_with(&a, &q);
	q.downstream_h2 = true;
	request_start_with(&b, &q);
	q.upgrade = true;
	request_start_with(&d, &q);
	assert_string_equal(fake_connect_at(0)->alpn, "http/1.1");
	assert_string_equal(fake_connect_at(1)->alpn, "h2");
	assert_string_equal(fake_connect_at(2)->alpn, "http/1.1");
	fake_connected_all();
	assert_int_equal(a.up->conn->protocol, HTTP_PROTO_1);
	assert_int_equal(b.up->conn->protocol, HTTP_PROTO_2);
	request_end(&a, 200);
	request_end(&b, 200);
	request_end(&d, 101);

	fake.alpn = "http/1.1"; /* the server had the last word */
	c = fake_cluster(2);
	c->protocol = CLUSTER_H2;
	fake_push_c(c);
	request_start(&a);
	request_start(&b);
	request_start(&d);
	fake_connected_all();
	assert_true(a.up && b.up && d.up);
	assert_int_equal(a.up->conn->protocol, HTTP_PROTO_1);
	request_end(&a, 200);
	request_end(&b, 200);
	request_end(&d, 200);
}

static void test_tls_connections_are_kept_apart_by_server_name(void **state)
{
	(void)state;
	struct request a, b;
	struct upstream_query q;
	struct http_cluster *c = fake_cluster(1);
	c->tls = CLUSTER_TLS_SIMPLE;
	fake_push_c(c);
	request_query(&q);
	q.host = "A.example:443";
	request_start_with(&a, &q);
	assert_string_equal(fake_connect_at(0)->sni, "a.example");
	fake_connected_all();
	request_end(&a, 200);
	q.host = "b.example";
	request_start_with(&b, &q);
	assert_int_equal(fake_connecting(), 1);
	fake_connected_all();
	request_end(&b, 200);
	q.host = "a.example";
	request_start_with(&a, &q);
	assert_int_equal(a.answers, 1);
	request_end(&a, 200);
}

static void test_connections_end_after_their_number_of_requests(void **state)
{
	(void)state;
	struct http_cluster *c = fake_cluster(1);
	c->max_requests_per_connection = 3;
	fake_push_c(c);
	for (size_t i = 0; i < 7; i++)
		assert_int_equal(request_whole(200), 1);
	assert_int_equal(fake.conn_count, 3);
	assert_int_equal(fake_open_conns(), 1);
}

/* istio.io's circuit breaker: the one connection with its one request is the one that there may be. */
static void test_the_last_request_of_a_connection_holds_its_place(void **state)
{
	(void)state;
	struct request r[3];
	struct http_cluster *c = fake_cluster(1);
	c->max_requests_per_connection = 1;
	c->tcp.max_connections = 1;
	c->max_pending = 1;
	fake_push_c(c);
	request_start(&r[0]);
	fake_connected_all();
	request_start(&r[1]);
	assert_int_equal(fake_connecting(), 0);
	assert_int_equal(r[1].answers, 0);
	request_start(&r[2]);
	assert_int_equal(r[2].why, UPSTREAM_OVERFLOW);
	request_end(&r[0], 200);
	fake_connected_all();
	assert_int_equal(r[1].answers, 1);
	assert_int_equal(r[1].why, UPSTREAM_OK);
	request_end(&r[1], 200);
	assert_int_equal(fake.conn_count, 2);
	assert_int_equal(fake_open_conns(), 0);
}

static void test_idle_and_old_connections_end(void **state)
{
	(void)state;
	struct request r;
	struct http_cluster *c = fake_cluster(1);
	c->http_idle_ms = 5000;
	fake_push_c(c);
	request_whole(200);
	assert_int_equal(fake.conns[0]->limits.idle_timeout_ms, 5000);
	fake_advance_ms(3000);
	request_whole(200);
	fake_advance_ms(4000);
	assert_int_equal(fake_open_conns(), 1);
	fake_advance_ms(2000);
	assert_int_equal(fake_open_conns(), 0);

	c = fake_cluster(1);
	c->tcp.max_connection_duration_ms = 10000;
	fake_push_c(c);
	request_start(&r);
	fake_connected_all();
	fake_advance_ms(12000);
	assert_int_equal(fake_open_conns(), 1); /* not in the middle of a request */
	assert_int_equal(r.resets, 0);
	request_end(&r, 200);
	assert_int_equal(fake_open_conns(), 0);
}

static void test_a_long_request_is_not_idle(void **state)
{
	(void)state;
	struct request r;
	struct http_cluster *c = fake_cluster(1);
	c->protocol = CLUSTER_H2;
	c->http_idle_ms = 1000;
	fake_push_c(c);
	request_start(&r);
	fake_connected_all();
	fake_advance_ms(10000);
	assert_int_equal(fake_open_conns(), 1);
	request_end(&r, 200);
}

static void test_a_connection_that_breaks_resets_its_streams_and_is_replaced(void **state)
{
	(void)state;
	struct request a, b, waits;
	struct http_cluster *c = fake_cluster(1);
	c->tcp.max_connections = 1;
	fake_push_c(c);
	request_start(&a);
	fake_connected_all();
	request_start(&waits);
	fake_conn_breaks(a.up->conn);
	assert_int_equal(a.resets, 1);
	assert_null(a.up);
	assert_int_equal(waits.answers, 0);
	assert_int_equal(fake_connecting(), 1); /* for the one that waits */
	fake_connected_all();
	request_end(&waits, 200);
	assert_int_equal(upstreams_live(fake.u), 0);

	/* An idle one is closed by the server, just as it is used again: the engine sees that it was no new one. */
	request_start(&b);
	assert_true(b.up->conn->requests > 1);
	fake_conn_breaks(b.up->conn);
	assert_int_equal(b.resets, 1);
}

static void test_a_server_that_closes_at_once_is_not_tried_for_ever(void **state)
{
	(void)state;
	struct request a;
	struct http_cluster *c = fake_cluster(1);
	c->protocol = CLUSTER_H2;
	fake.h2_max = 0; /* no stream before its SETTINGS */
	fake_push_c(c);
	request_start(&a);
	fake_connected(fake_connect_at(0));
	for (size_t i = 0; i < 3 && !a.answers; i++) {
		for (size_t k = 0; k < fake.conn_count; k++)
			if (!fake.conns[k]->closed)
				fake_conn_breaks(&fake.conns[k]->base);
		if (fake_connecting())
			fake_connected(fake_connect_at(0));
	}
	assert_int_equal(a.why, UPSTREAM_CONNECT);
	assert_int_equal(a.answers, 1);
	assert_in_range(fake.conn_count, 1, 2);
	for (size_t k = 0; k < fake.conn_count; k++)
		if (!fake.conns[k]->closed)
			fake_conn_breaks(&fake.conns[k]->base);
}

static void test_goaway_moves_new_streams_to_another_connection(void **state)
{
	(void)state;
	struct request a, b;
	struct http_cluster *c = fake_cluster(1);
	c->protocol = CLUSTER_H2;
	fake_push_c(c);
	request_start(&a);
	fake_connected_all();
	fake_goaway(a.up->conn);
	request_start(&b);
	assert_int_equal(b.answers, 0);
	fake_connected_all();
	assert_ptr_not_equal(a.up->conn, b.up->conn);
	request_end(&a, 200);
	assert_int_equal(fake_open_conns(), 1);
	request_end(&b, 200);
}

static struct caller *leave(const struct request *r)
{
	return upstream_retry_begin(fake.u, &fake.pods[0], "c", r ? r->up : NULL);
}

static void test_retries_have_their_limit(void **state)
{
	(void)state;
	struct request a, b;
	struct http_cluster *c = fake_cluster(1);
	c->max_retries = 1;
	fake_push_c(c);
	request_start(&a);
	request_start(&b);
	fake_connected_all();
	uint64_t overflows = fake.workers[0].shard.upstream_overflows;
	struct caller *first = leave(&a);
	assert_non_null(first);
	assert_null(leave(&b));
	assert_null(leave(NULL)); /* as one that found no endpoint */
	assert_int_equal(fake.workers[0].shard.upstream_overflows, overflows + 2);
	request_end(&a, 503);
	assert_null(leave(&b)); /* it holds until the retry is over */
	upstream_retry_end(first);
	first = leave(NULL);
	assert_non_null(first);
	assert_null(leave(&b));
	upstream_retry_end(first);
	upstream_retry_end(NULL);
	request_end(&b, 200);
	assert_null(upstream_retry_begin(fake.u, &fake.pods[0], "unheard-of", NULL));
}

static void test_a_cluster_without_a_limit_lets_all_retry(void **state)
{
	(void)state;
	struct caller *leaves[50];
	struct request a;
	fake_push_c(fake_cluster(1));
	request_start(&a);
	fake_connected_all();
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
		assert_non_null(leaves[i] = leave(i % 2 ? &a : NULL));
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
		upstream_retry_end(leaves[i]);
	request_end(&a, 200);
}

static void test_a_retry_budget_is_a_share_of_live_requests(void **state)
{
	(void)state;
	static struct request r[20];
	struct caller *leaves[4];
	struct http_cluster *c = fake_cluster(1);
	c->max_retries = 1; /* not in force */
	c->retry_budget_percent = 20;
	c->retry_budget_min = 2;
	fake_push_c(c);
	request_start(&r[0]);
	fake_connected_all();
	assert_non_null(leaves[0] = leave(&r[0]));
	assert_non_null(leaves[1] = leave(NULL));
	assert_null(leave(&r[0])); /* two always may */
	for (size_t i = 1; i < 20; i++)
		request_start(&r[i]);
	fake_connected_all();
	assert_non_null(leaves[2] = leave(&r[0])); /* 20 live: 4 */
	assert_non_null(leaves[3] = leave(NULL));
	assert_null(leave(&r[0]));
	for (size_t i = 0; i < 20; i++)
		request_end(&r[i], 200);
	for (size_t i = 0; i < 4; i++)
		upstream_retry_end(leaves[i]);
}

static void test_drain_lets_requests_end(void **state)
{
	(void)state;
	struct request a, b, idle;
	fake_push_c(fake_cluster(1));
	request_start(&a);
	request_start(&idle);
	fake_connected_all();
	request_end(&idle, 200);
	upstreams_drain(fake.u);
	assert_int_equal(fake_open_conns(), 1);
	request_start(&b); /* a retry of something that is under way, say */
	fake_connected_all();
	assert_int_equal(b.why, UPSTREAM_OK);
	assert_int_equal(upstreams_live(fake.u), 2);
	request_end(&a, 200);
	request_end(&b, 200);
	assert_int_equal(fake_open_conns(), 0);
	assert_int_equal(upstreams_live(fake.u), 0);
}

static void test_a_pod_whose_rules_changed_gets_connections_anew(void **state)
{
	(void)state;
	struct request a, b, c;
	struct addr other, own;
	fake_push_c(fake_cluster(1));
	request_start(&a);
	struct fake_conn *conn = fake_connected_all();
	own = other = conn->to.addr;
	other.b[15] ^= 0x40;
	struct worker_pod pod = { .addrs = &other, .addr_count = 1 };
	upstreams_pod_changed(fake.u, &pod);
	assert_int_equal(fake.conn_count, 1);
	request_end(&a, 200);
	assert_int_equal(request_whole(200), 1); /* it is used again */

	request_start(&b);
	pod.addrs = &own;
	upstreams_pod_changed(fake.u, &pod);
	assert_false(conn->closed); /* what is under way ends as it began */
	request_start(&c);
	assert_int_equal(fake_connecting(), 1);
	fake_connected_all();
	assert_int_equal(fake.conn_count, 2);
	request_end(&b, 200);
	fake_turn();
	assert_true(conn->closed || conn->draining);
	request_end(&c, 200);
}

static void test_a_pod_that_goes_takes_its_connections_along(void **state)
{
	(void)state;
	struct request a, b, waits, other;
	struct upstream_query q;
	struct http_cluster *c = fake_cluster(1);
	c->tcp.max_connections = 2;
	fake_push_c(c);
	request_query(&q);
	q.pod = &fake.pods[1];
	request_start_with(&other, &q);
	request_start(&a);
	fake_connected_all();
	request_start(&b);
	request_start(&waits);
	fake.pods[0].removed = true;
	upstreams_pod_removed(fake.u, &fake.pods[0]);
	fake_turn();
	assert_int_equal(a.resets, 1);
	assert_int_equal(b.why, UPSTREAM_CONNECT);
	assert_int_equal(waits.why, UPSTREAM_CONNECT);
	assert_int_equal(fake_connecting(), 0);
	assert_int_equal(fake_open_conns(), 1);
	assert_int_equal(fake.pods[0].refs, 1);
	request_start(&a);
	assert_int_equal(a.why, UPSTREAM_CONNECT);
	request_end(&other, 200);
}

static void test_dump_shows_connections(void **state)
{
	(void)state;
	struct sb out = { 0 };
	struct request r;
	fake_push_c(fake_cluster(1));
	request_start(&r);
	fake_connected_all();
	upstreams_dump(fake.u, "http-pools", &out);
	assert_string_equal(out.p, "[{\"cluster\":\"c\",\"pod\":\"pod-a\",\"endpoint\":\"10.0.0.1:80\","
				   "\"protocol\":\"http/1.1\",\"pending\":0,\"connections\":[{\"state\":\"busy\","
				   "\"requests\":1,\"streams\":1,\"age_s\":0.0}]}]");
	sb_done(&out);
	request_end(&r, 200);
	upstreams_dump(fake.u, "nothing", &out);
	assert_string_equal(out.p, "[]");
	sb_done(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_connection_is_made_once_and_used_again),
		TEST(test_the_connection_used_last_is_used_next),
		TEST(test_max_connections_and_pending_limit_each_pod),
		TEST(test_limits_are_of_all_workers),
		TEST(test_a_new_request_does_not_overtake_those_that_wait),
		TEST(test_a_stream_that_is_over_counts_no_more_before_done),
		TEST(test_who_is_cancelled_is_not_called_and_makes_room),
		TEST(test_a_failed_connect_fails_one_that_waited),
		TEST(test_a_failed_connect_fails_all_that_hoped_for_it),
		TEST(test_a_connect_takes_no_longer_than_its_timeout),
		TEST(test_h2_streams_share_up_to_the_peers_and_our_limit),
		TEST(test_protocol_follows_the_client_and_upgrades),
		TEST(test_tls_connections_are_kept_apart_by_server_name),
		TEST(test_connections_end_after_their_number_of_requests),
		TEST(test_the_last_request_of_a_connection_holds_its_place),
		TEST(test_idle_and_old_connections_end),
		TEST(test_a_long_request_is_not_idle),
		TEST(test_a_connection_that_breaks_resets_its_streams_and_is_replaced),
		TEST(test_a_server_that_closes_at_once_is_not_tried_for_ever),
		TEST(test_goaway_moves_new_streams_to_another_connection),
		TEST(test_retries_have_their_limit),
		TEST(test_a_cluster_without_a_limit_lets_all_retry),
		TEST(test_a_retry_budget_is_a_share_of_live_requests),
		TEST(test_drain_lets_requests_end),
		TEST(test_a_pod_whose_rules_changed_gets_connections_anew),
		TEST(test_a_pod_that_goes_takes_its_connections_along),
		TEST(test_dump_shows_connections),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
