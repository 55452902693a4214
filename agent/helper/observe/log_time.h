/* SPDX-License-Identifier: Apache-2.0 */
/* Times as access logs show them. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sb;

bool log_time_add(struct sb *out, uint64_t ns); /* "2026-11-21T16:00:00.123Z"; ns: CLOCK_REALTIME. false: none */
/* By strftime's words, in UTC, with Envoy's additions for fractions of a second. false: it is no such format. */
bool log_time_format(struct sb *out, uint64_t ns, const char *format, size_t len);
