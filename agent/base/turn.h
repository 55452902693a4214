/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is on a connection of requests and answers, from what TCP knows: when bytes went which way last. It lets a
 * connection that has to end do so between two requests. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct turn {
	bool asked;			/* the client has said something */
	bool owed;			/* nothing was answered yet, or not all of it has arrived */
	uint32_t asked_ms, answered_ms; /* since the client and the application said something last */
};

enum { TURN_GRACE_MS = 5000, TURN_LOOK_MS = 250 };

/* Whether a request is under way, and there is time to wait for its answer: since_ms after the reason to end it came up,
 * never more than TURN_GRACE_MS, and not for a client that has said more since. */
bool turn_is_open(const struct turn *turn, uint64_t since_ms);
