/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of access logs as OpenTelemetry's log records. Pure. */
#pragma once

#include <stddef.h>

struct sb;

/* Appends a request of one record; several behind one another are one request. The line is the helper's, by the template
 * that agent/compile/telemetry.c made: {"t": nanoseconds, "p": pod, "b": body, "a": attributes}. 0, -EINVAL: it is none, or
 * -ENOMEM. */
int log_otlp_add(struct sb *request, const char *line, size_t len, const char *node);
