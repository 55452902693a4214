/* SPDX-License-Identifier: Apache-2.0 */
/* A struct balance is a list of levels, one a priority. balance_refresh() says what share of requests each gets, and which
 * of its hosts (`up`) may be chosen; choosing looks at those only, and costs O(1), or O(log n) where weights differ.
 * Weighted turns (EDF), sums and hash tables are made when they are first needed. */
#include "agent/model/balance.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/mem.h"
#include "agent/model/balance_edf.h"
#include "agent/model/balance_table.h"
#include "agent/model/lb.h"

enum { BALANCE_TABLE_STEPS = 256 };

struct level {
	struct balance_host **all; /* of this priority: a part of balance.hosts */
	size_t count;
	struct balance_host **up; /* those that may be chosen now; room for count */
	size_t up_count, healthy;
	uint32_t load; /* percent */
	bool panic;
	bool even;	     /* all of `up` weigh the same */
	size_t next;	     /* round robin without weights */
	uint64_t warm_at_ns; /* the last of `up` has finished slow start then; 0: all have */
	bool edf_made;
	struct edf edf;
	uint64_t *sums;		     /* of weights of `up`, for random ones */
	struct balance_table *table; /* over `all`; NULL: not made yet */
	bool table_failed;
};

struct balance {
	struct balance_settings settings;
	struct balance_host **hosts, **ups;
	struct level *levels;
	size_t count, level_count;
};

void balance_settings_of(const struct http_cluster *c, struct balance_settings *out)
{
	*out = (struct balance_settings){
		.lb = c->lb,
		.panic_percent = c->outlier.min_health_percent,
		.warmup_ms = c->warmup_ms,
		.warmup_min_percent = c->warmup_min_percent,
		.warmup_aggression = c->warmup_aggression,
		.ring_size_min = c->ring_size_min,
		.maglev_size = c->maglev_size,
	};
}

static double weight_of(const struct balance_host *h)
{
	return h->weight ? h->weight : 1;
}

static void level_forget(struct level *l)
{
	edf_done(&l->edf);
	l->edf_made = false;
	free(l->sums);
	l->sums = NULL;
}

void balance_free(struct balance *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->level_count; i++) {
		level_forget(&b->levels[i]);
		balance_table_free(b->levels[i].table);
	}
	free(b->levels);
	free(b->hosts);
	free(b->ups);
	free(b);
}

static void balance_freep(struct balance **b)
{
	balance_free(*b);
}

static int on_priority_cmp(const void *a, const void *b)
{
	const struct balance_host *x = *(struct balance_host *const *)a, *y = *(struct balance_host *const *)b;
	if (x->priority != y->priority)
		return (int)x->priority - (int)y->priority;
	return x->key < y->key ? -1 : x->key > y->key;
}

int balance_new(const struct balance_settings *settings, struct balance_host *const *hosts, size_t count,
		uint64_t now_ns, uint64_t *random, struct balance **out)
{
	AUTO(balance_freep) struct balance *b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->settings = *settings;
	b->hosts = calloc(count + 1, sizeof(struct balance_host *));
	b->ups = calloc(count + 1, sizeof(struct balance_host *));
	if (!b->hosts || !b->ups)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		b->hosts[i] = hosts[i];
	b->count = count;
	qsort(b->hosts, count, sizeof(struct balance_host *), on_priority_cmp);

	size_t levels = 0;
	for (size_t i = 0; i < count; i++)
		levels += !i || b->hosts[i]->priority != b->hosts[i - 1]->priority;
	b->levels = calloc(levels + 1, sizeof(*b->levels));
	if (!b->levels)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (!i || b->hosts[i]->priority != b->hosts[i - 1]->priority)
			b->levels[b->level_count++] = (struct level){ .all = &b->hosts[i], .up = &b->ups[i] };
		b->levels[b->level_count - 1].count++;
	}
	balance_refresh(b, now_ns, random);
	*out = TAKE(b);
	return 0;
}

/* Percent of all requests that the level's health allows it. */
static uint32_t availability(const struct level *l)
{
	uint64_t share = l->count ? l->healthy * BALANCE_OVERPROVISION / l->count : 0;

	if (!share && l->healthy)
		return 1; /* of very many hosts, few are well */
	return share > 100 ? 100 : (uint32_t)share;
}

/* Envoy's: each priority takes what its health allows of what those before it left. */
static void loads_share(struct balance *b)
{
	uint32_t total = 0, left = 100;
	for (size_t i = 0; i < b->level_count; i++) {
		struct level *l = &b->levels[i];
		l->load = availability(l);
		total += l->load;
	}
	if (total > 100)
		total = 100;
	struct level *last = NULL;
	for (size_t i = 0; i < b->level_count; i++) {
		struct level *l = &b->levels[i];
		l->panic = total < 100 && l->healthy * 100 < (size_t)b->settings.panic_percent * l->count;
		l->load = total ? l->load * 100 / total : 0;
		if (l->load > left)
			l->load = left;
		left -= l->load;
		if (l->load)
			last = l;
	}
	if (last)
		last->load += left; /* what rounding lost */
}

/* Nothing is healthy: priorities in panic share by their size. */
static void loads_panic(struct balance *b)
{
	size_t hosts = 0;
	uint32_t left = 100;
	struct level *last = NULL;
	for (size_t i = 0; i < b->level_count; i++)
		if (b->levels[i].panic)
			hosts += b->levels[i].up_count;
	for (size_t i = 0; hosts && i < b->level_count; i++) {
		struct level *l = &b->levels[i];
		if (!l->panic || !l->up_count)
			continue;
		l->load = (uint32_t)(l->up_count * 100 / hosts);
		left -= l->load;
		last = l;
	}
	if (last)
		last->load += left;
}

static void level_fill(const struct balance *b, struct level *l, uint64_t now_ns, uint64_t *random)
{
	uint64_t window_ns = (uint64_t)b->settings.warmup_ms * 1000000;

	level_forget(l);
	l->up_count = 0;
	l->even = true;
	l->warm_at_ns = 0;
	for (size_t i = 0; i < l->count; i++) {
		struct balance_host *h = l->all[i];
		if (!h->healthy || (h->ejected && !l->panic))
			continue;
		if (l->up_count && h->weight != l->up[0]->weight)
			l->even = false;
		l->up[l->up_count++] = h;
		if (balance_warmth(&b->settings, h, now_ns) < 1 && h->warm_from_ns + window_ns > l->warm_at_ns)
			l->warm_at_ns = h->warm_from_ns + window_ns;
	}
	l->next = l->up_count ? balance_random(random) % l->up_count : 0;
}

void balance_refresh(struct balance *b, uint64_t now_ns, uint64_t *random)
{
	size_t healthy = 0;
	for (size_t i = 0; i < b->level_count; i++) {
		struct level *l = &b->levels[i];
		l->healthy = 0;
		for (size_t k = 0; k < l->count; k++)
			l->healthy += l->all[k]->healthy && !l->all[k]->ejected;
		healthy += l->healthy;
	}
	loads_share(b);
	for (size_t i = 0; i < b->level_count; i++)
		level_fill(b, &b->levels[i], now_ns, random);
	if (!healthy)
		loads_panic(b);
}

uint32_t balance_load(const struct balance *b, uint8_t priority, bool *panic)
{
	for (size_t i = 0; i < b->level_count; i++) {
		if (b->levels[i].all[0]->priority != priority)
			continue;
		*panic = b->levels[i].panic;
		return b->levels[i].load;
	}
	*panic = false;
	return 0;
}

static bool is_skipped(const struct level *l, uint64_t skip)
{
	uint8_t priority = l->all[0]->priority;

	return priority < 64 && (skip >> priority & 1);
}

/* Among the priorities that are left, by what their health allows. NULL: none is. */
static struct level *level_pick_other(struct balance *b, uint64_t number, uint64_t skip)
{
	uint64_t total = 0;
	for (size_t i = 0; i < b->level_count; i++)
		if (!is_skipped(&b->levels[i], skip))
			total += availability(&b->levels[i]);
	struct level *first = NULL;
	uint64_t at = number % 100;
	for (size_t i = 0; total && i < b->level_count; i++) {
		struct level *l = &b->levels[i];
		uint64_t share = is_skipped(l, skip) ? 0 : availability(l) * 100 / (total < 100 ? total : 100);
		if (!share)
			continue;
		if (at < share)
			return l;
		first = first ? first : l;
		at -= share;
	}
	return first; /* what rounding lost */
}

static struct level *level_pick(struct balance *b, uint64_t number, uint64_t skip)
{
	struct level *other = skip ? level_pick_other(b, number, skip) : NULL;
	if (other)
		return other;
	if (b->level_count && b->levels[0].load == 100)
		return &b->levels[0];
	uint32_t at = (uint32_t)(number % 100);
	for (size_t i = 0; i < b->level_count; i++) {
		if (at < b->levels[i].load)
			return &b->levels[i];
		at -= b->levels[i].load;
	}
	return NULL;
}

/* --- algorithms over level.up, of which there are two at least */

static double turn_weight(const struct balance *b, const struct balance_host *h, uint64_t now_ns)
{
	double weight = weight_of(h) * balance_warmth(&b->settings, h, now_ns);
	return b->settings.lb == CLUSTER_LEAST_REQUEST ? weight / (h->active + 1.0) : weight;
}

static struct balance_host *pick_random_even(struct level *l, uint64_t *random)
{
	return l->up[balance_random(random) % l->up_count];
}

static struct balance_host *pick_turn(struct balance *b, struct level *l, const struct balance_ask *ask)
{
	if (!l->edf_made) {
		if (edf_init(&l->edf, l->up_count) < 0)
			return pick_random_even(l, ask->random);
		for (size_t i = 0; i < l->up_count; i++) {
			double start = (double)(balance_random(ask->random) >> 11) * 0x1p-53;
			edf_add(&l->edf, (uint32_t)i, turn_weight(b, l->up[i], ask->now_ns), start);
		}
		l->edf_made = true;
	}
	struct balance_host *h = l->up[edf_first(&l->edf)->host];
	edf_again(&l->edf, turn_weight(b, h, ask->now_ns));
	return h;
}

/* Whether all have the same weight now: then turns need no heap. */
static bool level_even(struct level *l, uint64_t now_ns)
{
	if (l->warm_at_ns && now_ns >= l->warm_at_ns) {
		l->warm_at_ns = 0;
		level_forget(l);
	}
	return l->even && !l->warm_at_ns;
}

static struct balance_host *pick_round_robin(struct balance *b, struct level *l, const struct balance_ask *ask)
{
	if (!level_even(l, ask->now_ns))
		return pick_turn(b, l, ask);
	if (l->next >= l->up_count)
		l->next = 0;
	return l->up[l->next++];
}

static void two_of(struct level *l, uint64_t *random, struct balance_host **x, struct balance_host **y)
{
	uint64_t number = balance_random(random);
	size_t i = (uint32_t)number % l->up_count, k = (size_t)(number >> 32) % (l->up_count - 1);
	*x = l->up[i];
	*y = l->up[k >= i ? k + 1 : k];
}

static struct balance_host *pick_least_request(struct balance *b, struct level *l, const struct balance_ask *ask)
{
	if (!level_even(l, ask->now_ns))
		return pick_turn(b, l, ask);
	struct balance_host *x, *y;
	two_of(l, ask->random, &x, &y);
	return y->active < x->active ? y : x;
}

static struct balance_host *pick_peak_ewma(struct balance *b, struct level *l, const struct balance_ask *ask)
{
	struct balance_host *x, *y;
	two_of(l, ask->random, &x, &y);
	double cost_x = balance_cost(x, ask->now_ns) / weight_of(x),
	       cost_y = balance_cost(y, ask->now_ns) / weight_of(y);
	if (!level_even(l, ask->now_ns)) {
		cost_x /= balance_warmth(&b->settings, x, ask->now_ns);
		cost_y /= balance_warmth(&b->settings, y, ask->now_ns);
	}
	return cost_y < cost_x ? y : x;
}

static struct balance_host *pick_random(struct balance *b, struct level *l, const struct balance_ask *ask)
{
	(void)b;
	if (!l->even && !l->sums) {
		l->sums = malloc(l->up_count * sizeof(*l->sums));
		for (size_t i = 0; l->sums && i < l->up_count; i++)
			l->sums[i] = (uint64_t)weight_of(l->up[i]) + (i ? l->sums[i - 1] : 0);
	}
	if (l->even || !l->sums)
		return pick_random_even(l, ask->random);
	uint64_t at = balance_random(ask->random) % l->sums[l->up_count - 1];
	size_t low = 0, high = l->up_count - 1;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (l->sums[middle] > at)
			high = middle;
		else
			low = middle + 1;
	}
	return l->up[low];
}

static int table_make(const struct balance_settings *s, struct level *l)
{
	AUTO(mem_freep) uint64_t *keys = malloc(l->count * sizeof(*keys));
	AUTO(mem_freep) uint32_t *weights = malloc(l->count * sizeof(*weights));
	if (!keys || !weights)
		return -ENOMEM;
	for (size_t i = 0; i < l->count; i++) {
		keys[i] = l->all[i]->key;
		weights[i] = l->all[i]->weight;
	}
	if (s->lb == CLUSTER_RING_HASH)
		return balance_ring_new(keys, weights, l->count, s->ring_size_min, &l->table);
	int rc = balance_maglev_new(keys, weights, l->count, s->maglev_size, &l->table);
	if (rc == -EINVAL) /* not a prime, or less than there are hosts */
		rc = balance_maglev_new(keys, weights, l->count, (uint32_t)lb_maglev_size(l->count), &l->table);
	return rc;
}

static bool is_avoided(const struct balance_host *h, const struct balance_ask *ask)
{
	for (size_t i = 0; i < ask->avoid_count; i++)
		if (ask->avoid[i] == h)
			return true;
	return false;
}

struct search {
	const struct level *l;
	const struct balance_ask *ask;
	bool any; /* avoided ones too */
};

static bool on_candidate(uint32_t host, void *arg)
{
	const struct search *s = arg;
	const struct balance_host *h = s->l->all[host];
	return h->healthy && (!h->ejected || s->l->panic) && (s->any || !is_avoided(h, s->ask));
}

static struct balance_host *pick_hash(struct balance *b, struct level *l, const struct balance_ask *ask)
{
	if (!l->table && !l->table_failed)
		l->table_failed = table_make(&b->settings, l) < 0;
	if (!l->table)
		return l->up[ask->hash % l->up_count];
	struct search s = { .l = l, .ask = ask };
	uint32_t found = balance_table_find(l->table, ask->hash, BALANCE_TABLE_STEPS, on_candidate, &s);
	if (found == UINT32_MAX && ask->avoid_count) {
		s.any = true;
		found = balance_table_find(l->table, ask->hash, BALANCE_TABLE_STEPS, on_candidate, &s);
	}
	return found == UINT32_MAX ? l->up[ask->hash % l->up_count] : l->all[found];
}

typedef struct balance_host *(*pick_fn)(struct balance *b, struct level *l, const struct balance_ask *ask);

static pick_fn pick_of(enum cluster_lb lb)
{
	switch (lb) {
	case CLUSTER_ROUND_ROBIN:
		return pick_round_robin;
	case CLUSTER_LEAST_REQUEST:
		return pick_least_request;
	case CLUSTER_PEAK_EWMA:
		return pick_peak_ewma;
	case CLUSTER_RANDOM:
	case CLUSTER_RING_HASH: /* without a hash */
	case CLUSTER_MAGLEV:
	case CLUSTER_PASSTHROUGH:
		break;
	}
	return pick_random;
}

static struct balance_host *pick_not_avoided(struct level *l, const struct balance_ask *ask)
{
	size_t at = balance_random(ask->random) % l->up_count;
	for (size_t i = 0; i < l->up_count && i < BALANCE_SCAN_MAX; i++) {
		if (!is_avoided(l->up[at], ask))
			return l->up[at];
		at = at + 1 == l->up_count ? 0 : at + 1;
	}
	return NULL;
}

struct balance_host *balance_choose(struct balance *b, const struct balance_ask *ask)
{
	bool hashed = ask->has_hash && (b->settings.lb == CLUSTER_RING_HASH || b->settings.lb == CLUSTER_MAGLEV);
	bool one = !ask->skip && b->level_count && b->levels[0].load == 100;
	/* The hash decides on the priority too, in bits that tables use least: what sticks sticks to it. */
	uint64_t number = one ? 0 : hashed ? balance_mix(ask->hash) : balance_random(ask->random);
	struct level *l = level_pick(b, number, ask->skip);
	if (!l || !l->up_count)
		return NULL;
	if (l->up_count == 1)
		return l->up[0];
	if (hashed)
		return pick_hash(b, l, ask);

	pick_fn pick = pick_of(b->settings.lb);
	struct balance_host *h = pick(b, l, ask);
	for (int i = 1; i < BALANCE_RETRY_PICKS && is_avoided(h, ask); i++)
		h = pick(b, l, ask);
	if (ask->avoid_count && is_avoided(h, ask)) {
		struct balance_host *other = pick_not_avoided(l, ask);
		h = other ? other : h;
	}
	return h;
}
