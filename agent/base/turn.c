/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/turn.h"

enum {
	QUIET_MS = 100,	 /* as long without a byte is between two requests, */
	LULL_MS = 1000,	 /* or as long, where times are too coarse to say who spoke last */
	AFTER_MS = 20,	 /* what was said later than this after the reason is no part of what was under way */
	HURRY_MS = 2500, /* after which any moment is good in which the application has answered */
};

bool turn_is_open(const struct turn *t, uint64_t since_ms)
{
	uint32_t quiet_ms = t->answered_ms < t->asked_ms ? t->answered_ms : t->asked_ms;

	if (!t->asked || since_ms >= TURN_GRACE_MS || since_ms > t->asked_ms + AFTER_MS)
		return false;
	if (t->owed || t->asked_ms < t->answered_ms)
		return true;
	if (t->asked_ms == t->answered_ms)
		return quiet_ms < LULL_MS;
	return quiet_ms < QUIET_MS && since_ms < HURRY_MS;
}
