/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/turn.h"

static void test_turn_is_open_while_an_answer_is_owed_and_there_is_time(void **state)
{
	static const struct {
		const char *what;
		uint64_t since_ms;
		struct turn turn;
		bool open;
	} cases[] = {
		{ "nobody has asked", 0, { .asked = false }, false },
		{ "the first answer is to come", 0, { true, true, 0, 0 }, true },
		{ "a slow one", 4999, { true, true, 6000, 6000 }, true },
		{ "no more time", 5000, { true, true, 9000, 9000 }, false },
		{ "asked after the last answer", 0, { true, false, 10, 5000 }, true },
		{ "an answer that may go on", 0, { true, false, 5000, 50 }, true },
		{ "in a hurry", 2500, { true, false, 5000, 50 }, false },
		{ "answered, and quiet", 0, { true, false, 5000, 100 }, false },
		{ "within one tick of the kernel's clock", 0, { true, false, 40, 40 }, true },
		{ "the same, and something was said since", 61, { true, false, 40, 40 }, false },
		{ "asked again since", 1000, { true, false, 900, 950 }, false },
		{ "a slow answer to what was asked before", 1000, { true, false, 1001, 3 }, true },
		{ "but long ago", 0, { true, false, 1000, 1000 }, false },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (turn_is_open(&cases[i].turn, cases[i].since_ms) != cases[i].open)
			fail_msg("%s", cases[i].what);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turn_is_open_while_an_answer_is_owed_and_there_is_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
