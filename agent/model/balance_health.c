/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/balance_health.h"

static uint32_t get(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void clear(uint32_t *word)
{
	if (get(word))
		__atomic_store_n(word, 0, __ATOMIC_RELAXED);
}

static uint32_t add(uint32_t *word, uint32_t n)
{
	return __atomic_add_fetch(word, n, __ATOMIC_RELAXED);
}

bool health_on(const struct cluster_outlier *settings)
{
	return settings->consecutive_5xx || settings->consecutive_gateway ||
	       (settings->split_local && settings->consecutive_local);
}

static void runs_clear(struct host_health *h)
{
	clear(&h->run_5xx);
	clear(&h->run_gateway);
	clear(&h->run_local);
}

static bool may_eject(const struct cluster_outlier *s, struct health_set *set, size_t hosts)
{
	uint32_t ejected = get(&set->ejected);
	return !ejected || (uint64_t)(ejected + 1) * 100 <= (uint64_t)s->max_ejection_percent * hosts;
}

static bool eject(const struct cluster_outlier *s, struct health_set *set, size_t hosts, struct host_health *h,
		  uint64_t now_ns)
{
	uint64_t none = 0;

	runs_clear(h);
	if (health_ejected(h))
		return false;
	if (!may_eject(s, set, hosts)) {
		add(&set->spared, 1);
		return false;
	}
	uint64_t length_ms = (uint64_t)s->base_ejection_ms * (get(&h->times) + 1);
	uint64_t most_ms = s->base_ejection_ms > HEALTH_MAX_EJECTION_MS ? s->base_ejection_ms : HEALTH_MAX_EJECTION_MS;
	uint64_t until_ns = now_ns + (length_ms < most_ms ? length_ms : most_ms) * 1000000;
	if (!__atomic_compare_exchange_n(&h->until_ns, &none, until_ns ? until_ns : 1, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return false; /* another worker was first */
	add(&h->times, 1);
	add(&h->ejections, 1);
	add(&set->ejected, 1);
	__atomic_add_fetch(&set->generation, 1, __ATOMIC_RELEASE);
	return true;
}

static bool counts(uint32_t *run, uint32_t limit)
{
	return limit && add(run, 1) >= limit;
}

/* Without split_local what goes wrong on the way is taken for the answer that a gateway would give: 503, or 504. */
static enum health_event event_of(const struct cluster_outlier *s, enum health_event event)
{
	if (s->split_local)
		return event;
	if (event == HEALTH_LOCAL_FAILED || event == HEALTH_LOCAL_TIMEOUT)
		return HEALTH_GATEWAY;
	return event == HEALTH_LOCAL_OK ? HEALTH_OK : event;
}

bool health_note(const struct cluster_outlier *s, struct health_set *set, size_t hosts, struct host_health *h,
		 enum health_event event, uint64_t now_ns)
{
	bool out = false;

	switch (event_of(s, event)) {
	case HEALTH_OK:
		runs_clear(h); /* it was reached, too */
		break;
	case HEALTH_5XX:
		clear(&h->run_gateway);
		clear(&h->run_local);
		out = counts(&h->run_5xx, s->consecutive_5xx);
		break;
	case HEALTH_GATEWAY:
		clear(&h->run_local);
		out = counts(&h->run_gateway, s->consecutive_gateway);
		out |= counts(&h->run_5xx, s->consecutive_5xx);
		break;
	case HEALTH_LOCAL_OK:
		clear(&h->run_local);
		break;
	case HEALTH_LOCAL_FAILED:
	case HEALTH_LOCAL_TIMEOUT:
		out = counts(&h->run_local, s->consecutive_local);
		break;
	}
	return out && eject(s, set, hosts, h, now_ns);
}

bool health_sweep_due(const struct cluster_outlier *s, struct health_set *set, uint64_t now_ns)
{
	uint64_t due = __atomic_load_n(&set->sweep_ns, __ATOMIC_RELAXED);
	if (now_ns < due)
		return false;
	uint64_t next = now_ns + (uint64_t)(s->interval_ms ? s->interval_ms : 1) * 1000000;
	/* The first call starts the first interval. */
	return __atomic_compare_exchange_n(&set->sweep_ns, &due, next, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED) &&
	       due;
}

static bool take_back(struct health_set *set, struct host_health *h, uint64_t until_ns)
{
	runs_clear(h);
	if (!__atomic_compare_exchange_n(&h->until_ns, &until_ns, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return false;
	add(&set->ejected, -1u);
	return true;
}

size_t health_sweep(struct health_set *set, struct host_health *const *hosts, size_t count, uint64_t now_ns)
{
	size_t back = 0;
	for (size_t i = 0; i < count; i++) {
		struct host_health *h = hosts[i];
		uint64_t until_ns = __atomic_load_n(&h->until_ns, __ATOMIC_RELAXED);
		if (until_ns) {
			if (now_ns >= until_ns)
				back += take_back(set, h, until_ns);
		} else if (get(&h->times)) {
			add(&h->times, -1u);
		}
	}
	if (back)
		__atomic_add_fetch(&set->generation, 1, __ATOMIC_RELEASE);
	return back;
}

bool health_gone(struct health_set *set, struct host_health *h)
{
	uint64_t until_ns = __atomic_load_n(&h->until_ns, __ATOMIC_RELAXED);
	return until_ns && take_back(set, h, until_ns);
}
