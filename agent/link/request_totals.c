/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's side of the shared counts. The memory is a helper's, which may write anything into it at any moment: indexes
 * and lengths are read once and kept within bounds, labels are copied before they are looked at, and what they hold is
 * made fit to be shown. Numbers are only added up. */
#include "agent/link/request_metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/model/telemetry.h"

struct request_totals {
	struct table *by_key; /* metrics and labels -> struct request_series in rows */
	struct request_series **rows;
	size_t count, cap;
	uint64_t unplaced;
};

int request_totals_new(struct request_totals **out)
{
	struct request_totals *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->by_key = table_new(NULL);
	if (!t->by_key) {
		free(t);
		return -ENOMEM;
	}
	*out = t;
	return 0;
}

void request_totals_free(struct request_totals *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		free(t->rows[i]);
	free(t->rows);
	table_free(t->by_key);
	free(t);
}

/* --- labels --- */

/* Bytes of the UTF-8 sequence at p (RFC 3629: shortest form, no surrogates, up to 10FFFF); 0: it is none. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	unsigned char c = p[0];
	if (c < 0x80)
		return c >= 0x20 && c != 0x7f;
	size_t len = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
	if (!len || n < len)
		return 0;
	unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return len;
}

/* The NULs between them stay. */
static void labels_clean(char *key, size_t len)
{
	unsigned char *p = (unsigned char *)key;
	for (size_t i = 0; i < len;) {
		size_t n = p[i] ? utf8_len(p + i, len - i) : 1;
		if (!n)
			p[i] = '?';
		i += n ? n : 1;
	}
}

size_t request_series_labels(const struct request_series *s, const char *values[], size_t max)
{
	size_t count = 0, at = 0;
	while (at < s->key_len && count < max) {
		const char *end = memchr(s->key + at, 0, s->key_len - at);
		if (!end)
			break;
		values[count++] = s->key + at;
		at = (size_t)(end - s->key) + 1;
	}
	return count;
}

/* --- sums --- */

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void histogram_sum(struct request_histogram *to, const struct request_histogram *from)
{
	to->sum += load(&from->sum);
	for (size_t i = 0; i < REQUEST_BUCKETS; i++)
		to->buckets[i] += load(&from->buckets[i]);
}

static void series_sum(struct request_series *to, const struct request_series *from)
{
	to->requests += load(&from->requests);
	to->grpc_request_messages += load(&from->grpc_request_messages);
	to->grpc_response_messages += load(&from->grpc_response_messages);
	histogram_sum(&to->duration, &from->duration);
	histogram_sum(&to->request_bytes, &from->request_bytes);
	histogram_sum(&to->response_bytes, &from->response_bytes);
}

struct totals_key {
	uint32_t metrics;
	char key[REQUEST_KEY_MAX];
};

/* The row of these labels; when there are too many, the one without any. NULL: no memory. */
static struct request_series *totals_row(struct request_totals *t, const struct totals_key *key, size_t len)
{
	size_t size = offsetof(struct totals_key, key) + len;
	struct request_series *row = table_get(t->by_key, key, size);
	if (row)
		return row;
	if (t->count >= REQUEST_TOTALS_MAX && len) {
		struct totals_key none = { .metrics = UINT32_MAX };
		return totals_row(t, &none, 0);
	}
	if (mem_reserve(&t->rows, &t->cap, t->count + 1, sizeof(*t->rows)) < 0)
		return NULL;
	row = aligned_alloc(_Alignof(struct request_series), sizeof(*row));
	if (!row)
		return NULL;
	memset(row, 0, sizeof(*row));
	row->metrics = key->metrics;
	row->key_len = (uint32_t)len;
	memcpy(row->key, key->key, len);
	if (table_set(t->by_key, key, size, row) < 0) {
		free(row);
		return NULL;
	}
	t->rows[t->count++] = row;
	return row;
}

static int totals_add_series(struct request_totals *t, const struct request_series *from, bool trusted)
{
	struct totals_key key;
	size_t len = __atomic_load_n(&from->key_len, __ATOMIC_RELAXED);
	key.metrics = __atomic_load_n(&from->metrics, __ATOMIC_RELAXED);
	if (len > REQUEST_KEY_MAX)
		return 0; /* nothing that our code wrote */
	if (!trusted)
		key.metrics = len ? key.metrics & ((1u << REQUEST_METRIC_COUNT) - 1) : UINT32_MAX;
	memcpy(key.key, from->key, len);
	if (!trusted && len) {
		/* The last label ends, whatever is there. */
		key.key[len - 1] = 0;
		labels_clean(key.key, len);
	}
	struct request_series *to = totals_row(t, &key, len);
	if (!to)
		return -ENOMEM;
	series_sum(to, from);
	return 0;
}

int request_totals_add(struct request_totals *t, const struct request_metrics *m)
{
	for (size_t s = 0; s < LINK_SHARDS_MAX; s++) {
		const struct request_shard *shard = &m->shards[s];
		uint32_t used = __atomic_load_n(&shard->used, __ATOMIC_ACQUIRE);
		if (used > REQUEST_SERIES_MAX)
			used = REQUEST_SERIES_MAX;
		t->unplaced += load(&shard->unplaced);
		for (uint32_t i = 0; i < used; i++) {
			/* Most often nothing had to go without a place. */
			if (i == 0 && !load(&shard->unplaced))
				continue;
			int rc = totals_add_series(t, &shard->series[i], false);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

int request_totals_merge(struct request_totals *t, const struct request_totals *from)
{
	t->unplaced += from->unplaced;
	for (size_t i = 0; i < from->count; i++) {
		int rc = totals_add_series(t, from->rows[i], true);
		if (rc < 0)
			return rc;
	}
	return 0;
}

const struct request_series *request_totals_next(const struct request_totals *t, struct request_totals_iter *it)
{
	return it->at < t->count ? t->rows[it->at++] : NULL;
}

size_t request_totals_count(const struct request_totals *t)
{
	return t->count;
}

uint64_t request_totals_unplaced(const struct request_totals *t)
{
	return t->unplaced;
}
