/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing an endpoint: priorities with spill-over and panic, then round robin, least request, random, ring hash, Maglev or
 * peak EWMA, with weights and slow start. Pure: the time and the random numbers are arguments. One thread a struct balance
 * (each worker has its own); the hosts are their owner's, who keeps them from one version of the cluster to the next. */
#pragma once

#include "agent/model/cluster.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct balance;

enum {
	BALANCE_OVERPROVISION = 140, /* percent: a priority with 72 % of its hosts healthy still takes everything */
	BALANCE_RETRY_PICKS = 5,     /* for a host that is not to be avoided, before they are looked through */
	BALANCE_SCAN_MAX = 256,
	BALANCE_RING_MAX = 1 << 20,    /* points of a ring */
	BALANCE_EWMA_DECAY_MS = 10000, /* in which a latency loses 63 % of its influence */
};

struct balance_host { /* embedded in the owner's */
	uint32_t weight;
	uint8_t priority;
	bool healthy;	       /* as the cluster says */
	bool ejected;	       /* by outlier detection */
	uint32_t active;       /* live requests, of this worker */
	uint64_t key;	       /* what stays the same of it, hashed: balance_key() */
	uint64_t warm_from_ns; /* when slow start began; 0: it is warm */
	double ewma_ns;	       /* of latency, as of ewma_at_ns; 0: not known */
	uint64_t ewma_at_ns;
};

struct balance_settings {
	enum cluster_lb lb;
	uint8_t panic_percent; /* healthy hosts below it: ejections are ignored; 0: never */
	uint32_t warmup_ms;
	uint32_t warmup_min_percent;
	double warmup_aggression;
	uint32_t ring_size_min, maglev_size;
};

struct balance_ask {
	uint64_t now_ns;
	uint64_t *random; /* state, advanced */
	bool has_hash;	  /* else the hashing algorithms choose at random */
	uint64_t hash;
	const struct balance_host *const *avoid; /* if there are others */
	size_t avoid_count;
	uint64_t skip; /* a bit for each priority that others are to be tried before: Envoy's previous_priorities */
};

void balance_settings_of(const struct http_cluster *c, struct balance_settings *out);
/* The hosts, in any order, must outlive it. 0 or -ENOMEM. */
int balance_new(const struct balance_settings *settings, struct balance_host *const *hosts, size_t count,
		uint64_t now_ns, uint64_t *random, struct balance **out);
void balance_free(struct balance *b); /* NULL is fine */
/* `healthy` or `ejected` of hosts changed. */
void balance_refresh(struct balance *b, uint64_t now_ns, uint64_t *random);
/* NULL: no host is healthy. */
struct balance_host *balance_choose(struct balance *b, const struct balance_ask *ask);
/* Share of requests, in percent, that a priority gets now; panic: it uses ejected hosts too. For dumps and tests. */
uint32_t balance_load(const struct balance *b, uint8_t priority, bool *panic);

/* A finished request took so long. */
void balance_observe(struct balance_host *h, uint64_t latency_ns, uint64_t now_ns);
/* What peak EWMA compares: less is better. */
double balance_cost(const struct balance_host *h, uint64_t now_ns);
/* The part of its weight that a host has during slow start, 0 < x <= 1. */
double balance_warmth(const struct balance_settings *s, const struct balance_host *h, uint64_t now_ns);
uint64_t balance_key(const struct addr_port *endpoint);
uint64_t balance_random(uint64_t *state); /* splitmix64 */
uint64_t balance_mix(uint64_t x);	  /* spreads a weak hash over all bits */
