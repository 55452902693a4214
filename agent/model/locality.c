/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/locality.h"

#include <string.h>

#include "agent/base/str.h"

enum { PLACE_DEPTH = 3, PRIORITY_FAR = 3, PRIORITY_LAST = 4 };

struct part {
	const char *p;
	size_t len;
};

/* "region/zone/subzone"; missing parts are empty. */
static void locality_split(const char *text, struct part out[PLACE_DEPTH])
{
	const char *rest = text ? text : "";

	for (size_t i = 0; i < PLACE_DEPTH; i++) {
		size_t len = strcspn(rest, "/");
		out[i] = (struct part){ rest, len };
		rest += len + (rest[len] == '/');
	}
}

static bool part_eq(const struct part *a, const struct part *b)
{
	return a->len == b->len && memcmp(a->p, b->p, a->len) == 0;
}

static bool part_is(const struct part *a, const char *text)
{
	return a->len == strlen(text) && memcmp(a->p, text, a->len) == 0;
}

bool locality_matches(const char *pattern, const char *locality)
{
	struct part want[PLACE_DEPTH], have[PLACE_DEPTH];

	locality_split(pattern, want);
	locality_split(locality, have);
	for (size_t i = 0; i < PLACE_DEPTH; i++) {
		if (part_is(&want[i], "*"))
			return true;
		if (!want[i].len && i > 0) /* the pattern ends here */
			return true;
		if (!part_eq(&want[i], &have[i]))
			return false;
	}
	return true;
}

/* Istio's LbPriority and applyLocalityFailover. */
static uint8_t failover_rank(const struct locality_setting *s, const char *caller, const char *endpoint)
{
	struct part from[PLACE_DEPTH], to[PLACE_DEPTH];
	locality_split(caller, from);
	locality_split(endpoint, to);

	for (uint8_t i = 0; i < PLACE_DEPTH; i++) {
		if (part_eq(&from[i], &to[i]))
			continue;
		if (i > 0)
			return (uint8_t)(PLACE_DEPTH - i);
		for (size_t k = 0; k < s->failover_count; k++)
			if (part_is(&from[0], s->failover[k].from))
				return part_is(&to[0], s->failover[k].to) ? PRIORITY_FAR : PRIORITY_LAST;
		return PRIORITY_FAR;
	}
	return 0;
}

static struct part place_label(const struct locality_place *place, const struct part *key)
{
	struct part parts[PLACE_DEPTH];

	for (size_t i = 0; i < place->label_count; i++)
		if (part_is(key, place->labels[i].key))
			return (struct part){ place->labels[i].value, strlen(place->labels[i].value) };
	/* Istio gives these to every workload, from its locality. */
	locality_split(place->locality, parts);
	if (part_is(key, "topology.kubernetes.io/region"))
		return parts[0];
	if (part_is(key, "topology.kubernetes.io/zone"))
		return parts[1];
	if (part_is(key, "topology.istio.io/subzone"))
		return parts[2];
	return (struct part){ "", 0 };
}

/* The labels are compared in order; the first that differs decides how far the endpoint is. */
static uint8_t priority_rank(const struct locality_setting *s, const struct locality_place *caller,
			     const struct locality_place *endpoint)
{
	for (size_t i = 0; i < s->failover_priority_count; i++) {
		const char *entry = s->failover_priority[i];
		const char *equals = strchr(entry, '=');
		struct part key = { entry, equals ? (size_t)(equals - entry) : strlen(entry) };
		struct part have = place_label(endpoint, &key), want;
		if (equals)
			want = (struct part){ equals + 1, strlen(equals + 1) };
		else
			want = place_label(caller, &key);
		if (!part_eq(&have, &want)) {
			size_t left = s->failover_priority_count - i;
			return (uint8_t)(left < UINT8_MAX ? left : UINT8_MAX);
		}
	}
	return 0;
}

static void priorities_compact(struct locality_endpoint *endpoints, size_t count)
{
	bool used[UINT8_MAX + 1] = { false };
	uint8_t to[UINT8_MAX + 1], next = 0;

	for (size_t i = 0; i < count; i++)
		if (!endpoints[i].dropped)
			used[endpoints[i].priority] = true;
	for (size_t i = 0; i <= UINT8_MAX; i++) {
		to[i] = next;
		next = (uint8_t)(next + used[i]);
	}
	for (size_t i = 0; i < count; i++)
		endpoints[i].priority = to[endpoints[i].priority];
}

/* The share of a locality is split between its endpoints by their own weights. Scaled, so that rounding is small
 * beside the percentages that people write. */
static void distribution_apply(const struct locality_distribution *d, struct locality_endpoint *endpoints, size_t count)
{
	enum { SCALE = 10000 };
	for (size_t i = 0; i < count; i++)
		endpoints[i].dropped = true; /* until a share takes it */
	for (size_t k = 0; k < d->to_count; k++) {
		uint64_t sum = 0;
		for (size_t i = 0; i < count; i++)
			if (endpoints[i].dropped && locality_matches(d->to[k].to, endpoints[i].place.locality))
				sum += endpoints[i].weight;
		for (size_t i = 0; sum && d->to[k].weight && i < count; i++) {
			struct locality_endpoint *e = &endpoints[i];
			if (!e->dropped || !locality_matches(d->to[k].to, e->place.locality))
				continue;
			uint64_t weight = (uint64_t)d->to[k].weight * SCALE * e->weight / sum;
			e->weight = weight ? (uint32_t)weight : 1;
			e->dropped = false;
		}
	}
}

void locality_assign(const struct locality_setting *setting, const struct locality_place *caller,
		     struct locality_endpoint *endpoints, size_t count)
{
	bool known = caller->locality && *caller->locality;

	for (size_t i = 0; i < count; i++) {
		endpoints[i].priority = 0;
		endpoints[i].dropped = false;
		if (setting->failover_priority_count)
			endpoints[i].priority = priority_rank(setting, caller, &endpoints[i].place);
		else if (known && !setting->distribute_count)
			endpoints[i].priority = failover_rank(setting, caller->locality, endpoints[i].place.locality);
	}
	for (size_t i = 0; known && i < setting->distribute_count; i++)
		if (locality_matches(setting->distribute[i].from, caller->locality)) {
			distribution_apply(&setting->distribute[i], endpoints, count);
			break;
		}
	priorities_compact(endpoints, count);
}
