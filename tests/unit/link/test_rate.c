/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "agent/base/loop.h"
#include "agent/base/table.h"
#include "agent/link/supervisor_internal.h"

enum { SECOND = 1000000000 };

static void test_rate_take_burst_then_interval(void **state)
{
	(void)state;
	struct rate r = RATE(10, 5);
	uint64_t now = 100ull * SECOND;
	for (int i = 0; i < 5; i++)
		assert_true(rate_take(&r, now, 1));
	assert_false(rate_take(&r, now, 1));
	assert_false(rate_take(&r, now + SECOND / 10 - 1, 1));
	assert_true(rate_take(&r, now + SECOND / 10, 1));
	assert_false(rate_take(&r, now + SECOND / 10, 1));
}

static void test_rate_take_idle_fills_no_more_than_burst(void **state)
{
	(void)state;
	struct rate r = RATE(10, 5);
	assert_true(rate_take(&r, SECOND, 5));
	assert_true(rate_take(&r, 1000ull * SECOND, 5));
	assert_false(rate_take(&r, 1000ull * SECOND, 1));
}

static void test_rate_take_more_than_is_left_takes_nothing(void **state)
{
	(void)state;
	struct rate r = RATE(10, 5);
	assert_true(rate_take(&r, SECOND, 3));
	assert_false(rate_take(&r, SECOND, 3));
	assert_true(rate_take(&r, SECOND, 2));
	assert_false(rate_take(&r, SECOND, 1000000));
}

/* The loop does not run, so that no time passes for the peer. */
static void test_peer_message_flood_condemns(void **state)
{
	(void)state;
	struct loop *loop;
	uint8_t bytes[64];
	assert_int_equal(loop_new(&loop, NULL), 0);
	struct supervisor s = { .loop = loop };
	struct peer peer = { .s = &s, .ready = true, .process = { .pidfd = -1 }, .message_rate = RATE(50, 200) };
	Weft__Link__Ready ready = WEFT__LINK__READY__INIT;
	Weft__Link__ToAgent m = WEFT__LINK__TO_AGENT__INIT;
	ready.version = LINK_VERSION;
	m.msg_case = WEFT__LINK__TO_AGENT__MSG_READY;
	m.ready = &ready;
	size_t len = weft__link__to_agent__pack(&m, bytes);
	for (int i = 0; i < 200; i++)
		peer_on_message(bytes, len, NULL, 0, &peer);
	assert_false(peer.condemned);
	peer_on_message(bytes, len, NULL, 0, &peer);
	assert_true(peer.condemned);
	assert_int_equal(s.protocol_errors, 1);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate_take_burst_then_interval),
		cmocka_unit_test(test_rate_take_idle_fills_no_more_than_burst),
		cmocka_unit_test(test_rate_take_more_than_is_left_takes_nothing),
		cmocka_unit_test(test_peer_message_flood_condemns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
