/* SPDX-License-Identifier: Apache-2.0 */
/* Anything in any order, with fixed seeds: whatever happens each request has one answer at most, all have one in the end,
 * and what teardown looks at (connections, references, gauges) comes to nothing. Meant for the sanitizers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/model/balance.h"
#include "tests/unit/balance/fake.h"

enum { REQUESTS = 60, STEPS = 1500 };

static struct request requests[REQUESTS];
static bool started[REQUESTS], ended[REQUESTS]; /* ended: its stream is over, upstream_done() not called yet */
static uint64_t random_state;

static uint64_t dice(uint64_t n)
{
	return balance_random(&random_state) % n;
}

static struct http_cluster *any_cluster(void)
{
	static const enum cluster_lb lbs[] = { CLUSTER_LEAST_REQUEST, CLUSTER_ROUND_ROBIN, CLUSTER_RANDOM,
					       CLUSTER_PASSTHROUGH,   CLUSTER_RING_HASH,   CLUSTER_MAGLEV,
					       CLUSTER_PEAK_EWMA };
	struct http_cluster *c = fake_cluster(dice(6));
	c->lb = lbs[dice(ARRAY_SIZE(lbs))];
	c->hash = HASH_SOURCE_IP;
	c->maglev_size = 251;
	c->protocol = dice(3) == 0 ? CLUSTER_H1 : dice(2) ? CLUSTER_H2 : CLUSTER_AS_CLIENT;
	c->tls = dice(4) ? CLUSTER_TLS_AUTO : CLUSTER_TLS_SIMPLE;
	c->tcp.max_connections = (uint32_t)dice(4);
	c->max_pending = (uint32_t)dice(12);
	c->max_requests = dice(3) ? 0 : 8;
	c->max_requests_per_connection = (uint32_t)dice(5);
	c->max_retries = (uint32_t)dice(4);
	c->max_concurrent_streams = (uint32_t)dice(5);
	c->http_idle_ms = dice(2) ? 0 : 3000;
	c->tcp.max_connection_duration_ms = dice(3) ? 0 : 9000;
	c->warmup_ms = dice(3) ? 0 : 5000;
	if (dice(2))
		c->outlier = (struct cluster_outlier){ .consecutive_5xx = 2,
						       .interval_ms = 1000,
						       .base_ejection_ms = 2000,
						       .max_ejection_percent = 50,
						       .min_health_percent = (uint8_t)dice(60) };
	for (size_t i = 0; i < c->endpoint_count; i++) {
		c->endpoints[i].weight = (uint32_t)(1 + dice(3));
		c->endpoints[i].priority = (uint8_t)dice(2);
		c->endpoints[i].healthy = dice(8) != 0;
	}
	return c;
}

static void any_start(size_t i)
{
	struct upstream_query q;
	if (started[i])
		return;
	request_query(&q);
	q.pod = &fake.pods[dice(2)];
	q.source.addr.b[15] = (uint8_t)dice(9);
	q.original = (struct addr_port){ .port = 80 };
	q.original.addr.b[10] = q.original.addr.b[11] = 0xff;
	q.original.addr.b[12] = 10;
	q.original.addr.b[15] = (uint8_t)(1 + dice(8));
	q.downstream_h2 = dice(2);
	q.upgrade = dice(9) == 0;
	if (dice(4) == 0)
		q.avoid[q.avoid_count++] = q.original;
	request_start_with(&requests[i], &q);
	started[i] = true;
	ended[i] = false;
}

static void any_done(size_t i)
{
	static const enum upstream_outcome outcomes[] = { OUTCOME_RESPONSE, OUTCOME_RESPONSE, OUTCOME_RESET,
							  OUTCOME_TIMEOUT, OUTCOME_CANCELLED };
	request_done(fake.u, &requests[i], outcomes[dice(ARRAY_SIZE(outcomes))], dice(2) ? 200 : 503);
}

/* What happens to a request that is under way. */
static void any_progress(size_t i)
{
	struct request *r = &requests[i];
	if (!started[i])
		return;
	assert_in_range(r->answers, 0, 1);
	if (r->wait) {
		if (dice(6) == 0) {
			upstream_cancel(TAKE(r->wait));
			started[i] = false;
		}
	} else if (!r->up) {
		started[i] = false; /* refused, or reset by on_request_reset() */
	} else if (ended[i]) {
		any_done(i);
		started[i] = false;
	} else if (dice(3) == 0) {
		stream_reset(r->up->stream, HTTP_RESET_CANCEL);
		any_done(i);
		started[i] = false;
	} else {
		ended[i] = true;
		fake_stream_ends(r->up->stream);
	}
}

static void any_connection(void)
{
	if (fake_connecting() && dice(3)) {
		struct transport_connect *c = fake_connect_at(dice(fake_connecting()));
		if (dice(4))
			fake_connected(c);
		else
			fake_refused(c, dice(2) ? -ECONNREFUSED : -EPERM);
		return;
	}
	for (size_t tries = 0; fake.conn_count && tries < 5; tries++) {
		struct fake_conn *c = fake.conns[dice(fake.conn_count)];
		if (c->closed)
			continue;
		if (dice(2))
			fake_goaway(&c->base);
		else
			fake_conn_breaks(&c->base);
		return;
	}
}

/* What the agent says of addresses: plain, a tunnel, nothing, or not yet. */
static void any_info(void)
{
	static char *identities[] = { "spiffe://td/ns/a/sa/b" };
	if (fake.info_withheld) {
		fake_tell_info(dice(3) ? &fake.info : NULL);
		return;
	}
	bool hbone = dice(2);
	fake.info = (struct endpoint_info){
		.known = hbone, .hbone = hbone, .identities = identities, .identity_count = hbone
	};
	fake.info_withheld = dice(3) == 0;
}

static void step(void)
{
	switch (dice(12)) {
	case 0:
		fake_push_c(dice(10) ? any_cluster() : NULL);
		break;
	case 1:
		fake_advance_ms(dice(2) ? dice(1500) : dice(12000));
		break;
	case 2:
		if (dice(20) == 0)
			upstreams_pod_removed(fake.u, &fake.pods[dice(2)]);
		else if (dice(2))
			any_info();
		else
			fake.h2_max = (uint32_t)(1 + dice(4));
		break;
	case 3:
	case 4:
		any_connection();
		break;
	case 5:
	case 6:
	case 7:
		any_start(dice(REQUESTS));
		break;
	default:
		any_progress(dice(REQUESTS));
	}
	if (dice(2))
		fake_turn();
	struct sb out = { 0 };
	upstreams_dump(fake.u, dice(2) ? "clusters" : "http-pools", &out);
	assert_non_null(out.p);
	sb_done(&out);
}

static void wind_up(void)
{
	for (size_t rounds = 0; rounds < 50; rounds++) {
		size_t left = 0;
		fake_turn();
		fake_tell_info(&fake.info);
		while (fake_connecting())
			fake_connected(fake_connect_at(0));
		for (size_t i = 0; i < REQUESTS; i++) {
			if (started[i] && !requests[i].wait)
				any_progress(i);
			left += started[i];
		}
		if (!left)
			return;
		/* The peers allow enough by now, and so does the cluster. */
		fake.h2_max = 100;
		if (rounds == 5)
			fake_push_c(fake_cluster(3));
	}
	fail_msg("some requests have no answer");
}

static void any_story(uint64_t seed)
{
	random_state = seed;
	memset(started, 0, sizeof(started));
	memset(ended, 0, sizeof(ended));
	for (size_t i = 0; i < STEPS; i++)
		step();
	wind_up();
	assert_int_equal(upstreams_live(fake.u), 0);
}

static void test_stories_end_well(void **state)
{
	for (uint64_t seed = 1; seed <= 40; seed++) {
		if (seed > 1) {
			assert_int_equal(fake_teardown(state), 0);
			assert_int_equal(fake_setup(state), 0);
		}
		any_story(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stories_end_well, fake_setup, fake_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
