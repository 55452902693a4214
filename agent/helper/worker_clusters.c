/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters that this worker's requests go to, shared with the other workers by reference. A cluster is followed as long as
 * somebody watches it and for a while after, so that one that is used now and then is there at once. Names of clusters with
 * DYNAMIC_DNS have the request's host in them, which a stranger may choose: those have a limit and a rate of their own. */
#include "agent/helper/worker_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/table.h"
#include "agent/model/cluster.h"

enum {
	CLUSTERS_MAX = 8192, /* of a worker; the link thread bounds what all have */
	CLUSTERS_DYNAMIC_MAX = 512,
	CLUSTER_NAME_MAX = 1024,
	CLUSTER_TICK_MS = 500,
	CLUSTER_IDLE_MS = 300000,
	CLUSTER_ASK_AGAIN_MS = 1000,
};

TAILQ_HEAD(watch_list, cluster_watch);

struct cached_cluster {
	TAILQ_ENTRY(cached_cluster) by_age; /* in clusters_asked until it is answered */
	TAILQ_ENTRY(cached_cluster) idle;   /* in clusters_idle while nobody watches */
	struct worker *w;
	struct watch_list watches;
	struct http_cluster *cluster; /* NULL: there is none, or not answered */
	bool answered, asking, dynamic;
	unsigned int busy;   /* watches are being called */
	uint64_t generation; /* of what was told */
	uint64_t asked_ns, deadline_ns, idle_ns;
	char name[];
};

struct cluster_watch {
	TAILQ_ENTRY(cluster_watch) by_cluster;
	struct cached_cluster *c;
	worker_cluster_fn changed;
	void *arg;
	uint64_t told; /* generation */
};

/* "outbound|80|v1|host" has three; with the request's host behind it, four. */
static bool name_is_dynamic(const char *name)
{
	size_t bars = 0;
	for (; *name; name++)
		bars += *name == '|';
	return bars > 3;
}

static bool name_valid(const char *name)
{
	size_t n = 0;
	for (; name[n]; n++)
		if (n == CLUSTER_NAME_MAX || name[n] <= ' ' || name[n] > '~')
			return false;
	return n > 0;
}

static bool cluster_tell(struct cached_cluster *c, enum report_kind kind)
{
	struct report report = { .kind = kind, .text = strdup(c->name) };
	return report.text && worker_report(c->w, &report);
}

static void cluster_ask(struct cached_cluster *c, uint64_t now)
{
	if (c->asked_ns && now - c->asked_ns < CLUSTER_ASK_AGAIN_MS * 1000000ull)
		return;
	if (cluster_tell(c, REPORT_CLUSTER_QUERY))
		c->asked_ns = now;
}

/* --- watches --- */

/* Calls those who don't know yet. Whoever was called goes to the end, so what a callback does to the list is harmless. */
static void cluster_tell_watches(struct cached_cluster *c)
{
	struct cluster_watch *watch;
	uint64_t generation = ++c->generation;
	c->busy++;
	while ((watch = TAILQ_FIRST(&c->watches)) && watch->told < generation) {
		watch->told = generation;
		TAILQ_REMOVE(&c->watches, watch, by_cluster);
		TAILQ_INSERT_TAIL(&c->watches, watch, by_cluster);
		struct http_cluster *cluster = c->cluster ? http_cluster_ref(c->cluster) : NULL;
		watch->changed(cluster, watch->arg);
		http_cluster_unref(cluster);
	}
	c->busy--;
}

static void cluster_answered(struct cached_cluster *c)
{
	c->answered = true;
	if (c->asking)
		TAILQ_REMOVE(&c->w->clusters_asked, c, by_age);
	c->asking = false;
}

/* Nobody watches it. */
static void cluster_remove(struct cached_cluster *c)
{
	struct worker *w = c->w;
	if (c->asking)
		TAILQ_REMOVE(&w->clusters_asked, c, by_age);
	TAILQ_REMOVE(&w->clusters_idle, c, idle);
	if (c->dynamic)
		w->clusters_dynamic--;
	table_remove_str(w->clusters, c->name);
	http_cluster_unref(c->cluster);
	free(c);
}

static void cluster_forget(struct cached_cluster *c)
{
	cluster_tell(c, REPORT_CLUSTER_FORGET);
	cluster_remove(c);
}

/* --- entries --- */

/* false: all that are there are watched, or this worker asks for hosts too fast. */
static bool cluster_room(struct worker *w, bool dynamic)
{
	struct cached_cluster *c;
	if (dynamic && !rate_take(&w->cluster_rate, loop_now_ns(w->loop), 1))
		return false;
	if (dynamic && w->clusters_dynamic >= CLUSTERS_DYNAMIC_MAX) {
		TAILQ_FOREACH(c, &w->clusters_idle, idle)
		if (c->dynamic && !c->busy)
			break;
	} else if (table_count(w->clusters) >= CLUSTERS_MAX) {
		TAILQ_FOREACH(c, &w->clusters_idle, idle)
		if (!c->busy)
			break;
	} else {
		return true;
	}
	if (!c)
		return false;
	cluster_forget(c);
	return true;
}

static struct cached_cluster *cluster_add(struct worker *w, const char *name)
{
	size_t len = strlen(name) + 1;
	bool dynamic = name_is_dynamic(name);
	if (!cluster_room(w, dynamic))
		return NULL;
	struct cached_cluster *c = calloc(1, sizeof(*c) + len);
	if (!c || table_set_str(w->clusters, name, c) < 0) {
		free(c);
		return NULL;
	}
	memcpy(c->name, name, len);
	c->w = w;
	c->dynamic = dynamic;
	TAILQ_INIT(&c->watches);
	TAILQ_INSERT_TAIL(&w->clusters_idle, c, idle);
	w->clusters_dynamic += dynamic;
	loop_timer_start(w->cluster_timer, CLUSTER_TICK_MS, CLUSTER_TICK_MS);
	return c;
}

static void cluster_wait(struct cached_cluster *c)
{
	struct worker *w = c->w;
	uint64_t now = loop_now_ns(w->loop);
	if (!c->asking) {
		c->asking = true;
		c->deadline_ns = now + WAIT_TIMEOUT_MS * 1000000ull;
		TAILQ_INSERT_TAIL(&w->clusters_asked, c, by_age);
		loop_timer_start(w->cluster_timer, CLUSTER_TICK_MS, CLUSTER_TICK_MS);
	}
	cluster_ask(c, now);
}

/* A watch of what is not, and won't be: it is answered, and that is all. */
static struct cluster_watch *watch_nothing(worker_cluster_fn changed, void *arg)
{
	struct cluster_watch *watch = calloc(1, sizeof(*watch));
	if (watch)
		changed(NULL, arg);
	return watch;
}

struct cluster_watch *worker_cluster_watch(struct worker *w, const char *name, worker_cluster_fn changed, void *arg)
{
	struct cached_cluster *c = table_get_str(w->clusters, name);
	if (!c && (!name_valid(name) || !(c = cluster_add(w, name))))
		return watch_nothing(changed, arg);
	struct cluster_watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return NULL;
	*watch = (struct cluster_watch){ .c = c, .changed = changed, .arg = arg, .told = c->generation };
	if (TAILQ_EMPTY(&c->watches))
		TAILQ_REMOVE(&w->clusters_idle, c, idle);
	TAILQ_INSERT_TAIL(&c->watches, watch, by_cluster);
	if (!c->answered) {
		cluster_wait(c);
		return watch;
	}
	struct http_cluster *cluster = c->cluster ? http_cluster_ref(c->cluster) : NULL;
	changed(cluster, arg);
	http_cluster_unref(cluster);
	return watch;
}

void worker_cluster_unwatch(struct cluster_watch *watch)
{
	struct cached_cluster *c = watch ? watch->c : NULL;
	if (c) {
		TAILQ_REMOVE(&c->watches, watch, by_cluster);
		if (TAILQ_EMPTY(&c->watches)) {
			c->idle_ns = loop_now_ns(c->w->loop);
			TAILQ_INSERT_TAIL(&c->w->clusters_idle, c, idle);
		}
	}
	free(watch);
}

/* --- answers and time --- */

void worker_cluster_arrived(struct worker *w, struct cluster_news *news)
{
	struct cached_cluster *c = table_get_str(w->clusters, news->name);
	if (c && news->what == NEWS_ABSENT) {
		/* What is known stays so. What is not fails now, and the next who wants it asks again. */
		if (!c->answered) {
			cluster_answered(c);
			cluster_tell_watches(c);
			c->answered = false;
			c->asked_ns = 0;
		}
	} else if (c) {
		http_cluster_unref(c->cluster);
		c->cluster = news->cluster;
		news->cluster = NULL;
		cluster_answered(c);
		cluster_tell_watches(c);
	}
	cluster_news_free(news);
}

/* No answer in time: they are told that there is none; a late answer still comes. */
static void clusters_time_out(struct worker *w, uint64_t now)
{
	struct cached_cluster *c;
	while ((c = TAILQ_FIRST(&w->clusters_asked)) && worker_deadline(w, c->deadline_ns) <= now) {
		TAILQ_REMOVE(&w->clusters_asked, c, by_age);
		c->asking = false;
		if (TAILQ_EMPTY(&c->watches))
			continue;
		/* The question may have been lost to a rate: it is put again until it is answered. */
		cluster_wait(c);
		c->deadline_ns = now + WAIT_TIMEOUT_MS * 1000000ull;
		cluster_tell_watches(c);
	}
}

static void on_cluster_tick(struct loop_timer *timer, void *arg)
{
	struct worker *w = arg;
	struct cached_cluster *c;
	uint64_t now = loop_now_ns(w->loop);
	clusters_time_out(w, now);
	if (!w->away) /* what is forgotten then can't be asked for again */
		while ((c = TAILQ_FIRST(&w->clusters_idle)) && now - c->idle_ns > CLUSTER_IDLE_MS * 1000000ull)
			cluster_forget(c);
	if (TAILQ_EMPTY(&w->clusters_asked) && TAILQ_EMPTY(&w->clusters_idle))
		loop_timer_stop(timer);
}

int worker_clusters_init(struct worker *w)
{
	TAILQ_INIT(&w->clusters_idle);
	TAILQ_INIT(&w->clusters_asked);
	w->cluster_rate = RATE(100, 512);
	w->clusters = table_new(NULL);
	return w->clusters ? loop_timer_new(w->loop, on_cluster_tick, w, &w->cluster_timer) : -ENOMEM;
}

void worker_clusters_free(struct worker *w)
{
	struct table_iter it = { 0 };
	while (w->clusters && table_next(w->clusters, &it)) {
		struct cached_cluster *c = it.value;
		struct cluster_watch *watch;
		while ((watch = TAILQ_FIRST(&c->watches))) {
			TAILQ_REMOVE(&c->watches, watch, by_cluster);
			watch->c = NULL; /* whoever has it may still end it */
		}
		http_cluster_unref(c->cluster);
		free(c);
	}
	table_free(w->clusters);
	loop_timer_free(w->cluster_timer);
}
