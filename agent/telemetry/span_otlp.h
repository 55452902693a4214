/* SPDX-License-Identifier: Apache-2.0 */
/* A span in OpenTelemetry's protobuf form. Pure. */
#pragma once

struct sb;
struct span;

/* Appends one ResourceSpans to an ExportTraceServiceRequest: requests of one, one behind the other, are a request of
 * several. 0 or -ENOMEM. */
int span_otlp_add(struct sb *request, const struct span *s, const char *node);
