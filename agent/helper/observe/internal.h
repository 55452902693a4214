/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this folder: one worker's state. Worker's thread. */
#pragma once

#include "agent/helper/observe/record.h"

#include <stdint.h>

struct access_logs;
struct request_counts;
struct spans;

struct observe {
	struct worker *w;
	struct request_counts *counts; /* made with the first request, as the rest */
	struct access_logs *logs;
	struct spans *spans;
	uint64_t random[2];
};

uint64_t observe_random(struct observe *o);
