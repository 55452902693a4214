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

struct row {
	struct request_series series;
	uint64_t since_s; /* when something was last added to it */
	bool in_use;	  /* a helper has it in a place, so it has to stay */
};

struct request_totals {
	struct table *by_key; /* metrics and labels -> struct row in rows */
	struct row **rows;
	size_t count, cap;
	uint64_t unplaced, now_s;
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
static struct row *totals_row(struct request_totals *t, const struct totals_key *key, size_t len)
{
	size_t size = offsetof(struct totals_key, key) + len;
	struct row *row = table_get(t->by_key, key, size);
	if (row)
		return row;
	if (t->count >= REQUEST_TOTALS_MAX && len) {
		struct totals_key none = { .metrics = UINT32_MAX };
		return totals_row(t, &none, 0);
	}
	if (mem_reserve(&t->rows, &t->cap, t->count + 1, sizeof(*t->rows)) < 0)
		return NULL;
	row = aligned_alloc(_Alignof(struct row), sizeof(*row));
	if (!row)
		return NULL;
	memset(row, 0, sizeof(*row));
	row->series.metrics = key->metrics;
	row->series.key_len = (uint32_t)len;
	memcpy(row->series.key, key->key, len);
	if (table_set(t->by_key, key, size, row) < 0) {
		free(row);
		return NULL;
	}
	t->rows[t->count++] = row;
	return row;
}

/* False: nothing that our code wrote. */
static bool key_read(const struct request_series *from, struct totals_key *key, size_t *len_out)
{
	size_t len = __atomic_load_n(&from->key_len, __ATOMIC_RELAXED);
	if (len > REQUEST_KEY_MAX)
		return false;
	key->metrics = __atomic_load_n(&from->metrics, __ATOMIC_RELAXED) & ((1u << REQUEST_METRIC_COUNT) - 1);
	if (!len)
		key->metrics = UINT32_MAX;
	memcpy(key->key, from->key, len);
	if (len) {
		/* The last label ends, whatever is there. */
		key->key[len - 1] = 0;
		labels_clean(key->key, len);
	}
	*len_out = len;
	return true;
}

static int totals_add_series(struct request_totals *t, const struct totals_key *key, size_t len,
			     const struct request_series *from)
{
	struct row *to = totals_row(t, key, len);
	if (!to)
		return -ENOMEM;
	series_sum(&to->series, from);
	to->since_s = t->now_s;
	return 0;
}

static uint32_t shard_used(const struct request_shard *shard)
{
	uint32_t used = __atomic_load_n(&shard->used, __ATOMIC_ACQUIRE);
	return used < REQUEST_SERIES_MAX ? used : REQUEST_SERIES_MAX;
}

static uint32_t state_of(const struct request_series *s)
{
	return __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);
}

static bool is_published(const struct request_series *s)
{
	uint32_t state = state_of(s);
	return state == REQUEST_LIVE || state == REQUEST_RETIRED;
}

static int shard_add(struct request_totals *t, const struct request_shard *shard)
{
	uint64_t unplaced = load(&shard->unplaced);
	uint32_t used = shard_used(shard);
	t->unplaced += unplaced;
	/* Most often nothing had to go without a place. */
	for (uint32_t i = unplaced ? 0 : 1; i < used; i++) {
		const struct request_series *from = &shard->series[i];
		struct totals_key key;
		size_t len;
		if (!is_published(from) || !key_read(from, &key, &len))
			continue;
		int rc = totals_add_series(t, &key, len, from);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int request_totals_add(struct request_totals *t, const struct request_metrics *m)
{
	int rc = 0;
	for (size_t s = 0; rc == 0 && s < LINK_SHARDS_MAX; s++)
		rc = shard_add(t, &m->shards[s]);
	return rc;
}

int request_totals_merge(struct request_totals *t, const struct request_totals *from)
{
	t->unplaced += from->unplaced;
	for (size_t i = 0; i < from->count; i++) {
		const struct request_series *s = &from->rows[i]->series;
		struct totals_key key = { .metrics = s->metrics };
		memcpy(key.key, s->key, s->key_len);
		int rc = totals_add_series(t, &key, s->key_len, s);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- series that have lost their places --- */

int request_totals_take(struct request_totals *t, struct request_metrics *m)
{
	int taken = 0;
	for (size_t s = 0; s < LINK_SHARDS_MAX; s++) {
		struct request_shard *shard = &m->shards[s];
		uint32_t used = shard_used(shard);
		if (!__atomic_load_n(&shard->retired, __ATOMIC_ACQUIRE))
			continue;
		for (uint32_t i = 1; i < used; i++) {
			struct request_series *from = &shard->series[i];
			struct totals_key key;
			size_t len;
			if (state_of(from) != REQUEST_RETIRED)
				continue;
			if (key_read(from, &key, &len) && len && totals_add_series(t, &key, len, from) < 0)
				return -ENOMEM;
			__atomic_store_n(&from->state, REQUEST_FREE, __ATOMIC_RELEASE);
			taken++;
		}
	}
	return taken;
}

void request_totals_clock(struct request_totals *t, uint64_t now_s)
{
	t->now_s = now_s;
}

void request_totals_age_begin(struct request_totals *t)
{
	for (size_t i = 0; i < t->count; i++)
		t->rows[i]->in_use = false;
}

void request_totals_in_use(struct request_totals *t, const struct request_metrics *m)
{
	for (size_t s = 0; t->count && s < LINK_SHARDS_MAX; s++) {
		const struct request_shard *shard = &m->shards[s];
		uint32_t used = shard_used(shard);
		for (uint32_t i = 1; i < used; i++) {
			struct totals_key key;
			size_t len;
			if (!is_published(&shard->series[i]) || !key_read(&shard->series[i], &key, &len))
				continue;
			struct row *row = table_get(t->by_key, &key, offsetof(struct totals_key, key) + len);
			if (row)
				row->in_use = true;
		}
	}
}

/* What has to stay, then the youngest. */
static int cmp_age(const void *a, const void *b)
{
	const struct row *x = *(struct row *const *)a, *y = *(struct row *const *)b;
	bool x_stays = x->in_use || !x->series.key_len, y_stays = y->in_use || !y->series.key_len;
	if (x_stays != y_stays)
		return x_stays ? -1 : 1;
	return x->since_s > y->since_s ? -1 : x->since_s < y->since_s;
}

static void row_forget(struct request_totals *t, struct row *row)
{
	struct totals_key key = { .metrics = row->series.metrics };
	memcpy(key.key, row->series.key, row->series.key_len);
	table_remove(t->by_key, &key, offsetof(struct totals_key, key) + row->series.key_len);
	free(row);
}

void request_totals_age_end(struct request_totals *t)
{
	if (!t->count)
		return;
	qsort(t->rows, t->count, sizeof(*t->rows), cmp_age);
	for (; t->count; t->count--) {
		struct row *oldest = t->rows[t->count - 1];
		bool stays = oldest->in_use || !oldest->series.key_len;
		if (stays || (t->count <= REQUEST_PAST_MAX && t->now_s - oldest->since_s < REQUEST_IDLE_S))
			break;
		row_forget(t, oldest);
	}
}

/* --- reading --- */

const struct request_series *request_totals_next(const struct request_totals *t, struct request_totals_iter *it)
{
	return it->at < t->count ? &t->rows[it->at++]->series : NULL;
}

size_t request_totals_count(const struct request_totals *t)
{
	return t->count;
}

uint64_t request_totals_unplaced(const struct request_totals *t)
{
	return t->unplaced;
}
