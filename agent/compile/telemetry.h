/* SPDX-License-Identifier: Apache-2.0 */
/* See telemetry.c. */
#pragma once

#include "agent/compile/build.h"

struct telemetry;

/* *out: a new reference. 0 or -ENOMEM. */
int telemetry_build(const struct compiler *c, const char *ns, const struct label *labels, size_t n,
		    struct telemetry **out, struct notes *notes);
