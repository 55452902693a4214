/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/telemetry/exposition.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"

static const char *const type_names[] = { "gauge", "counter", "histogram" };

void exposition_family(struct exposition *e, const char *name, int type, const char *help)
{
	size_t len = strlen(name);

	if (e->openmetrics && type == EXPOSITION_COUNTER && str_ends(name, "_total"))
		len -= strlen("_total");
	sb_addf(e->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)len, name, help, (int)len, name, type_names[type]);
}

static void sample_name(struct exposition *e, const char *name, const char *labels)
{
	sb_add(e->out, name);
	if (*labels)
		sb_addf(e->out, "{%s}", labels);
}

void exposition_u64(struct exposition *e, const char *name, const char *labels, uint64_t value)
{
	sample_name(e, name, labels);
	sb_addf(e->out, " %" PRIu64 "\n", value);
}

void exposition_double(struct exposition *e, const char *name, const char *labels, double value)
{
	sample_name(e, name, labels);
	sb_addf(e->out, " %.9g\n", value);
}

static void bucket(struct exposition *e, const char *name, const char *labels, const char *le, uint64_t count)
{
	sb_addf(e->out, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", name, labels, *labels ? "," : "", le, count);
}

/* OpenMetrics wants canonical floats: "1.0", not "1". */
static void bound_text(const struct exposition *e, double bound, char le[32])
{
	snprintf(le, 32, "%.10g", bound);
	if (e->openmetrics && !strpbrk(le, ".e"))
		str_copy(le + strlen(le), 32 - strlen(le), ".0");
}

static void histogram_end(struct exposition *e, const char *name, const char *labels, double sum, uint64_t count)
{
	bucket(e, name, labels, "+Inf", count);
	sb_addf(e->out, "%s_sum", name);
	if (*labels)
		sb_addf(e->out, "{%s}", labels);
	sb_addf(e->out, " %.12g\n%s_count", sum, name);
	if (*labels)
		sb_addf(e->out, "{%s}", labels);
	sb_addf(e->out, " %" PRIu64 "\n", count);
}

void exposition_histogram_us(struct exposition *e, const char *name, const char *labels, const uint32_t *bounds_us,
			     const uint64_t *counts, size_t n, uint64_t sum_us)
{
	uint64_t total = 0;
	char le[32];

	for (size_t i = 0; i + 1 < n; i++) {
		total += counts[i];
		bound_text(e, bounds_us[i] / 1e6, le);
		bucket(e, name, labels, le, total);
	}
	histogram_end(e, name, labels, (double)sum_us / 1e6, total + counts[n - 1]);
}

void exposition_histogram_milli(struct exposition *e, const char *name, const char *labels,
				const uint64_t *bounds_milli, const uint64_t *counts, size_t n, double sum)
{
	uint64_t total = 0;
	char le[32];

	for (size_t i = 0; i + 1 < n; i++) {
		total += counts[i];
		bound_text(e, (double)bounds_milli[i] / 1000, le);
		bucket(e, name, labels, le, total);
	}
	histogram_end(e, name, labels, sum, total + counts[n - 1]);
}

void exposition_end(struct exposition *e)
{
	sb_add(e->out, "# EOF\n");
}

void exposition_label(struct sb *labels, const char *key, const char *value)
{
	if (labels->len)
		sb_add(labels, ",");
	sb_addf(labels, "%s=\"", key);
	for (const char *p = value && *value ? value : "unknown"; *p; p++) {
		if (*p == '\\' || *p == '"')
			sb_addf(labels, "\\%c", *p);
		else if (*p == '\n')
			sb_add(labels, "\\n");
		else
			sb_add_bytes(labels, p, 1);
	}
	sb_add(labels, "\"");
}
