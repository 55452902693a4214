/* SPDX-License-Identifier: Apache-2.0 */
/* What is reckoned about one host: latency, slow start, its key. */
#include "agent/model/balance.h"

#include <math.h>

#include "agent/base/hash.h"

/* Of a host with a request under way whose latency nobody knows yet: one at a time until it is known. */
static const double UNKNOWN_COST = 1e15;

uint64_t balance_mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

uint64_t balance_random(uint64_t *state)
{
	return balance_mix(*state += 0x9e3779b97f4a7c15ull);
}

uint64_t balance_key(const struct addr_port *endpoint)
{
	uint64_t id = hash64(HASH64_INIT, endpoint->addr.b, sizeof(endpoint->addr.b));
	return hash64(id, &endpoint->port, sizeof(endpoint->port));
}

static double faded(const struct balance_host *h, uint64_t now_ns)
{
	if (h->ewma_ns <= 0 || now_ns <= h->ewma_at_ns)
		return 1;
	double x = (double)(now_ns - h->ewma_at_ns) / (BALANCE_EWMA_DECAY_MS * 1e6);
	return x < 0.01 ? 1 - x + x * x / 2 : exp(-x); /* the former to 2e-7, in a fraction of the time */
}

/* Peak-sensitive, as Finagle's: what is slower counts at once, what is faster bit by bit. */
void balance_observe(struct balance_host *h, uint64_t latency_ns, uint64_t now_ns)
{
	double w = faded(h, now_ns), latency = (double)(latency_ns ? latency_ns : 1), left = h->ewma_ns * w;

	h->ewma_ns = latency > left ? latency : left + latency * (1 - w);
	h->ewma_at_ns = now_ns;
}

double balance_cost(const struct balance_host *h, uint64_t now_ns)
{
	double latency = h->ewma_ns * faded(h, now_ns);

	if (latency < 1)
		return h->active ? UNKNOWN_COST + h->active : 0;
	return latency * (h->active + 1.0);
}

double balance_warmth(const struct balance_settings *s, const struct balance_host *h, uint64_t now_ns)
{
	uint64_t window_ns = (uint64_t)s->warmup_ms * 1000000;
	if (!window_ns || !h->warm_from_ns || now_ns >= h->warm_from_ns + window_ns)
		return 1;

	uint64_t age_ns = now_ns > h->warm_from_ns ? now_ns - h->warm_from_ns : 0;
	if (age_ns < 1000000)
		age_ns = 1000000;
	double warmth = (double)age_ns / (double)window_ns;
	if (s->warmup_aggression > 0 && s->warmup_aggression != 1)
		warmth = pow(warmth, 1 / s->warmup_aggression);
	double least = s->warmup_min_percent ? s->warmup_min_percent / 100.0 : 0.01;
	if (warmth < least)
		warmth = least;
	return warmth < 1 ? warmth : 1;
}
