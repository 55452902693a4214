/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/outlier.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/table.h"

struct record {
	struct addr_port endpoint;
	uint32_t failures;   /* in a row */
	uint32_t ejections;  /* how often; goes down by one for each interval without trouble */
	uint64_t ejected_ms; /* when; meaningful while `out` */
	uint64_t until_ms;   /* end of the ejection, or of the interval after which `ejections` goes down */
	uint32_t interval_ms;
	bool out;
};

struct outlier {
	struct table *records; /* key -> struct record */
	struct addr_port *ejected;
	size_t ejected_cap;
};

struct key {
	uint8_t addr[16];
	uint16_t port;
} __attribute__((packed));

static struct key key_of(const struct addr_port *endpoint)
{
	struct key key = { .port = endpoint->port };

	memcpy(key.addr, endpoint->addr.b, sizeof(key.addr));
	return key;
}

struct outlier *outlier_new(void)
{
	struct outlier *o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	o->records = table_new(free);
	if (!o->records) {
		free(o);
		return NULL;
	}
	return o;
}

void outlier_free(struct outlier *o)
{
	if (!o)
		return;
	table_free(o->records);
	free(o->ejected);
	free(o);
}

static struct record *record_get(struct outlier *o, const struct addr_port *endpoint, bool create)
{
	struct key key = key_of(endpoint);
	struct record *r = table_get(o->records, &key, sizeof(key));
	if (r || !create || table_count(o->records) >= OUTLIER_MAX_TRACKED)
		return r;

	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->endpoint = *endpoint;
	if (table_set(o->records, &key, sizeof(key), r) < 0) {
		free(r);
		return NULL;
	}
	return r;
}

static void record_drop(struct outlier *o, const struct record *r)
{
	struct key key = key_of(&r->endpoint);

	table_remove(o->records, &key, sizeof(key));
}

bool outlier_report(struct outlier *o, uint64_t now_ms, const struct addr_port *endpoint,
		    const struct outlier_settings *settings, bool ok)
{
	struct record *r = record_get(o, endpoint, !ok && settings->consecutive_failures);
	if (!r)
		return false;
	if (ok) {
		r->failures = 0;
		if (!r->out && !r->ejections)
			record_drop(o, r);
		return false;
	}
	if (!settings->consecutive_failures || r->out || ++r->failures < settings->consecutive_failures)
		return false;

	uint64_t length = (uint64_t)settings->base_ejection_ms * ++r->ejections;
	uint64_t limit = settings->base_ejection_ms > OUTLIER_MAX_EJECTION_MS ? settings->base_ejection_ms :
										OUTLIER_MAX_EJECTION_MS;
	r->out = true;
	r->failures = 0;
	r->ejected_ms = now_ms;
	r->until_ms = now_ms + (length < limit ? length : limit);
	r->interval_ms = settings->interval_ms ? settings->interval_ms : 1;
	return true;
}

bool outlier_expire(struct outlier *o, uint64_t now_ms, uint64_t *next_ms)
{
	bool changed = false;
	struct table_iter it = { 0 };

	*next_ms = 0;
	while (table_next(o->records, &it)) {
		struct record *r = it.value;
		if (!r->out && !r->ejections)
			continue; /* some failures; a success clears them */
		if (r->until_ms <= now_ms) {
			if (r->out) {
				r->out = false;
				changed = true;
			} else if (--r->ejections == 0 && !r->failures) {
				record_drop(o, r);
				continue;
			}
			r->until_ms = now_ms + r->interval_ms;
		}
		if (!r->ejections)
			continue;
		if (!*next_ms || r->until_ms < *next_ms)
			*next_ms = r->until_ms;
	}
	return changed;
}

struct ejection {
	uint64_t since_ms;
	struct addr_port endpoint;
};

static int on_ejection_cmp(const void *a, const void *b)
{
	const struct ejection *x = a, *y = b;
	if (x->since_ms != y->since_ms)
		return x->since_ms < y->since_ms ? -1 : 1;
	int c = addr_cmp(&x->endpoint.addr, &y->endpoint.addr);

	return c ? c : (int)x->endpoint.port - (int)y->endpoint.port;
}

const struct addr_port *outlier_ejected(struct outlier *o, size_t *count)
{
	size_t n = 0;
	struct table_iter it = { 0 };

	*count = 0;
	AUTO(mem_freep) struct ejection *list = calloc(table_count(o->records) + 1, sizeof(*list));
	if (!list)
		return NULL;
	while (table_next(o->records, &it)) {
		const struct record *r = it.value;
		if (r->out)
			list[n++] = (struct ejection){ r->ejected_ms, r->endpoint };
	}
	if (mem_reserve(&o->ejected, &o->ejected_cap, n, sizeof(*o->ejected)) < 0)
		return NULL;
	qsort(list, n, sizeof(*list), on_ejection_cmp);
	for (size_t i = 0; i < n; i++)
		o->ejected[i] = list[i].endpoint;
	*count = n;
	return o->ejected;
}

void outlier_usable(const struct outlier_settings *settings, const bool *ejected, size_t n, bool *usable)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		/* Envoy compares before it ejects, so that the first always may. */
		usable[i] = !(ejected[i] && out * 100 < (size_t)settings->max_ejection_percent * n);
		out += !usable[i];
	}
	if ((n - out) * 100 < (size_t)settings->min_health_percent * n)
		memset(usable, true, n * sizeof(*usable));
}
