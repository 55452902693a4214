/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/loop.h"
#include "agent/helper/transport_pair.h"
#include "agent/model/identity.h"
#include "tests/unit/transport/rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct two {
	struct told a, b;
};

static void pair(struct worker *w, struct two *two)
{
	*two = (struct two){ .a = { .take = SIZE_MAX }, .b = { .take = SIZE_MAX } };
	assert_int_equal(transport_pair_new(w, &two->a.t, &two->b.t), 0);
	transport_on(two->a.t, &told_events, &two->a);
	transport_on(two->b.t, &told_events, &two->b);
}

static void two_done(struct worker *w, struct two *two)
{
	told_done(&two->a);
	told_done(&two->b);
	rig_run(w, 3); /* rig_teardown() looks at what is still counted */
	assert_int_equal(w->metrics.buffers_bytes, 0);
}

static void test_pair_write_arrives_at_tick_end(void **state)
{
	struct worker *w = *state;
	struct two x;
	pair(w, &x);
	assert_int_equal(rig_write(x.a.t, "one ", 4), 4);
	assert_int_equal(rig_write(x.a.t, "two", 3), 3);
	assert_int_equal(rig_write(x.b.t, "back", 4), 4);
	assert_int_equal(transport_queued(x.a.t), 7);
	assert_int_equal(x.b.received, 0); /* never from inside */
	rig_until_bytes(w, &x.b, 7);
	rig_until_bytes(w, &x.a, 4);
	assert_int_equal(transport_queued(x.a.t), 0);
	assert_memory_equal(x.b.data.p, "one two", 7);
	assert_memory_equal(x.a.data.p, "back", 4);
	two_done(w, &x);
}

static void test_pair_without_events_waits_for_them(void **state)
{
	struct worker *w = *state;
	struct two x = { .a = { .take = SIZE_MAX }, .b = { .take = SIZE_MAX } };
	assert_int_equal(transport_pair_new(w, &x.a.t, &x.b.t), 0);
	transport_on(x.a.t, &told_events, &x.a);
	rig_write(x.a.t, "early", 5);
	rig_run(w, 3);
	transport_on(x.b.t, &told_events, &x.b);
	rig_until_bytes(w, &x.b, 5);
	two_done(w, &x);
}

static void test_pair_bounds_what_is_not_taken(void **state)
{
	struct worker *w = *state;
	struct two x;
	uint8_t *big = calloc(1, TRANSPORT_QUEUE + 1000);
	for (size_t i = 0; i < TRANSPORT_QUEUE + 1000; i++)
		big[i] = (uint8_t)(i * 31 >> 3);
	pair(w, &x);
	x.b.take = 100;
	assert_int_equal(rig_write(x.a.t, big, TRANSPORT_QUEUE + 1000), TRANSPORT_QUEUE);
	assert_int_equal(rig_write(x.a.t, big, 1), 0);
	rig_until_bytes(w, &x.b, 100);
	rig_run(w, 3);
	assert_int_equal(x.b.received, 100); /* not offered again before it is asked for */
	assert_int_equal(x.a.rooms, 0);
	x.b.take = SIZE_MAX;
	transport_resume(x.b.t);
	assert_int_equal(x.b.received, TRANSPORT_QUEUE);
	assert_int_equal(x.a.rooms, 0); /* not from inside an operation of the other's */
	rig_until(w, &x.a.rooms, 1);
	rig_run(w, 3);
	assert_int_equal(x.a.rooms, 1);
	assert_int_equal(rig_write(x.a.t, big + TRANSPORT_QUEUE, 1000), 1000);
	rig_until_bytes(w, &x.b, TRANSPORT_QUEUE + 1000);
	assert_memory_equal(x.b.data.p, big, TRANSPORT_QUEUE + 1000);
	free(big);
	two_done(w, &x);
}

static void test_pair_room_is_told_to_either_end(void **state)
{
	struct worker *w = *state;
	struct two x;
	uint8_t *big = calloc(1, TRANSPORT_QUEUE + 1);
	pair(w, &x);
	x.a.count_only = x.b.count_only = true;
	rig_write(x.a.t, big, TRANSPORT_QUEUE + 1);
	rig_write(x.b.t, big, TRANSPORT_QUEUE + 1);
	rig_until(w, &x.a.rooms, 1);
	rig_until(w, &x.b.rooms, 1);
	rig_run(w, 3);
	assert_int_equal(x.a.rooms, 1);
	assert_int_equal(x.b.rooms, 1);
	free(big);
	two_done(w, &x);
}

static void test_pair_end_comes_after_the_bytes_and_once(void **state)
{
	struct worker *w = *state;
	struct two x;
	pair(w, &x);
	x.b.take = 2;
	rig_write(x.a.t, "last", 4);
	transport_end(x.a.t);
	rig_run(w, 3);
	assert_int_equal(x.b.received, 2);
	assert_int_equal(x.b.ends, 0);
	x.b.take = SIZE_MAX;
	transport_resume(x.b.t);
	assert_int_equal(x.b.ends, 0);
	rig_until(w, &x.b.ends, 1);
	/* the other half still carries */
	rig_write(x.b.t, "answer", 6);
	rig_until_bytes(w, &x.a, 6);
	rig_run(w, 3);
	assert_int_equal(x.b.ends, 1);
	assert_int_equal(x.a.ends + x.a.broken + x.b.broken, 0);
	two_done(w, &x);
}

static void test_pair_close_sends_what_is_queued(void **state)
{
	struct worker *w = *state;
	struct two x;
	pair(w, &x);
	rig_write(x.a.t, "bye", 3);
	transport_close(x.a.t, false);
	x.a.t = NULL;
	assert_int_equal(rig_write(x.b.t, "nobody reads this", 17), 17);
	rig_until(w, &x.b.ends, 1);
	assert_int_equal(x.b.received, 3);
	assert_int_equal(x.b.broken, 0);
	rig_write(x.b.t, "more", 4); /* it knew */
	rig_until(w, &x.b.broken, 1);
	assert_int_equal(x.b.error, -EPIPE);
	two_done(w, &x);
}

static void test_pair_abort_breaks_the_other_end(void **state)
{
	struct worker *w = *state;
	struct two x;
	pair(w, &x);
	rig_write(x.a.t, "lost", 4);
	transport_close(x.a.t, true);
	x.a.t = NULL;
	assert_int_equal(x.b.broken, 0);
	rig_until(w, &x.b.broken, 1);
	assert_int_equal(x.b.error, -ECONNRESET);
	assert_int_equal(x.b.received, 0);
	assert_int_equal(x.b.ends, 0);
	two_done(w, &x);
}

static void test_pair_starved_end_of_an_aborted_one_is_told_once(void **state)
{
	struct worker *w = *state;
	struct two x;
	uint8_t *big = calloc(1, TRANSPORT_QUEUE + 1);
	pair(w, &x);
	x.b.take = 0;
	rig_write(x.a.t, big, TRANSPORT_QUEUE + 1);
	rig_run(w, 2);
	transport_close(x.b.t, true);
	x.b.t = NULL;
	rig_until(w, &x.a.broken, 1);
	assert_int_equal(x.a.rooms, 0);
	free(big);
	two_done(w, &x);
}

static void test_pair_closed_from_inside_its_event(void **state)
{
	struct worker *w = *state;
	for (int i = 0; i < 2; i++) {
		struct two x;
		pair(w, &x);
		x.b.close_on_data = i == 0;
		x.b.abort_on_data = i == 1;
		rig_write(x.a.t, "close", 5);
		rig_write(x.b.t, "before", 6);
		rig_until(w, i ? &x.a.broken : &x.a.ends, 1);
		assert_null(x.b.t);
		assert_int_equal(x.a.received, 6); /* the first end is served first */
		two_done(w, &x);
	}
}

static void test_pair_peer_lives_as_long_as_the_end(void **state)
{
	struct worker *w = *state;
	struct two x;
	struct identity *id = identity_new("cluster.local", "shop", "web");
	pair(w, &x);
	transport_pair_identify(x.b.t, identity_ref(id));
	assert_ptr_equal(x.b.t->peer, id);
	assert_int_equal(id->refs, 2);
	two_done(w, &x);
	assert_int_equal(id->refs, 1);
	identity_unref(id);
}

static void test_pair_outlives_its_worker_closed(void **state)
{
	struct worker *w = *state;
	struct two x;
	pair(w, &x);
	rig_write(x.a.t, "never told", 10);
	sb_done(&x.a.data);
	(void)w; /* rig_teardown() cuts it */
}

/* Any order of writes, half closes, resumes, closes: what arrives is a prefix of what was taken, and all of it when nobody
 * aborted. */
struct walker {
	struct told told;
	uint64_t sent;
	bool ended;
};

static uint32_t next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void walk_step(struct walker *me, uint32_t *seed, uint8_t *bytes, size_t max)
{
	if (!me->told.t)
		return;
	switch (next(seed) % 16) {
	case 0:
		transport_end(me->told.t);
		me->ended = true;
		break;
	case 1:
		me->told.take = next(seed) % 5000;
		break;
	case 2:
	case 3:
	case 4:
		me->told.take = SIZE_MAX;
		transport_resume(me->told.t);
		break;
	case 5:
		if (next(seed) % 8 == 0) {
			transport_close(me->told.t, next(seed) % 2);
			me->told.t = NULL;
		}
		break;
	default:
		if (me->ended)
			break;
		size_t n = next(seed) % max;
		for (size_t i = 0; i < n; i++)
			bytes[i] = (uint8_t)((me->sent + i) * 7);
		me->sent += rig_write(me->told.t, bytes, n);
	}
}

static void check_prefix(const struct walker *from, const struct walker *to)
{
	assert_true(to->told.data.len <= from->sent);
	for (size_t i = 0; i < to->told.data.len; i++)
		if ((uint8_t)to->told.data.p[i] != (uint8_t)(i * 7))
			fail_msg("byte %zu is wrong", i);
	assert_true(to->told.ends + to->told.broken <= 2);
}

static void test_pair_random_stories(void **state)
{
	struct worker *w = *state;
	enum { MAX = 60000 };
	uint8_t *bytes = malloc(MAX);
	for (uint32_t story = 1; story <= 40; story++) {
		uint32_t seed = story * 2654435761u;
		struct walker x[2] = { { .told.take = SIZE_MAX }, { .told.take = SIZE_MAX } };
		assert_int_equal(transport_pair_new(w, &x[0].told.t, &x[1].told.t), 0);
		transport_on(x[0].told.t, &told_events, &x[0].told);
		transport_on(x[1].told.t, &told_events, &x[1].told);
		for (int step = 0; step < 40; step++) {
			walk_step(&x[next(&seed) % 2], &seed, bytes, next(&seed) % 4 ? 300 : MAX);
			if (next(&seed) % 3 == 0)
				rig_run(w, 1);
		}
		bool whole = x[0].told.t && x[1].told.t;
		for (int i = 0; i < 2; i++) {
			x[i].told.take = SIZE_MAX;
			if (x[i].told.t)
				transport_resume(x[i].told.t);
		}
		rig_run(w, 3);
		check_prefix(&x[0], &x[1]);
		check_prefix(&x[1], &x[0]);
		if (whole) {
			assert_int_equal(x[0].sent, x[1].told.received);
			assert_int_equal(x[1].sent, x[0].told.received);
			assert_int_equal(x[1].told.ends, x[0].ended);
			assert_int_equal(x[0].told.ends, x[1].ended);
		}
		told_done(&x[0].told);
		told_done(&x[1].told);
		rig_run(w, 2);
		assert_int_equal(w->metrics.buffers_bytes, 0);
	}
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_pair_write_arrives_at_tick_end),
		RIG_TEST(test_pair_without_events_waits_for_them),
		RIG_TEST(test_pair_bounds_what_is_not_taken),
		RIG_TEST(test_pair_room_is_told_to_either_end),
		RIG_TEST(test_pair_end_comes_after_the_bytes_and_once),
		RIG_TEST(test_pair_close_sends_what_is_queued),
		RIG_TEST(test_pair_abort_breaks_the_other_end),
		RIG_TEST(test_pair_starved_end_of_an_aborted_one_is_told_once),
		RIG_TEST(test_pair_closed_from_inside_its_event),
		RIG_TEST(test_pair_peer_lives_as_long_as_the_end),
		RIG_TEST(test_pair_outlives_its_worker_closed),
		RIG_TEST(test_pair_random_stories),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
