/* SPDX-License-Identifier: Apache-2.0 */
/* A span as Zipkin v2 JSON, which Jaeger takes too. Pure. */
#pragma once

struct sb;
struct span;

/* Appends one object, without a comma. */
void span_zipkin_add(struct sb *list, const struct span *s);
