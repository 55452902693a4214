/* SPDX-License-Identifier: Apache-2.0 */
/* Workers ask about calls above L4 one by one; the agent is asked once for all of them, and what it says (also later, of its
 * own accord) goes to those who use it. The objects are shared by all threads: immutable, counted atomically. */
#include "agent/helper/helper_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/table.h"
#include "agent/link/rate.h"
#include "agent/model/cluster.h"
#include "agent/model/l7.h"

/* A little less than what the agent lets a helper follow. */
enum { HUB_TARGETS_MAX = 8000, HUB_CLUSTERS_MAX = 16000, HUB_KEY_MAX = 2048 };
/* Another agent is asked for all again, at a rate that its limits and the link's queue allow. */
enum { AGAIN_TICK_MS = 20, AGAIN_EACH_TICK = 40, AGAIN_ASK_MS = 2000 };

/* What is asked about: a target has all, a cluster only text, its name. */
struct hub_subject {
	bool cluster;
	uint64_t cookie;
	struct addr_port original;
	const char *text;
};

struct hub_object {
	struct hub_subject subject; /* text points behind it */
	bool answered, stale;	    /* stale: by an agent that is gone */
	uint64_t asked_ns;	    /* while it is stale */
	enum news what;
	struct l7_target *target;
	struct http_cluster *object;
	uint32_t workers; /* bit by index */
	char text[];
};

struct target_hub {
	struct helper *h;
	struct table *targets, *clusters;
	struct table *vhosts; /* the agent's number -> struct http_vhost */
	struct rate complaints;
	struct loop_timer *again;
};

_Static_assert(LINK_SHARDS_MAX <= 32, "workers is a bit mask");

struct hub_key {
	uint8_t b[HUB_KEY_MAX];
	size_t len; /* 0: too long */
};

static struct table *subject_key(const struct target_hub *hub, const struct hub_subject *s, struct hub_key *key)
{
	size_t n = strlen(s->text), head = s->cluster ? 0 : 26;
	key->len = head + n <= sizeof(key->b) ? head + n : 0;
	if (!key->len)
		return NULL;
	if (!s->cluster) {
		memcpy(key->b, &s->cookie, 8);
		memcpy(key->b + 8, s->original.addr.b, 16);
		memcpy(key->b + 24, &s->original.port, 2);
	}
	memcpy(key->b + head, s->text, n);
	return s->cluster ? hub->clusters : hub->targets;
}

static struct hub_object *hub_find(const struct target_hub *hub, const struct hub_subject *s)
{
	struct hub_key key;
	struct table *table = subject_key(hub, s, &key);
	return table ? table_get(table, key.b, key.len) : NULL;
}

static void hub_object_free(void *value)
{
	struct hub_object *o = value;
	l7_target_unref(o->target);
	http_cluster_unref(o->object);
	free(o);
}

static void vhost_free(void *value)
{
	http_vhost_unref(value);
}

static void on_again(struct loop_timer *timer, void *arg);

struct target_hub *target_hub_new(struct helper *h)
{
	struct target_hub *hub = calloc(1, sizeof(*hub));
	if (!hub)
		return NULL;
	hub->h = h;
	hub->complaints = (struct rate)RATE(1, 1);
	hub->complaints.interval_ns *= 60;
	hub->complaints.burst_ns *= 60;
	hub->targets = table_new(hub_object_free);
	hub->clusters = table_new(hub_object_free);
	hub->vhosts = table_new(vhost_free);
	if (hub->targets && hub->clusters && hub->vhosts && loop_timer_new(h->loop, on_again, hub, &hub->again) == 0)
		return hub;
	target_hub_free(hub);
	return NULL;
}

void target_hub_free(struct target_hub *hub)
{
	if (!hub)
		return;
	loop_timer_free(hub->again);
	table_free(hub->targets);
	table_free(hub->clusters);
	table_free(hub->vhosts);
	free(hub);
}

/* --- to workers --- */

static void deliver_target(struct target_hub *hub, const struct hub_subject *s, enum news what,
			   struct l7_target *target, unsigned int worker)
{
	struct order *order = order_new(ORDER_TARGET, 0);
	struct target_news *news = order ? target_news_new(s->cookie, &s->original, s->text) : NULL;
	if (!news) {
		order_free(order);
		return; /* the worker's wait times out */
	}
	news->what = what;
	news->target = target ? l7_target_ref(target) : NULL;
	order->target = news;
	worker_order(hub->h->workers[worker], order);
}

static void deliver_cluster(struct target_hub *hub, const char *name, enum news what, struct http_cluster *cluster,
			    unsigned int worker)
{
	struct order *order = order_new(ORDER_CLUSTER, 0);
	struct cluster_news *news = order ? cluster_news_new(name) : NULL;
	if (!news) {
		order_free(order);
		return;
	}
	news->what = what;
	news->cluster = cluster ? http_cluster_ref(cluster) : NULL;
	order->cluster = news;
	worker_order(hub->h->workers[worker], order);
}

static void hub_deliver(struct target_hub *hub, const struct hub_object *o, unsigned int worker)
{
	if (o->subject.cluster)
		deliver_cluster(hub, o->text, o->what, o->object, worker);
	else
		deliver_target(hub, &o->subject, o->what, o->target, worker);
}

static void hub_deliver_all(struct target_hub *hub, const struct hub_object *o)
{
	for (unsigned int i = 0; i < hub->h->worker_count; i++)
		if (o->workers & (1u << i))
			hub_deliver(hub, o, i);
}

/* So that a request fails at once and not after its timeout. */
static void hub_deliver_absent(struct target_hub *hub, const struct hub_subject *s, unsigned int worker)
{
	if (s->cluster)
		deliver_cluster(hub, s->text, NEWS_ABSENT, NULL, worker);
	else
		deliver_target(hub, s, NEWS_ABSENT, NULL, worker);
}

/* --- to the agent --- */

static void ask_target(struct helper *h, const struct hub_subject *s, bool forget)
{
	Weft__Link__TargetQuery query = WEFT__LINK__TARGET_QUERY__INIT;
	Weft__Link__TargetForget gone = WEFT__LINK__TARGET_FORGET__INIT;
	Weft__Link__AddrPort at;
	message_addr_port_set(&at, &s->original);
	query.cookie = gone.cookie = s->cookie;
	query.original = gone.original = &at;
	query.host = gone.host = (char *)(uintptr_t)s->text; /* only read when packed */
	if (forget)
		helper_send(h, WEFT__LINK__TO_AGENT__MSG_TARGET_FORGET, &gone);
	else
		helper_send(h, WEFT__LINK__TO_AGENT__MSG_TARGET_QUERY, &query);
}

static void ask_cluster(struct helper *h, const struct hub_subject *s, bool forget)
{
	Weft__Link__ClusterQuery query = WEFT__LINK__CLUSTER_QUERY__INIT;
	Weft__Link__ClusterForget gone = WEFT__LINK__CLUSTER_FORGET__INIT;
	query.name = gone.name = (char *)(uintptr_t)s->text;
	if (forget)
		helper_send(h, WEFT__LINK__TO_AGENT__MSG_CLUSTER_FORGET, &gone);
	else
		helper_send(h, WEFT__LINK__TO_AGENT__MSG_CLUSTER_QUERY, &query);
}

static void hub_ask(struct target_hub *hub, const struct hub_subject *s, bool forget)
{
	if (s->cluster)
		ask_cluster(hub->h, s, forget);
	else
		ask_target(hub->h, s, forget);
}

/* --- what workers want --- */

static struct hub_object *hub_add(struct target_hub *hub, const struct hub_subject *s)
{
	struct hub_key key;
	struct table *table = subject_key(hub, s, &key);
	if (!table)
		return NULL;
	if (table_count(table) >= (s->cluster ? HUB_CLUSTERS_MAX : HUB_TARGETS_MAX)) {
		if (rate_take(&hub->complaints, loop_now_ns(hub->h->loop), 1))
			log_warn("this node's pods call more %s than the helper keeps (%zu): new ones are refused",
				 s->cluster ? "clusters" : "destinations", table_count(table));
		return NULL;
	}
	struct hub_object *o = calloc(1, sizeof(*o) + strlen(s->text) + 1);
	if (!o || table_set(table, key.b, key.len, o) < 0) {
		free(o);
		return NULL;
	}
	memcpy(o->text, s->text, strlen(s->text) + 1);
	o->subject = *s;
	o->subject.text = o->text;
	return o;
}

static void hub_query(struct target_hub *hub, unsigned int worker, const struct hub_subject *s)
{
	struct hub_object *o = hub_find(hub, s);
	if ((hub->h->alone && (!o || !o->answered)) || (!o && !(o = hub_add(hub, s)))) {
		hub_deliver_absent(hub, s, worker);
		return;
	}
	o->workers |= 1u << worker;
	if (o->answered)
		hub_deliver(hub, o, worker);
	else
		hub_ask(hub, s,
			false); /* again when a worker asks again: the first may have been lost to a rate limit */
}

static void hub_remove(struct target_hub *hub, const struct hub_subject *s)
{
	struct hub_key key;
	struct table *table = subject_key(hub, s, &key);
	if (table)
		table_remove(table, key.b, key.len);
}

static void hub_forget(struct target_hub *hub, unsigned int worker, const struct hub_subject *s)
{
	struct hub_object *o = hub_find(hub, s);
	if (!o)
		return;
	o->workers &= ~(1u << worker);
	if (o->workers)
		return;
	hub_remove(hub, s);
	hub_ask(hub, s, true);
}

void target_hub_on_report(struct target_hub *hub, const struct report *r)
{
	struct hub_subject s = { .cookie = r->cookie,
				 .original = r->destination,
				 .text = r->text,
				 .cluster = r->kind == REPORT_CLUSTER_QUERY || r->kind == REPORT_CLUSTER_FORGET };
	if (r->kind == REPORT_TARGET_QUERY || r->kind == REPORT_CLUSTER_QUERY)
		hub_query(hub, r->worker, &s);
	else
		hub_forget(hub, r->worker, &s);
}

static void hub_alone(struct target_hub *hub, struct table *table)
{
	struct table_iter it = { 0 };
	while (table_next(table, &it)) {
		const struct hub_object *o = it.value;
		if (o->answered)
			continue;
		for (unsigned int i = 0; i < hub->h->worker_count; i++)
			if (o->workers & (1u << i))
				hub_deliver_absent(hub, &o->subject, i);
		table_remove(table, it.key, it.key_len);
	}
}

/* --- another agent --- */

static size_t stale_ask(struct target_hub *hub, struct table *table, size_t *room)
{
	uint64_t now = loop_now_ns(hub->h->loop);
	struct table_iter it = { 0 };
	size_t left = 0;
	while (table_next(table, &it)) {
		struct hub_object *o = it.value;
		if (!o->stale)
			continue;
		left++;
		if (!*room || (o->asked_ns && now - o->asked_ns < AGAIN_ASK_MS * 1000000ull))
			continue;
		o->asked_ns = now;
		--*room;
		hub_ask(hub, &o->subject, false);
	}
	return left;
}

static void on_again(struct loop_timer *timer, void *arg)
{
	struct target_hub *hub = arg;
	size_t room = AGAIN_EACH_TICK;
	/* Clusters before the routes that lead to them. */
	size_t left = hub->h->channel ? stale_ask(hub, hub->clusters, &room) : 0;
	if (hub->h->channel)
		left += stale_ask(hub, hub->targets, &room);
	if (!left)
		loop_timer_stop(timer);
}

/* Those that somebody waits for at once. */
static void hub_stale(struct target_hub *hub, struct table *table)
{
	struct table_iter it = { 0 };
	while (table_next(table, &it)) {
		struct hub_object *o = it.value;
		o->stale = true;
		o->asked_ns = o->answered ? 0 : loop_now_ns(hub->h->loop);
		if (!o->answered)
			hub_ask(hub, &o->subject, false);
	}
}

void target_hub_back(struct target_hub *hub)
{
	struct table_iter it = { 0 };
	while (table_next(hub->vhosts, &it))
		table_remove(hub->vhosts, it.key, it.key_len); /* its numbers are others */
	hub_stale(hub, hub->clusters);
	hub_stale(hub, hub->targets);
	loop_timer_start(hub->again, 0, AGAIN_TICK_MS);
}

void target_hub_alone(struct target_hub *hub)
{
	hub_alone(hub, hub->targets);
	hub_alone(hub, hub->clusters);
}

/* --- routes, told once for all targets that have them --- */

void target_hub_vhost(struct target_hub *hub, uint64_t id, struct http_vhost *vhost)
{
	if (table_set(hub->vhosts, &id, sizeof(id), vhost) < 0)
		http_vhost_unref(vhost); /* its targets are not decoded, then, and the questions time out */
}

void target_hub_vhost_forget(struct target_hub *hub, uint64_t id)
{
	table_remove(hub->vhosts, &id, sizeof(id));
}

int target_hub_decode(struct target_hub *hub, const Weft__Link__TargetAnswer *m, struct l7_target **out)
{
	struct http_vhost *vhost = m->vhost ? table_get(hub->vhosts, &m->vhost, sizeof(m->vhost)) : NULL;
	if (m->vhost && (!vhost || m->target->vhost))
		return -EINVAL;
	int rc = message_target_decode(m->target, out);
	if (rc < 0 || !vhost)
		return rc;
	(*out)->vhost = http_vhost_ref(vhost);
	l7_target_seal(*out);
	return 0;
}

/* --- what the agent says --- */

void target_hub_target(struct target_hub *hub, uint64_t cookie, const struct addr_port *original, const char *host,
		       enum news what, struct l7_target *target)
{
	struct hub_subject s = { .cookie = cookie, .original = *original, .text = host };
	struct hub_object *o = hub_find(hub, &s);
	/* Forgotten meanwhile; or of a pod that the agent knows no more, whose last requests need what was true. */
	if (!o || leaving_has(hub->h->leaving, cookie)) {
		l7_target_unref(target);
		return;
	}
	l7_target_unref(o->target);
	o->target = target;
	o->what = what;
	o->answered = true;
	o->stale = false;
	hub_deliver_all(hub, o);
}

void target_hub_cluster(struct target_hub *hub, const char *name, enum news what, struct http_cluster *cluster)
{
	struct hub_subject s = { .cluster = true, .text = name };
	struct hub_object *o = hub_find(hub, &s);
	if (!o) {
		http_cluster_unref(cluster);
		return;
	}
	http_cluster_unref(o->object);
	o->object = cluster;
	o->what = what;
	o->answered = true;
	o->stale = false;
	hub_deliver_all(hub, o);
}
