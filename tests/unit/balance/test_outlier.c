/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "tests/unit/balance/fake.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

static struct http_cluster *watched_cluster(size_t n)
{
	struct http_cluster *c = fake_cluster(n);
	c->outlier = (struct cluster_outlier){
		.consecutive_5xx = 3, .interval_ms = 1000, .base_ejection_ms = 5000, .max_ejection_percent = 100
	};
	return c;
}

/* Requests until `bad` has failed three times. */
static void make_bad(unsigned int bad)
{
	for (unsigned int failed = 0; failed < 3;) {
		struct request r;
		request_start(&r);
		fake_connected_all();
		assert_non_null(r.up);
		unsigned int at = r.endpoint.addr.b[15];
		failed += at == bad;
		request_end(&r, at == bad ? 503 : 200);
	}
}

static unsigned int shares(unsigned int of, size_t requests)
{
	unsigned int n = 0;
	for (size_t i = 0; i < requests; i++)
		n += request_whole(200) == of;
	return n;
}

static void test_an_endpoint_that_fails_is_left_out_and_returns(void **state)
{
	(void)state;
	struct sb out = { 0 };
	fake_push_c(watched_cluster(3));
	make_bad(2);
	assert_int_equal(shares(2, 30), 0);
	assert_int_equal(fake.workers[0].shard.outlier_ejections, 1);
	assert_int_equal(fake.workers[0].shard.outlier_ejected, 1);
	upstreams_dump(fake.u, "clusters", &out);
	assert_non_null(strstr(out.p, "\"address\":\"10.0.0.2:80\",\"weight\":1,\"priority\":0,\"health\":\"ejected\","
				      "\"ejected_for_s\":5.000,\"ejections\":1,\"active_requests\":0,\"requests\":3,"
				      "\"errors\":3"));
	sb_done(&out);
	fake_advance_ms(4000);
	assert_int_equal(shares(2, 30), 0);
	fake_advance_ms(2100);
	assert_int_equal(shares(2, 30), 10);
	assert_int_equal(fake.workers[0].shard.outlier_ejected, 0);
	make_bad(2);
	fake_advance_ms(6100); /* the second time it is longer */
	assert_int_equal(shares(2, 30), 0);
	fake_advance_ms(5000);
	assert_int_equal(shares(2, 30), 10);
}

static void test_resets_and_timeouts_count_cancels_do_not(void **state)
{
	(void)state;
	struct request r;
	fake_push_c(watched_cluster(1));
	const enum upstream_outcome outcomes[] = { OUTCOME_RESET, OUTCOME_CANCELLED, OUTCOME_TIMEOUT, OUTCOME_CANCELLED,
						   OUTCOME_RESET };
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(fake.workers[0].shard.outlier_ejections, 0);
		request_start(&r);
		fake_connected_all();
		assert_non_null(r.up);
		fake_stream_ends(r.up->stream);
		request_done(fake.u, &r, outcomes[i], 0);
		fake_turn();
	}
	assert_int_equal(fake.workers[0].shard.outlier_ejections, 1);
	request_start(&r);
	assert_int_equal(r.why, UPSTREAM_NO_ENDPOINT); /* no panic by default, as in Istio */
}

static void test_failed_connects_count(void **state)
{
	(void)state;
	struct request r;
	fake_push_c(watched_cluster(2));
	for (size_t i = 0; i < 8 && !fake.workers[0].shard.outlier_ejections; i++) {
		request_start(&r);
		if (r.up) {
			request_end(&r, 200);
			continue;
		}
		if (fake_connect_at(0)->to.addr.b[15] == 1) {
			fake_refused(fake_connect_at(0), -ECONNREFUSED);
			assert_int_equal(r.why, UPSTREAM_CONNECT);
		} else {
			fake_connected_all();
			request_end(&r, 200);
		}
	}
	assert_int_equal(fake.workers[0].shard.outlier_ejections, 1);
	assert_int_equal(shares(1, 10), 0);
}

static void test_refusals_by_policy_say_nothing_of_health(void **state)
{
	(void)state;
	struct request r;
	fake_push_c(watched_cluster(1));
	for (size_t i = 0; i < 6; i++) {
		request_start(&r);
		fake_refused(fake_connect_at(0), -EPERM);
		assert_int_equal(r.why, UPSTREAM_REFUSED);
	}
	assert_int_equal(fake.workers[0].shard.outlier_ejections, 0);
}

static void test_tcp_reports_count(void **state)
{
	(void)state;
	struct addr_port at;
	struct http_cluster *c = watched_cluster(2);
	c->outlier.split_local = true;
	c->outlier.consecutive_local = 2;
	fake_push_c(c);
	upstream_report(fake.u, "c", &at, false); /* nobody uses it yet */
	request_whole(200);
	assert_int_equal(addr_port_parse("10.0.0.2:80", &at), 0);
	upstream_report(fake.u, "c", &at, false);
	upstream_report(fake.u, "c", &at, true);
	upstream_report(fake.u, "c", &at, false);
	assert_int_equal(fake.workers[0].shard.outlier_ejections, 0);
	upstream_report(fake.u, "c", &at, false);
	assert_int_equal(fake.workers[0].shard.outlier_ejections, 1);
	assert_int_equal(shares(2, 10), 0);
}

static void test_min_health_percent_keeps_enough(void **state)
{
	(void)state;
	struct http_cluster *c = watched_cluster(2);
	c->outlier.min_health_percent = 60;
	fake_push_c(c);
	make_bad(2);
	assert_int_equal(fake.workers[0].shard.outlier_ejections, 1);
	assert_int_equal(shares(2, 10), 5); /* one of two is too few: ejections are ignored */
}

static void test_ejections_fail_over_to_the_next_priority(void **state)
{
	(void)state;
	struct http_cluster *c = watched_cluster(2);
	c->endpoints[1].priority = 1;
	fake_push_c(c);
	assert_int_equal(shares(1, 10), 10);
	make_bad(1);
	assert_int_equal(shares(2, 10), 10);
	fake_advance_ms(7000);
	assert_int_equal(shares(1, 10), 10);
}

static void test_ejections_outlive_a_new_version(void **state)
{
	(void)state;
	struct http_cluster *c = watched_cluster(3);
	fake_push_c(watched_cluster(2));
	make_bad(2);
	fake_push_c(c);
	assert_int_equal(shares(2, 20), 0);
	c = watched_cluster(3);
	c->endpoint_count = 1; /* it goes */
	fake_push_c(c);
	assert_int_equal(fake.workers[0].shard.outlier_ejected, 0);
	fake_push_c(watched_cluster(2)); /* as a new one */
	assert_int_equal(shares(2, 20), 10);
	make_bad(2);
	c = fake_cluster(2); /* detection is turned off */
	fake_push_c(c);
	assert_int_equal(shares(2, 20), 10);
	assert_int_equal(fake.workers[0].shard.outlier_ejected, 0);
}

static void test_workers_share_ejections(void **state)
{
	(void)state;
	struct upstreams *second;
	struct upstream_query q;
	struct request r;
	assert_int_equal(upstreams_new(&fake.workers[1], &second), 0);
	fake_push_c(watched_cluster(2));
	request_query(&q);
	request_start_on(second, &r, &q);
	fake_connected_all();
	fake_stream_ends(r.up->stream);
	request_done(second, &r, OUTCOME_RESPONSE, 200);
	make_bad(2);
	for (size_t i = 0; i < 10; i++) {
		request_start_on(second, &r, &q);
		fake_connected_all();
		assert_int_equal(r.endpoint.addr.b[15], 1);
		fake_stream_ends(r.up->stream);
		request_done(second, &r, OUTCOME_RESPONSE, 200);
		fake_turn();
	}
	fake_advance_ms(7000); /* whoever sees it first takes it back, for both */
	unsigned int seen = 0;
	for (size_t i = 0; i < 10; i++) {
		request_start_on(second, &r, &q);
		fake_connected_all();
		seen += r.endpoint.addr.b[15] == 2;
		fake_stream_ends(r.up->stream);
		request_done(second, &r, OUTCOME_RESPONSE, 200);
		fake_turn();
	}
	assert_int_equal(seen, 5);
	assert_int_equal(shares(2, 10), 5);
	assert_int_equal(fake.workers[0].shard.outlier_ejected + fake.workers[1].shard.outlier_ejected, 0);
	upstreams_free(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_an_endpoint_that_fails_is_left_out_and_returns),
		TEST(test_resets_and_timeouts_count_cancels_do_not),
		TEST(test_failed_connects_count),
		TEST(test_refusals_by_policy_say_nothing_of_health),
		TEST(test_tcp_reports_count),
		TEST(test_min_health_percent_keeps_enough),
		TEST(test_ejections_fail_over_to_the_next_priority),
		TEST(test_ejections_outlive_a_new_version),
		TEST(test_workers_share_ejections),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
