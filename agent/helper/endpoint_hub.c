/* SPDX-License-Identifier: Apache-2.0 */
/* Workers ask about destinations one by one; the agent is asked once for all of them, and its pushes go to those who
 * use the destination. */
#include "agent/helper/helper_internal.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/table.h"

/* Another agent is asked for all again, at a rate that its limits and the link's queue allow. */
enum { AGAIN_TICK_MS = 20, AGAIN_EACH_TICK = 80, AGAIN_ASK_MS = 2000 };

struct hub_entry {
	struct endpoint_shared *shared; /* NULL: not answered yet */
	uint32_t workers;		/* bit by index */
	bool stale;			/* answered by an agent that is gone, or not */
	uint64_t asked_ns;		/* while it is stale */
};

struct endpoint_hub {
	struct helper *h;
	struct table *entries;
	struct loop_timer *again;
};

_Static_assert(LINK_SHARDS_MAX <= 32, "workers is a bit mask");

struct hub_key {
	uint8_t b[18];
};

static struct hub_key key_of(const struct addr_port *at)
{
	struct hub_key key;
	memcpy(key.b, at->addr.b, 16);
	memcpy(key.b + 16, &at->port, 2);
	return key;
}

static void entry_free(void *value)
{
	struct hub_entry *e = value;
	endpoint_shared_unref(e->shared);
	free(e);
}

static void on_again(struct loop_timer *timer, void *arg);

struct endpoint_hub *endpoint_hub_new(struct helper *h)
{
	struct endpoint_hub *hub = calloc(1, sizeof(*hub));
	if (!hub)
		return NULL;
	hub->h = h;
	hub->entries = table_new(entry_free);
	if (hub->entries && loop_timer_new(h->loop, on_again, hub, &hub->again) == 0)
		return hub;
	endpoint_hub_free(hub);
	return NULL;
}

void endpoint_hub_free(struct endpoint_hub *hub)
{
	if (!hub)
		return;
	loop_timer_free(hub->again);
	table_free(hub->entries);
	free(hub);
}

/* So that a connection fails at once and not after its timeout. */
static void hub_deliver_absent(struct endpoint_hub *hub, const struct addr_port *at, unsigned int worker)
{
	struct order *order = order_new(ORDER_ENDPOINT, 0);
	struct endpoint_shared *none = order ? calloc(1, sizeof(*none)) : NULL;
	if (!none) {
		order_free(order);
		return;
	}
	none->refs = 1;
	none->absent = true;
	none->info.endpoint = *at;
	order->endpoint = none;
	worker_order(hub->h->workers[worker], order);
}

static void hub_deliver(struct endpoint_hub *hub, const struct hub_entry *e, unsigned int worker)
{
	struct order *order = order_new(ORDER_ENDPOINT, 0);
	if (!order)
		return; /* the worker's wait times out */
	order->endpoint = endpoint_shared_ref(e->shared);
	worker_order(hub->h->workers[worker], order);
}

static void endpoint_ask(struct endpoint_hub *hub, const struct addr_port *at)
{
	Weft__Link__EndpointQuery query = WEFT__LINK__ENDPOINT_QUERY__INIT;
	Weft__Link__AddrPort m;
	message_addr_port_set(&m, at);
	query.endpoint = &m;
	helper_send(hub->h, WEFT__LINK__TO_AGENT__MSG_ENDPOINT_QUERY, &query);
}

void endpoint_hub_query(struct endpoint_hub *hub, unsigned int worker, const struct addr_port *at)
{
	struct hub_key key = key_of(at);
	struct hub_entry *e = table_get(hub->entries, &key, sizeof(key));
	if (hub->h->alone && (!e || !e->shared)) {
		hub_deliver_absent(hub, at, worker);
		return;
	}
	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e || table_set(hub->entries, &key, sizeof(key), e) < 0) {
			free(e);
			return;
		}
	}
	e->workers |= 1u << worker;
	if (e->shared) {
		hub_deliver(hub, e, worker);
		return;
	}
	/* Asked again when a worker asks again: the first question may have been lost to a rate limit. */
	endpoint_ask(hub, at);
}

void endpoint_hub_forget(struct endpoint_hub *hub, unsigned int worker, const struct addr_port *at)
{
	struct hub_key key = key_of(at);
	struct hub_entry *e = table_get(hub->entries, &key, sizeof(key));
	if (!e)
		return;
	e->workers &= ~(1u << worker);
	if (e->workers)
		return;
	table_remove(hub->entries, &key, sizeof(key));
	Weft__Link__EndpointForget forget = WEFT__LINK__ENDPOINT_FORGET__INIT;
	Weft__Link__AddrPort m;
	message_addr_port_set(&m, at);
	forget.endpoint = &m;
	helper_send(hub->h, WEFT__LINK__TO_AGENT__MSG_ENDPOINT_FORGET, &forget);
}

static void key_read(const void *key, struct addr_port *at)
{
	memcpy(at->addr.b, key, 16);
	memcpy(&at->port, (const uint8_t *)key + 16, 2);
}

static void on_again(struct loop_timer *timer, void *arg)
{
	struct endpoint_hub *hub = arg;
	uint64_t now = loop_now_ns(hub->h->loop);
	struct table_iter it = { 0 };
	size_t left = 0, room = AGAIN_EACH_TICK;
	while (hub->h->channel && table_next(hub->entries, &it)) {
		struct hub_entry *e = it.value;
		if (!e->stale)
			continue;
		left++;
		if (!room || (e->asked_ns && now - e->asked_ns < AGAIN_ASK_MS * 1000000ull))
			continue;
		struct addr_port at;
		key_read(it.key, &at);
		e->asked_ns = now;
		room--;
		endpoint_ask(hub, &at);
	}
	if (!left)
		loop_timer_stop(timer);
}

void endpoint_hub_back(struct endpoint_hub *hub)
{
	struct table_iter it = { 0 };
	while (table_next(hub->entries, &it)) {
		struct hub_entry *e = it.value;
		struct addr_port at;
		e->stale = true;
		e->asked_ns = e->shared ? 0 : loop_now_ns(hub->h->loop);
		key_read(it.key, &at);
		if (!e->shared)
			endpoint_ask(hub, &at); /* somebody waits */
	}
	loop_timer_start(hub->again, 0, AGAIN_TICK_MS);
}

void endpoint_hub_alone(struct endpoint_hub *hub)
{
	struct table_iter it = { 0 };
	while (table_next(hub->entries, &it)) {
		const struct hub_entry *e = it.value;
		if (e->shared)
			continue;
		struct addr_port at;
		key_read(it.key, &at);
		for (unsigned int i = 0; i < hub->h->worker_count; i++)
			if (e->workers & (1u << i))
				hub_deliver_absent(hub, &at, i);
		table_remove(hub->entries, it.key, it.key_len);
	}
}

void endpoint_hub_info(struct endpoint_hub *hub, struct endpoint_shared *shared)
{
	struct hub_key key = key_of(&shared->info.endpoint);
	struct hub_entry *e = table_get(hub->entries, &key, sizeof(key));
	if (!e) {
		endpoint_shared_unref(shared); /* forgotten meanwhile */
		return;
	}
	endpoint_shared_unref(e->shared);
	e->shared = shared;
	e->stale = false;
	for (unsigned int i = 0; i < hub->h->worker_count; i++)
		if (e->workers & (1u << i))
			hub_deliver(hub, e, i);
}
