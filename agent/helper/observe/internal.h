/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this folder: one worker's state. Worker's thread. */
#pragma once

#include "agent/helper/observe/record.h"

#include <stdint.h>

struct observe {
	struct worker *w;
	uint64_t random[2];
};

uint64_t observe_random(struct observe *o);
