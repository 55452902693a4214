/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the Prometheus text formats: families, labels with escaping, numbers. Internal to agent/telemetry; pure. */
#pragma once

/* Istio's name of the only cluster that there is, as its own default: what source_cluster and destination_cluster say. */
#define EXPOSITION_CLUSTER "Kubernetes"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sb;

struct exposition {
	struct sb *out;
	bool openmetrics;
};

enum { EXPOSITION_GAUGE, EXPOSITION_COUNTER, EXPOSITION_HISTOGRAM };

/* name: of the samples, so with _total for a counter. help: one sentence. */
void exposition_family(struct exposition *e, const char *name, int type, const char *help);
/* labels: as exposition_label() builds them, or "". */
void exposition_u64(struct exposition *e, const char *name, const char *labels, uint64_t value);
void exposition_double(struct exposition *e, const char *name, const char *labels, double value);
/* counts[n]: each bucket alone, the last being +Inf; bounds_us[n - 1]; sum_us: of all observations. */
void exposition_histogram_us(struct exposition *e, const char *name, const char *labels, const uint32_t *bounds_us,
			     const uint64_t *counts, size_t n, uint64_t sum_us);
/* The same with bounds in thousandths and the sum as it is to be shown. */
void exposition_histogram_milli(struct exposition *e, const char *name, const char *labels,
				const uint64_t *bounds_milli, const uint64_t *counts, size_t n, double sum);
void exposition_end(struct exposition *e);
/* Appends key="value" (with a comma before it when it is not the first), value escaped; NULL or "": "unknown". */
void exposition_label(struct sb *labels, const char *key, const char *value);
