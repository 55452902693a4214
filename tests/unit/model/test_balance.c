/* SPDX-License-Identifier: Apache-2.0 */
/* Distributions are checked with fixed seeds, so that a failure can be repeated. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/model/balance.h"
#include "agent/model/balance_table.h"

enum { HOSTS_MAX = 64, PICKS = 10000 };
#define SECOND 1000000000ull

struct world {
	struct balance_settings settings;
	struct balance_host hosts[HOSTS_MAX];
	size_t count;
	struct balance *b;
	uint64_t random, now_ns;
};

static void world_init(struct world *w, enum cluster_lb lb, size_t count, const uint32_t *weights)
{
	memset(w, 0, sizeof(*w));
	w->settings = (struct balance_settings){
		.lb = lb, .warmup_min_percent = 10, .warmup_aggression = 1, .ring_size_min = 1024, .maglev_size = 65537
	};
	w->count = count;
	w->random = 42;
	w->now_ns = 1000 * SECOND;
	for (size_t i = 0; i < count; i++) {
		struct addr_port at = { .port = (uint16_t)(8000 + i) };
		assert_int_equal(addr_parse("10.0.0.1", &at.addr), 0);
		w->hosts[i] = (struct balance_host){ .weight = weights ? weights[i] : 1,
						     .healthy = true,
						     .key = balance_key(&at) };
	}
}

static void world_build(struct world *w)
{
	struct balance_host *hosts[HOSTS_MAX];
	for (size_t i = 0; i < w->count; i++)
		hosts[i] = &w->hosts[i];
	assert_int_equal(balance_new(&w->settings, hosts, w->count, w->now_ns, &w->random, &w->b), 0);
}

static void world_done(struct world *w)
{
	balance_free(w->b);
}

static struct balance_host *choose(struct world *w)
{
	struct balance_ask ask = { .now_ns = w->now_ns, .random = &w->random };
	return balance_choose(w->b, &ask);
}

static struct balance_host *choose_hash(struct world *w, uint64_t hash)
{
	struct balance_ask ask = { .now_ns = w->now_ns, .random = &w->random, .has_hash = true, .hash = hash };
	return balance_choose(w->b, &ask);
}

static void picks_count(struct world *w, size_t picks, uint32_t *of)
{
	memset(of, 0, HOSTS_MAX * sizeof(*of));
	for (size_t i = 0; i < picks; i++) {
		struct balance_host *h = choose(w);
		assert_non_null(h);
		of[h - w->hosts]++;
	}
}

static void assert_share(uint32_t got, size_t picks, double percent, double within)
{
	double share = 100.0 * got / (double)picks;
	if (share < percent - within || share > percent + within)
		fail_msg("%.2f %% instead of %.2f +- %.2f", share, percent, within);
}

static void assert_near(double got, double want, double within)
{
	if (got < want - within || got > want + within)
		fail_msg("%f instead of %f +- %f", got, want, within);
}

static const enum cluster_lb every_lb[] = { CLUSTER_ROUND_ROBIN, CLUSTER_LEAST_REQUEST, CLUSTER_RANDOM,
					    CLUSTER_RING_HASH,	 CLUSTER_MAGLEV,	CLUSTER_PEAK_EWMA };

static void test_nothing_to_choose_from_is_null(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(every_lb); i++) {
		struct world w;
		world_init(&w, every_lb[i], 0, NULL);
		world_build(&w);
		assert_null(choose(&w));
		world_done(&w);
	}
}

static void test_the_unhealthy_and_the_ejected_are_never_chosen(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(every_lb); i++) {
		struct world w;
		uint32_t of[HOSTS_MAX];
		world_init(&w, every_lb[i], 4, (uint32_t[]){ 1, 1, 3, 1 });
		w.hosts[1].healthy = false;
		w.hosts[2].ejected = true;
		world_build(&w);
		picks_count(&w, 1000, of);
		assert_int_equal(of[1] + of[2], 0);
		assert_true(of[0] && of[3]);
		for (uint64_t hash = 0; hash < 1000; hash++) {
			struct balance_host *h = choose_hash(&w, balance_mix(hash));
			assert_true(h == &w.hosts[0] || h == &w.hosts[3]);
		}
		for (size_t k = 0; k < 4; k++)
			w.hosts[k].ejected = true;
		balance_refresh(w.b, w.now_ns, &w.random);
		assert_null(choose(&w));
		world_done(&w);
	}
}

static void test_round_robin_of_equals_is_exact(void **state)
{
	(void)state;
	struct world w;
	uint32_t of[HOSTS_MAX];
	world_init(&w, CLUSTER_ROUND_ROBIN, 7, NULL);
	world_build(&w);
	picks_count(&w, 7000, of);
	for (size_t i = 0; i < 7; i++)
		assert_int_equal(of[i], 1000);
	world_done(&w);
}

static void test_weights_90_to_10_hold_within_one_percent(void **state)
{
	(void)state;
	const enum cluster_lb lbs[] = { CLUSTER_ROUND_ROBIN, CLUSTER_RANDOM, CLUSTER_LEAST_REQUEST };
	for (size_t i = 0; i < ARRAY_SIZE(lbs); i++) {
		struct world w;
		uint32_t of[HOSTS_MAX];
		world_init(&w, lbs[i], 2, (uint32_t[]){ 90, 10 });
		world_build(&w);
		picks_count(&w, PICKS, of);
		assert_share(of[0], PICKS, 90, 1);
		world_done(&w);
	}
}

static void test_weighted_turns_are_spread_evenly(void **state)
{
	(void)state;
	struct world w;
	world_init(&w, CLUSTER_ROUND_ROBIN, 3, (uint32_t[]){ 5, 1, 1 });
	world_build(&w);
	size_t since = 0, longest = 0;
	for (size_t i = 0; i < 700; i++) {
		since = choose(&w) == &w.hosts[1] ? 0 : since + 1;
		longest = since > longest ? since : longest;
	}
	assert_in_range(longest, 6, 8);
	world_done(&w);
}

static void test_least_request_avoids_the_busy(void **state)
{
	(void)state;
	struct world w;
	uint32_t of[HOSTS_MAX];
	world_init(&w, CLUSTER_LEAST_REQUEST, 3, NULL);
	w.hosts[1].active = 5;
	world_build(&w);
	picks_count(&w, PICKS, of);
	assert_int_equal(of[1], 0); /* of any two, the other has less */
	assert_share(of[0], PICKS, 50, 2);
	world_done(&w);

	/* Where weights differ, live requests divide the weight. */
	world_init(&w, CLUSTER_LEAST_REQUEST, 2, (uint32_t[]){ 20, 10 });
	w.hosts[0].active = 3; /* 20 / 4 against 10 / 1 */
	world_build(&w);
	picks_count(&w, PICKS, of);
	assert_share(of[0], PICKS, 100.0 / 3, 1);
	world_done(&w);
}

static void test_peak_ewma_prefers_the_fast(void **state)
{
	(void)state;
	struct world w;
	uint32_t of[HOSTS_MAX] = { 0 };
	world_init(&w, CLUSTER_PEAK_EWMA, 3, NULL);
	world_build(&w);
	for (size_t i = 0; i < PICKS; i++) {
		struct balance_host *h = choose(&w);
		of[h - w.hosts]++;
		w.now_ns += SECOND / 1000;
		balance_observe(h, h == &w.hosts[2] ? SECOND / 10 : SECOND / 100, w.now_ns);
	}
	/* Of any two of the fast it doesn't matter which; the slow one is looked at again when its latency faded. */
	assert_true(of[2] < PICKS / 100);
	assert_true(of[2] >= 1);
	assert_share(of[0], PICKS, 50, 10);
	world_done(&w);
}

static void test_ewma_rises_at_once_and_falls_slowly(void **state)
{
	(void)state;
	struct balance_host h = { 0 };
	uint64_t now = SECOND;
	assert_true(balance_cost(&h, now) == 0);
	h.active = 1;
	assert_true(balance_cost(&h, now) > 1e14); /* not known, one is under way: no second */
	h.active = 0;
	balance_observe(&h, 1000000, now);
	assert_near(balance_cost(&h, now), 1e6, 1);
	balance_observe(&h, 9000000, now);
	assert_near(balance_cost(&h, now), 9e6, 1);
	balance_observe(&h, 1000000, now + SECOND / 10);
	assert_true(balance_cost(&h, now + SECOND / 10) > 8e6);
	h.active = 2;
	assert_near(balance_cost(&h, now + 10 * SECOND) / 3, balance_cost(&h, now) / 3 * 0.368, 2e5);
}

static void test_slow_start_ramps_the_weight(void **state)
{
	(void)state;
	const enum cluster_lb lbs[] = { CLUSTER_ROUND_ROBIN, CLUSTER_LEAST_REQUEST };
	for (size_t i = 0; i < ARRAY_SIZE(lbs); i++) {
		struct world w;
		uint32_t of[HOSTS_MAX];
		world_init(&w, lbs[i], 2, NULL);
		w.settings.warmup_ms = 100000;
		w.hosts[1].warm_from_ns = w.now_ns;
		world_build(&w);
		picks_count(&w, PICKS, of);
		assert_share(of[1], PICKS, 100 * 0.1 / 1.1, 1); /* the least percent */
		w.now_ns += 50 * SECOND;
		picks_count(&w, PICKS, of);
		assert_share(of[1], PICKS, 100 * 0.5 / 1.5, 1);
		w.now_ns += 50 * SECOND;
		picks_count(&w, PICKS, of);
		assert_share(of[1], PICKS, 50, 2);
		world_done(&w);
	}
}

static void test_slow_start_aggression_bends_the_ramp(void **state)
{
	(void)state;
	struct balance_settings s = { .warmup_ms = 100000, .warmup_min_percent = 10, .warmup_aggression = 2 };
	struct balance_host h = { .warm_from_ns = SECOND };
	assert_near(balance_warmth(&s, &h, 26 * SECOND), 0.5, 0.001); /* 0.25 ^ (1/2) */
	s.warmup_aggression = 0.5;
	assert_near(balance_warmth(&s, &h, 51 * SECOND), 0.25, 0.001); /* 0.5 ^ 2 */
	assert_near(balance_warmth(&s, &h, 11 * SECOND), 0.1, 0.001);
	assert_near(balance_warmth(&s, &h, 101 * SECOND), 1, 0.001);
	h.warm_from_ns = 0;
	assert_near(balance_warmth(&s, &h, 1), 1, 0.001);
}

static void test_hash_sticks_and_moves_only_what_must(void **state)
{
	(void)state;
	const enum cluster_lb lbs[] = { CLUSTER_RING_HASH, CLUSTER_MAGLEV };
	for (size_t i = 0; i < ARRAY_SIZE(lbs); i++) {
		struct world w;
		static uint8_t before[PICKS];
		world_init(&w, lbs[i], 10, NULL);
		world_build(&w);
		for (uint64_t k = 0; k < PICKS; k++) {
			struct balance_host *h = choose_hash(&w, balance_mix(k));
			before[k] = (uint8_t)(h - w.hosts);
			assert_ptr_equal(choose_hash(&w, balance_mix(k)), h);
		}
		/* One is ejected: its keys move, no others. */
		w.hosts[3].ejected = true;
		balance_refresh(w.b, w.now_ns, &w.random);
		uint32_t to[HOSTS_MAX] = { 0 };
		for (uint64_t k = 0; k < PICKS; k++) {
			struct balance_host *h = choose_hash(&w, balance_mix(k));
			if (before[k] != 3)
				assert_ptr_equal(h, &w.hosts[before[k]]);
			else
				to[h - w.hosts]++;
		}
		size_t heirs = 0;
		for (size_t k = 0; k < 10; k++)
			heirs += to[k] > 0;
		assert_int_equal(heirs, 9); /* and to all of the others */
		world_done(&w);

		/* One is removed: few of the others' keys move (on a ring because the others get more points). */
		w.hosts[3] = w.hosts[9];
		w.count = 9;
		w.hosts[3].ejected = false;
		world_build(&w);
		size_t moved = 0;
		for (uint64_t k = 0; k < PICKS; k++) {
			size_t host = (size_t)(choose_hash(&w, balance_mix(k)) - w.hosts);
			size_t was = before[k] == 9 ? 3 : before[k];
			moved += before[k] != 3 && host != was;
		}
		assert_in_range(moved, 0, lbs[i] == CLUSTER_RING_HASH ? PICKS / 10 : PICKS / 50);
		world_done(&w);
	}
}

static void test_hash_follows_weights(void **state)
{
	(void)state;
	const enum cluster_lb lbs[] = { CLUSTER_RING_HASH, CLUSTER_MAGLEV };
	for (size_t i = 0; i < ARRAY_SIZE(lbs); i++) {
		struct world w;
		uint32_t of[HOSTS_MAX] = { 0 };
		world_init(&w, lbs[i], 3, (uint32_t[]){ 2, 1, 1 });
		w.settings.ring_size_min = 65536;
		world_build(&w);
		for (uint64_t k = 0; k < PICKS; k++)
			of[choose_hash(&w, balance_mix(k)) - w.hosts]++;
		assert_share(of[0], PICKS, 50, 3);
		assert_share(of[1], PICKS, 25, 3);
		world_done(&w);
	}
}

static void test_hash_without_input_is_random(void **state)
{
	(void)state;
	struct world w;
	uint32_t of[HOSTS_MAX];
	world_init(&w, CLUSTER_RING_HASH, 4, NULL);
	world_build(&w);
	picks_count(&w, PICKS, of);
	for (size_t i = 0; i < 4; i++)
		assert_share(of[i], PICKS, 25, 2);
	world_done(&w);
}

static void test_a_table_of_a_bad_size_is_replaced(void **state)
{
	(void)state;
	struct world w;
	world_init(&w, CLUSTER_MAGLEV, 5, NULL);
	w.settings.maglev_size = 1000; /* not a prime */
	world_build(&w);
	assert_non_null(choose_hash(&w, 77));
	world_done(&w);
	struct balance_table *t = NULL;
	assert_int_equal(balance_maglev_new((uint64_t[]){ 1, 2 }, (uint32_t[]){ 1, 1 }, 2, 1000, &t), -EINVAL);
	assert_int_equal(balance_ring_new((uint64_t[]){ 1, 2, 3 }, (uint32_t[]){ 1, 1, 1 }, 3, 1024, &t), 0);
	assert_int_equal(balance_table_size(t), 1026);
	balance_table_free(t);
}

static void test_previous_hosts_are_avoided_while_there_are_others(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(every_lb); i++) {
		struct world w;
		world_init(&w, every_lb[i], 3, NULL);
		world_build(&w);
		const struct balance_host *avoid[] = { &w.hosts[0], &w.hosts[2] };
		struct balance_ask ask = { .now_ns = w.now_ns, .random = &w.random, .avoid = avoid, .avoid_count = 2 };
		for (size_t k = 0; k < 200; k++) {
			ask.has_hash = k % 2;
			ask.hash = balance_mix(k);
			assert_ptr_equal(balance_choose(w.b, &ask), &w.hosts[1]);
		}
		w.hosts[1].ejected = true;
		balance_refresh(w.b, w.now_ns, &w.random);
		assert_non_null(balance_choose(w.b, &ask));
		world_done(&w);
	}
}

static void priorities_init(struct world *w, size_t first, size_t second)
{
	world_init(w, CLUSTER_RANDOM, first + second, NULL);
	for (size_t i = first; i < first + second; i++)
		w->hosts[i].priority = 1;
}

static void first_eject(struct world *w, size_t count)
{
	for (size_t i = 0; i < w->count; i++)
		w->hosts[i].ejected = i < count;
	balance_refresh(w->b, w->now_ns, &w->random);
}

static void test_priorities_spill_over_as_health_falls(void **state)
{
	(void)state;
	/* Healthy of 25 in the first priority -> its share: 1.4 times the percentage healthy. */
	const struct {
		size_t healthy;
		uint32_t share;
	} rows[] = { { 25, 100 }, { 18, 100 }, { 17, 95 }, { 10, 56 }, { 5, 28 }, { 0, 0 } };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct world w;
		bool panic;
		uint32_t of[HOSTS_MAX], first = 0;
		priorities_init(&w, 25, 25);
		world_build(&w);
		first_eject(&w, 25 - rows[i].healthy);
		assert_int_equal(balance_load(w.b, 0, &panic), rows[i].share);
		assert_int_equal(balance_load(w.b, 1, &panic), 100 - rows[i].share);
		assert_false(panic);
		picks_count(&w, PICKS, of);
		for (size_t k = 0; k < 25; k++)
			first += of[k];
		assert_share(first, PICKS, rows[i].share, 1);
		world_done(&w);
	}
}

static void test_failover_goes_to_the_next_priority_when_the_first_is_gone(void **state)
{
	(void)state;
	struct world w;
	bool panic;
	priorities_init(&w, 2, 2);
	world_build(&w);
	assert_int_equal(balance_load(w.b, 0, &panic), 100);
	assert_true(choose(&w)->priority == 0);
	first_eject(&w, 1); /* 50 % * 1.4 */
	assert_int_equal(balance_load(w.b, 0, &panic), 70);
	assert_int_equal(balance_load(w.b, 1, &panic), 30);
	first_eject(&w, 2);
	assert_int_equal(balance_load(w.b, 1, &panic), 100);
	assert_true(choose(&w)->priority == 1);
	first_eject(&w, 0);
	assert_int_equal(balance_load(w.b, 0, &panic), 100);
	world_done(&w);
}

static void test_skipped_priorities_come_last(void **state)
{
	(void)state;
	static const struct {
		uint64_t skip;
		size_t ejected; /* of the first two */
		int want;	/* priority; -1: as without it */
	} rows[] = { { 0, 0, 0 },  { 1, 0, 1 }, { 2, 0, 0 }, { 2, 2, -1 },
		     { 3, 0, -1 }, { 2, 1, 0 }, { 1, 1, 1 }, { 1ull << 63, 0, 0 } };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct world w;
		bool panic;
		priorities_init(&w, 2, 2);
		world_build(&w);
		first_eject(&w, rows[i].ejected);
		for (int k = 0; k < 200; k++) {
			struct balance_ask ask = { .now_ns = w.now_ns, .random = &w.random, .skip = rows[i].skip };
			struct balance_host *h = balance_choose(w.b, &ask);
			assert_non_null(h);
			if (rows[i].want >= 0)
				assert_int_equal(h->priority, rows[i].want);
			else
				assert_true(balance_load(w.b, h->priority, &panic) > 0);
		}
		world_done(&w);
	}
}

static void test_panic_ignores_ejections_below_the_threshold_only(void **state)
{
	(void)state;
	struct world w;
	bool panic;
	uint32_t of[HOSTS_MAX];
	world_init(&w, CLUSTER_ROUND_ROBIN, 10, NULL);
	w.settings.panic_percent = 50;
	w.hosts[9].healthy = false;
	world_build(&w);
	first_eject(&w, 4); /* 5 of 10 healthy: not below 50 % */
	picks_count(&w, 1000, of);
	assert_int_equal(of[0] + of[9], 0);
	assert_int_equal(balance_load(w.b, 0, &panic), 100);
	assert_false(panic);
	first_eject(&w, 5);
	balance_load(w.b, 0, &panic);
	assert_true(panic);
	picks_count(&w, 900, of);
	assert_int_equal(of[0], 100);
	assert_int_equal(of[9], 0); /* not ready is not ejected */
	first_eject(&w, 10);
	assert_non_null(choose(&w));
	world_done(&w);
}

static void test_panic_of_all_priorities_shares_by_size(void **state)
{
	(void)state;
	struct world w;
	bool panic;
	priorities_init(&w, 3, 1);
	w.settings.panic_percent = 10;
	world_build(&w);
	first_eject(&w, 4);
	assert_int_equal(balance_load(w.b, 0, &panic), 75);
	assert_true(panic);
	assert_int_equal(balance_load(w.b, 1, &panic), 25);
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_to_choose_from_is_null),
		cmocka_unit_test(test_the_unhealthy_and_the_ejected_are_never_chosen),
		cmocka_unit_test(test_round_robin_of_equals_is_exact),
		cmocka_unit_test(test_weights_90_to_10_hold_within_one_percent),
		cmocka_unit_test(test_weighted_turns_are_spread_evenly),
		cmocka_unit_test(test_least_request_avoids_the_busy),
		cmocka_unit_test(test_peak_ewma_prefers_the_fast),
		cmocka_unit_test(test_ewma_rises_at_once_and_falls_slowly),
		cmocka_unit_test(test_slow_start_ramps_the_weight),
		cmocka_unit_test(test_slow_start_aggression_bends_the_ramp),
		cmocka_unit_test(test_hash_sticks_and_moves_only_what_must),
		cmocka_unit_test(test_hash_follows_weights),
		cmocka_unit_test(test_hash_without_input_is_random),
		cmocka_unit_test(test_a_table_of_a_bad_size_is_replaced),
		cmocka_unit_test(test_previous_hosts_are_avoided_while_there_are_others),
		cmocka_unit_test(test_priorities_spill_over_as_health_falls),
		cmocka_unit_test(test_failover_goes_to_the_next_priority_when_the_first_is_gone),
		cmocka_unit_test(test_skipped_priorities_come_last),
		cmocka_unit_test(test_panic_ignores_ejections_below_the_threshold_only),
		cmocka_unit_test(test_panic_of_all_priorities_shares_by_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
