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
		struct turn turn;
		uint64_t since_ms;
		bool open;
		const char *what;
	} cases[] = {
		{ { .asked = false }, 0, false, "nobody has asked" },
		{ { true, true, 0, 0 }, 0, true, "the first answer is to come" },
		{ { true, true, 4000, 4000 }, 4999, true, "a slow one" },
		{ { true, true, 9000, 9000 }, 5000, false, "no more time" },
		{ { true, false, 10, 5000 }, 0, true, "asked after the last answer" },
		{ { true, false, 5000, 50 }, 0, true, "an answer that may go on" },
		{ { true, false, 5000, 50 }, 2500, false, "in a hurry" },
		{ { true, false, 5000, 100 }, 0, false, "answered, and quiet" },
		{ { true, false, 40, 40 }, 0, true, "within one tick of the kernel's clock" },
		{ { true, false, 40, 40 }, 4999, true, "the same" },
		{ { true, false, 1000, 1000 }, 0, false, "but long ago" },
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
