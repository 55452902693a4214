/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"

enum { LABELS_MAX = 64, NAME_MAX_BYTES = 512 };

struct label_text {
	const char *name, *value;
	size_t name_len, value_len; /* value: as written, escapes and all */
};

struct line {
	const char *name;
	size_t name_len;
	struct label_text labels[LABELS_MAX];
	size_t label_count;
	double value;
};

/* --- Prometheus text --- */

static bool labels_parse(const char **at, const char *end, struct line *l)
{
	const char *p = *at + 1;

	while (p < end && *p != '}') {
		const char *equals = memchr(p, '=', (size_t)(end - p));
		if (!equals || equals + 1 >= end || equals[1] != '"')
			return false;
		const char *value = equals + 2, *q = value;
		while (q < end && *q != '"')
			q += *q == '\\' ? 2 : 1;
		if (q >= end)
			return false;
		if (l->label_count < LABELS_MAX)
			l->labels[l->label_count++] =
				(struct label_text){ p, value, (size_t)(equals - p), (size_t)(q - value) };
		p = q + 1;
		if (p < end && *p == ',')
			p++;
	}
	*at = p + 1;
	return p < end;
}

/* "name{label=\"value\",...} 12.5", perhaps with more behind it. */
static bool line_parse(const char *p, const char *end, struct line *l)
{
	*l = (struct line){ .name = p };
	while (p < end && *p != '{' && *p != ' ')
		p++;
	l->name_len = (size_t)(p - l->name);
	if (p < end && *p == '{' && !labels_parse(&p, end, l))
		return false;
	char *stop = NULL;
	char number[64];
	while (p < end && *p == ' ')
		p++;
	size_t n = 0;
	while (p < end && *p != ' ' && n + 1 < sizeof(number))
		number[n++] = *p++;
	number[n] = 0;
	l->value = strtod(number, &stop);
	return n > 0 && !*stop && l->value >= 0;
}

static bool name_is(const struct line *l, const char *name)
{
	return strlen(name) == l->name_len && memcmp(name, l->name, l->name_len) == 0;
}

static const struct label_text *label(const struct line *l, const char *name)
{
	for (size_t i = 0; i < l->label_count; i++)
		if (strlen(name) == l->labels[i].name_len && !memcmp(name, l->labels[i].name, l->labels[i].name_len))
			return &l->labels[i];
	return NULL;
}

static bool label_is(const struct line *l, const char *name, const char *value)
{
	const struct label_text *t = label(l, name);
	return t && strlen(value) == t->value_len && memcmp(value, t->value, t->value_len) == 0;
}

static void append(char *out, size_t size, const struct label_text *t)
{
	size_t have = strlen(out), n = t && t->value_len < size - have - 1 ? t->value_len : 0;

	if (n)
		memcpy(out + have, t->value, n);
	out[have + n] = 0;
}

/* Under what a series is counted. */
static void group_name(const struct line *l, enum top_by by, char out[NAME_MAX_BYTES])
{
	static const char *const keys[][2] = {
		[TOP_BY_SERVICE] = { NULL, "destination_service" },
		[TOP_BY_WORKLOAD] = { "destination_workload_namespace", "destination_workload" },
		[TOP_BY_SOURCE] = { "source_workload_namespace", "source_workload" },
	};

	out[0] = 0;
	if (keys[by][0]) {
		append(out, NAME_MAX_BYTES, label(l, keys[by][0]));
		append(out, NAME_MAX_BYTES, &(struct label_text){ .value = "/", .value_len = 1 });
	}
	append(out, NAME_MAX_BYTES, label(l, keys[by][1]));
	if (!*out)
		str_copy(out, NAME_MAX_BYTES, "unknown");
}

/* --- a reading --- */

static int bound_index(struct top_reading *r, double bound)
{
	for (size_t i = 0; i < r->bound_count; i++)
		if (r->bounds[i] >= bound)
			return r->bounds[i] > bound ? -1 : (int)i;
	if (r->bound_count == TOP_BUCKETS_MAX)
		return -1;
	r->bounds[r->bound_count] = bound;
	return (int)r->bound_count++;
}

static void add(struct top_reading *r, struct top_group *g, const struct line *l)
{
	if (name_is(l, "istio_requests_total")) {
		const struct label_text *code = label(l, "response_code"), *grpc = label(l, "grpc_response_status");
		bool failed = code && code->value_len && (code->value[0] == '5' || code->value[0] == '0');
		failed |= grpc && grpc->value_len && !(grpc->value_len == 1 && grpc->value[0] == '0');
		g->requests += l->value;
		g->failed += failed ? l->value : 0;
	} else if (name_is(l, "istio_request_duration_milliseconds_bucket")) {
		const struct label_text *le = label(l, "le");
		char text[64] = "";
		append(text, sizeof(text), le);
		int i = *text ? bound_index(r, strtod(text, NULL)) : -1; /* "+Inf" is infinity */
		if (i >= 0)
			g->buckets[i] += l->value;
	} else if (name_is(l, "istio_request_bytes_sum")) {
		g->received_bytes += l->value;
	} else if (name_is(l, "istio_response_bytes_sum")) {
		g->sent_bytes += l->value;
	}
}

int top_read(const char *metrics, enum top_by by, const char *reporter, struct top_reading *out)
{
	struct line l;

	*out = (struct top_reading){ .groups = table_new(free) };
	if (!out->groups)
		return -ENOMEM;
	for (const char *p = metrics, *end; *p; p = *end ? end + 1 : end) {
		char name[NAME_MAX_BYTES];
		end = p + strcspn(p, "\n");
		if (!str_starts(p, "istio_re") || !line_parse(p, end, &l) || !label_is(&l, "reporter", reporter))
			continue;
		group_name(&l, by, name);
		struct top_group *g = table_get_str(out->groups, name);
		if (!g && table_count(out->groups) < TOP_GROUPS_MAX) {
			g = calloc(1, sizeof(*g));
			if (!g || table_set_str(out->groups, name, g) < 0) {
				free(g);
				return -ENOMEM;
			}
		}
		if (g)
			add(out, g, &l);
	}
	return 0;
}

void top_reading_done(struct top_reading *r)
{
	table_free(r->groups);
	*r = (struct top_reading){ 0 };
}

/* --- between two --- */

double top_quantile(const double *bounds, const double *cumulative, size_t n, double q)
{
	double total = n ? cumulative[n - 1] : 0, rank = total * q;

	if (total <= 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (cumulative[i] < rank)
			continue;
		double below = i ? cumulative[i - 1] : 0, from = i ? bounds[i - 1] : 0, in = cumulative[i] - below;
		if (isinf(bounds[i]))
			return from; /* at least that */
		return in > 0 ? from + (bounds[i] - from) * (rank - below) / in : bounds[i];
	}
	return bounds[n - 1];
}

static double grown(double before, double now)
{
	return now >= before ? now - before : now;
}

static void row_fill(const struct top_reading *now, const struct top_group *a, const struct top_group *b,
		     double seconds, struct top_row *row)
{
	double buckets[TOP_BUCKETS_MAX];
	/* All that is counted begins anew at once; or the agent has forgotten labels that were long unused, which is some of it:
	 * then this time nothing is known. */
	static const struct top_group none = { 0 };
	const struct top_group *from = !a			     ? &none :
				       b->requests >= a->requests    ? a :
				       b->requests > a->requests / 2 ? b :
								       &none;
	double requests = grown(from->requests, b->requests), failed = grown(from->failed, b->failed);

	row->requests = requests / seconds;
	row->success = failed < requests ? 1 - failed / requests : 0;
	row->received_bytes = grown(from->received_bytes, b->received_bytes) / seconds;
	row->sent_bytes = grown(from->sent_bytes, b->sent_bytes) / seconds;
	for (size_t i = 0; i < now->bound_count; i++)
		buckets[i] = grown(from->buckets[i], b->buckets[i]);
	row->p50_ms = top_quantile(now->bounds, buckets, now->bound_count, 0.5);
	row->p90_ms = top_quantile(now->bounds, buckets, now->bound_count, 0.9);
	row->p99_ms = top_quantile(now->bounds, buckets, now->bound_count, 0.99);
}

static int cmp_rows(const void *a, const void *b)
{
	const struct top_row *x = a, *y = b;

	if (x->requests > y->requests)
		return -1;
	return x->requests < y->requests ? 1 : strcmp(x->name, y->name);
}

int top_diff(const struct top_reading *before, const struct top_reading *now, double seconds, struct top_rows *out)
{
	struct table_iter it = { 0 };

	while (table_next(now->groups, &it)) {
		const struct top_group *b = it.value;
		AUTO(mem_freep) char *name = strndup(it.key, it.key_len);
		if (!name || mem_reserve(&out->v, &out->cap, out->n + 1, sizeof(*out->v)) < 0)
			return -ENOMEM;
		const struct top_group *a = table_get_str(before->groups, name);
		if (a && a->requests == b->requests)
			continue;
		struct top_row *row = &out->v[out->n++];
		*row = (struct top_row){ .name = TAKE(name) };
		row_fill(now, a, b, seconds, row);
	}
	if (out->n)
		qsort(out->v, out->n, sizeof(*out->v), cmp_rows);
	return 0;
}

void top_rows_done(struct top_rows *rows)
{
	for (size_t i = 0; i < rows->n; i++)
		free(rows->v[i].name);
	free(rows->v);
	*rows = (struct top_rows){ 0 };
}
