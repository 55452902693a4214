/* SPDX-License-Identifier: Apache-2.0 */
/* Spans to collectors: a bounded queue for each provider of the mesh, sent in batches, one at a time; what a collector
 * does not take is dropped and counted. One loop thread. */
#pragma once

#include "agent/model/plan.h"

#include <stddef.h>
#include <stdint.h>

struct err;
struct exporters;
struct loop;

/* Where a provider's service is now: "address:port" (IPv6 in brackets) into buf, or false: not known. */
typedef bool (*exporters_locate_fn)(const struct trace_provider *p, char *buf, size_t size, void *arg);

struct exporters_options {
	struct loop *loop;
	const char *node;
	exporters_locate_fn locate;
	void *arg;
};

int exporters_new(const struct exporters_options *options, struct exporters **out, struct err *err);
void exporters_free(struct exporters *e);
/* The providers from now on, copied; queues of those that stay are kept. 0 or -ENOMEM. */
int exporters_set(struct exporters *e, const struct trace_provider *providers, size_t count);
/* A batch in the form of link/span.h. What is not one is dropped. */
void exporters_add(struct exporters *e, const uint8_t *batch, size_t len);

/* A line of an access log whose provider is a TRACE_OTLP_LOGS. What is none (see log_otlp.h) is dropped. */
void exporters_add_line(struct exporters *e, const char *provider, const char *line, size_t len);

struct exporters_stats {
	uint64_t exported, dropped, failures; /* spans, spans, requests */
	uint64_t lines_exported, lines_dropped;
};
void exporters_stats(const struct exporters *e, struct exporters_stats *out);
