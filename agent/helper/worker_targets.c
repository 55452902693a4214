/* SPDX-License-Identifier: Apache-2.0 */
/* What the calls of this worker's pods mean above L4. The agent pushes changes as long as an entry is here, so a hit is
 * always current; what nobody used for a while is given back. A request may name any host, and a stranger may have put it
 * there: hosts that are not an address's own are few for each pod, new ones have a rate, and one that makes no difference
 * is only a mark that leads to the address's own entry. */
#include "agent/helper/worker_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/model/l7.h"

enum {
	TARGETS_MAX = 4096,   /* of a worker; the link thread bounds what all have */
	HOSTS_EACH_POD = 256, /* in all workers together, but each has some */
	HOSTS_EACH_MIN = 32,
	HOST_TEXT_MAX = 255,
	TARGET_SWEEP_MS = 30000,
	TARGET_IDLE_MS = 300000,
	TARGET_TOUCH_MS = 1000, /* how fine "least recently used" is */
	TARGET_ASK_AGAIN_MS = 1000,
};

struct cached_target {
	TAILQ_ENTRY(cached_target) by_use;
	TAILQ_ENTRY(cached_target) by_pod; /* of those for a host */
	struct pod_entry *entry;
	struct addr_port original;
	bool answered;
	enum news what;
	struct l7_target *target; /* NEWS_OBJECT */
	struct wait_list waits;
	uint64_t used_ns, asked_ns;
	char host[]; /* lower case; "": the address alone */
};

struct target_key {
	uint8_t b[18 + HOST_TEXT_MAX + 1];
	size_t len;
};

/* A host that no agent would take is none: what is true of the address holds. */
static void target_key(const struct addr_port *at, const char *host, struct target_key *key)
{
	memcpy(key->b, at->addr.b, 16);
	memcpy(key->b + 16, &at->port, 2);
	key->len = 18;
	for (size_t i = 0; host && host[i]; i++) {
		char c = host[i];
		if (i == HOST_TEXT_MAX || c <= ' ' || c > '~') {
			key->len = 18;
			break;
		}
		key->b[key->len++] = (uint8_t)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
	}
	key->b[key->len] = 0;
}

static const char *key_host(const struct target_key *key)
{
	return (const char *)key->b + 18;
}

/* Where an entry is kept at hand. */
static struct cached_target **target_recent(struct pod_entry *entry, const struct addr_port *at, const char *host)
{
	size_t n = host ? strlen(host) : 0;
	size_t hash = at->port + at->addr.b[15] * 3u + at->addr.b[14] + n * 5;
	if (n)
		hash += (size_t)(host[0] | 0x20) + (size_t)(host[n / 2] | 0x20); /* of either case */
	return &entry->targets.recent[hash & (POD_TARGETS_RECENT - 1)];
}

static bool target_tell(struct cached_target *t, enum report_kind kind)
{
	struct report report = {
		.kind = kind, .cookie = t->entry->pod.cookie, .destination = t->original, .text = strdup(t->host)
	};
	return report.text && worker_report(t->entry->w, &report);
}

static void target_ask(struct cached_target *t)
{
	uint64_t now = loop_now_ns(t->entry->w->loop);
	if (t->asked_ns && now - t->asked_ns < TARGET_ASK_AGAIN_MS * 1000000ull)
		return;
	if (target_tell(t, REPORT_TARGET_QUERY))
		t->asked_ns = now;
}

/* Out of all lists first: who waited may ask anew at once. */
static void target_remove(struct cached_target *t)
{
	struct pod_entry *entry = t->entry;
	struct worker *w = entry->w;
	struct target_key key;
	target_key(&t->original, t->host, &key);
	struct cached_target **recent = target_recent(entry, &t->original, t->host);
	if (*recent == t)
		*recent = NULL;
	TAILQ_REMOVE(&w->targets_by_use, t, by_use);
	w->target_count--;
	if (*t->host) {
		TAILQ_REMOVE(&entry->targets.hosts, t, by_pod);
		entry->targets.host_count--;
	}
	table_remove(entry->targets.all, key.b, key.len);
	worker_waits_fail(&t->waits, 0);
	l7_target_unref(t->target);
	free(t);
}

static void target_forget(struct cached_target *t)
{
	target_tell(t, REPORT_TARGET_FORGET);
	target_remove(t);
}

static void on_target_sweep(struct loop_timer *timer, void *arg)
{
	struct worker *w = arg;
	struct cached_target *t;
	uint64_t now = loop_now_ns(w->loop);
	if (w->away)
		return; /* what is forgotten now can't be asked for again */
	while ((t = TAILQ_FIRST(&w->targets_by_use)) && now - t->used_ns > TARGET_IDLE_MS * 1000000ull)
		target_forget(t);
	if (!w->target_count)
		loop_timer_stop(timer);
}

int worker_targets_init(struct worker *w)
{
	TAILQ_INIT(&w->targets_by_use);
	return loop_timer_new(w->loop, on_target_sweep, w, &w->target_timer);
}

void worker_targets_free(struct worker *w)
{
	loop_timer_free(w->target_timer); /* the entries went with their pods */
}

void worker_pod_targets_init(struct pod_entry *entry)
{
	TAILQ_INIT(&entry->targets.hosts);
	entry->targets.rate = RATE(100, 512);
}

void worker_pod_targets_done(struct pod_entry *entry)
{
	struct table_iter it = { 0 };
	while (entry->targets.all && table_next(entry->targets.all, &it))
		target_forget(it.value);
	table_free(entry->targets.all);
	entry->targets.all = NULL;
}

/* --- entries --- */

static struct cached_target *target_find(const struct pod_entry *entry, const struct target_key *key)
{
	return entry->targets.all ? table_get(entry->targets.all, key->b, key->len) : NULL;
}

/* Makes room; false: there is none, or this pod asks for hosts too fast. */
static bool target_room(struct pod_entry *entry, bool host)
{
	struct worker *w = entry->w;
	size_t hosts = HOSTS_EACH_POD / w->count > HOSTS_EACH_MIN ? HOSTS_EACH_POD / w->count : HOSTS_EACH_MIN;
	if (host && !rate_take(&entry->targets.rate, loop_now_ns(w->loop), 1))
		return false;
	if (host && entry->targets.host_count >= hosts)
		target_forget(TAILQ_FIRST(&entry->targets.hosts));
	else if (w->target_count >= TARGETS_MAX)
		target_forget(TAILQ_FIRST(&w->targets_by_use));
	/* Those who were told that it is forgotten may have ended the pod, or asked for others. */
	if (entry->pod.removed || w->target_count >= TARGETS_MAX)
		return false;
	if (!entry->targets.all)
		entry->targets.all = table_new(NULL);
	return entry->targets.all != NULL;
}

static struct cached_target *target_add(struct pod_entry *entry, const struct addr_port *at,
					const struct target_key *key)
{
	struct worker *w = entry->w;
	size_t len = key->len - 18;
	if (!target_room(entry, len > 0))
		return NULL;
	struct cached_target *t = target_find(entry, key);
	if (t)
		return t;
	t = calloc(1, sizeof(*t) + len + 1);
	if (!t || table_set(entry->targets.all, key->b, key->len, t) < 0) {
		free(t);
		return NULL;
	}
	t->entry = entry;
	t->original = *at;
	memcpy(t->host, key_host(key), len + 1);
	TAILQ_INIT(&t->waits);
	TAILQ_INSERT_TAIL(&w->targets_by_use, t, by_use);
	if (len) {
		TAILQ_INSERT_TAIL(&entry->targets.hosts, t, by_pod);
		entry->targets.host_count++;
	}
	if (w->target_count++ == 0)
		loop_timer_start(w->target_timer, TARGET_SWEEP_MS, TARGET_SWEEP_MS);
	return t;
}

static void target_touch(struct cached_target *t)
{
	struct worker *w = t->entry->w;
	uint64_t now = loop_now_ns(w->loop);
	if (t->used_ns && now - t->used_ns < TARGET_TOUCH_MS * 1000000ull)
		return;
	t->used_ns = now;
	TAILQ_REMOVE(&w->targets_by_use, t, by_use);
	TAILQ_INSERT_TAIL(&w->targets_by_use, t, by_use);
	if (!*t->host)
		return;
	TAILQ_REMOVE(&t->entry->targets.hosts, t, by_pod);
	TAILQ_INSERT_TAIL(&t->entry->targets.hosts, t, by_pod);
}

static struct cached_target *target_get(struct pod_entry *entry, const struct addr_port *at,
					const struct target_key *key)
{
	struct cached_target *t = target_find(entry, key);
	if (!t)
		t = target_add(entry, at, key); /* without an agent, another worker may still know it */
	if (t)
		target_touch(t);
	return t;
}

/* The entry of what is asked for. NULL: no room. */
static struct cached_target *target_lookup(struct pod_entry *entry, const struct addr_port *at, const char *host)
{
	struct cached_target **recent = target_recent(entry, at, host), *t = *recent;
	if (t && addr_port_eq(&t->original, at) && strcasecmp(t->host, host ? host : "") == 0) {
		target_touch(t);
		return t;
	}
	struct target_key key;
	target_key(at, host, &key);
	t = target_get(entry, at, &key);
	if (t)
		*target_recent(entry, at, t->host) = t;
	return t;
}

/* The entry that says what holds: its own, or that of the address alone. */
static struct cached_target *target_resolve(struct pod_entry *entry, const struct addr_port *at, const char *host)
{
	struct cached_target *t = target_lookup(entry, at, host);
	return t && t->answered && t->what == NEWS_OWN ? target_lookup(entry, at, NULL) : t;
}

struct worker_wait *worker_target_get(struct worker *w, struct worker_pod *pod, const struct addr_port *original,
				      const char *host, worker_target_fn fn, void *arg)
{
	struct pod_entry *entry = container_of(pod, struct pod_entry, pod);
	struct cached_target *t = pod->removed ? NULL : target_resolve(entry, original, host);
	if (!t || (t->answered && t->what != NEWS_OBJECT)) {
		fn(NULL, arg);
		return NULL;
	}
	if (t->answered) {
		/* The callback may make the cache forget it. */
		struct l7_target *target = l7_target_ref(t->target);
		fn(target, arg);
		l7_target_unref(target);
		return NULL;
	}
	struct worker_wait *wait = worker_wait_add(w, &t->waits, pod, arg);
	if (!wait) {
		fn(NULL, arg);
		return NULL;
	}
	wait->on_target = fn;
	target_ask(t);
	return wait;
}

/* --- answers --- */

/* One by one from the table: a callback may make the cache forget the entry, which ends the other waits. */
static void target_deliver(struct pod_entry *entry, const struct target_key *key)
{
	struct cached_target *t;
	struct worker_wait *wait;
	while ((t = target_find(entry, key)) && t->answered && (wait = TAILQ_FIRST(&t->waits))) {
		struct l7_target *target = t->what == NEWS_OBJECT ? l7_target_ref(t->target) : NULL;
		worker_wait_target(wait, target);
		l7_target_unref(target);
	}
}

/* Who waits for the host waits for the address's own answer from now on, if that isn't there already. */
static void target_becomes_own(struct pod_entry *entry, const struct addr_port *at, const struct target_key *key)
{
	struct cached_target *t = target_find(entry, key), *own;
	struct worker_wait *wait;
	struct target_key own_key;
	if (!t || TAILQ_EMPTY(&t->waits))
		return;
	target_key(at, NULL, &own_key);
	own = target_get(entry, at, &own_key);
	t = target_find(entry, key); /* making room may have cost it its place */
	if (!t)
		return;
	if (!own) {
		worker_waits_fail(&t->waits, 0);
		return;
	}
	while ((wait = TAILQ_FIRST(&t->waits)))
		worker_wait_move(wait, &own->waits);
	if (own->answered)
		target_deliver(entry, &own_key);
	else
		target_ask(own);
}

void worker_target_arrived(struct worker *w, struct target_news *news)
{
	struct pod_entry *entry = table_get(w->pods, &news->cookie, sizeof(news->cookie));
	struct target_key key;
	target_key(&news->original, news->host, &key);
	struct cached_target *t = entry ? target_find(entry, &key) : NULL;
	if (!t) {
		target_news_free(news);
		return;
	}
	struct addr_port original = news->original;
	bool own = news->what == NEWS_OWN;
	if (news->what == NEWS_ABSENT) {
		/* What is known stays so; what is not, and isn't going to be, fails now and not after its time. */
		if (!t->answered)
			target_remove(t);
		target_news_free(news);
		return;
	}
	l7_target_unref(t->target);
	t->target = news->target;
	news->target = NULL;
	t->what = news->what;
	t->answered = true;
	target_news_free(news);
	worker_pod_ref(&entry->pod); /* callbacks may end the pod */
	if (own)
		target_becomes_own(entry, &original, &key);
	else
		target_deliver(entry, &key);
	worker_pod_unref(w, &entry->pod);
}
