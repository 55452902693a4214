/* SPDX-License-Identifier: Apache-2.0 */
/* Each set has a timer: it is fetched when the timer fires, JWKS_INFLIGHT_MAX at a time, the others wait in a queue. A
 * discovery document is a first step that gives the address for a second.
 * What is not a key set is a failure: the last good one stays, and the next try comes sooner. */
#include "agent/source/jwks.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/transfer.h"

enum { COALESCE_MS = 2 };

struct entry {
	struct jwks_set set;
	struct jwks_source *js;
	struct loop_timer *timer;
	struct entry *next_due;
	uint32_t timeout_ms;
	bool due;
	struct transfer *transfer; /* under way */
	char *step;		   /* the address under way, when a discovery document gave it */
};

struct jwks_source {
	struct loop *loop;
	struct transfers *transfers;
	struct loop_timer *tell;
	struct entry **entries; /* by uri */
	size_t count;
	struct entry *due, **due_tail;
	size_t inflight;
	struct jwks_set *sets; /* copies for jwks_source_sets() */
	char *roots;
	bool stale;
	void (*on_change)(void *arg);
	void *arg;
};

static void pump(struct jwks_source *js);

/* --- an answer */

static void entry_free(struct entry *e)
{
	transfer_cancel(e->transfer);
	loop_timer_free(e->timer);
	free(e->step);
	free(e->set.uri);
	free(e->set.keys);
	free(e->set.error);
	free(e);
}

static uint64_t retry_s(uint64_t failures)
{
	uint64_t s = JWKS_RETRY_MIN_S;
	while (--failures && s < JWKS_RETRY_MAX_S)
		s *= 2;
	return s < JWKS_RETRY_MAX_S ? s : JWKS_RETRY_MAX_S;
}

static void changed(struct jwks_source *js)
{
	js->stale = true;
	loop_timer_start(js->tell, COALESCE_MS, 0);
}

static void entry_failed(struct entry *e, const char *why)
{
	free(e->set.error);
	e->set.error = strdup(why);
	e->set.errors++;
	if (e->set.failures++ == 0)
		changed(e->js);
	e->js->stale = true;
	free(TAKE(e->step));
	loop_timer_start(e->timer, retry_s(e->set.failures) * 1000, 0);
}

static void entry_good(struct entry *e, const struct transfer_result *answer)
{
	uint64_t s = answer->max_age_s >= 0 ? (uint64_t)answer->max_age_s : JWKS_REFRESH_S;
	char *keys = strndup((const char *)answer->body, answer->len);

	if (!keys) {
		entry_failed(e, "out of memory");
		return;
	}
	s = s < JWKS_REFRESH_MIN_S ? JWKS_REFRESH_MIN_S : s > JWKS_REFRESH_S ? JWKS_REFRESH_S : s;
	if (!str_eq(keys, e->set.keys))
		changed(e->js);
	free(e->set.keys);
	e->set.keys = keys;
	e->set.last_ok_s = clock_wall_ns() / 1000000000;
	e->set.failures = 0;
	free(TAKE(e->set.error));
	e->js->stale = true;
	free(TAKE(e->step));
	loop_timer_start(e->timer, s * 1000, 0);
}

static bool is_discovery(const struct entry *e)
{
	return !e->step && str_ends(e->set.uri, "/.well-known/openid-configuration");
}

/* Keys, or where they are. */
static void answer_read(struct entry *e, const struct transfer_result *answer)
{
	json_t *root = memchr(answer->body, 0, answer->len) ?
			       NULL :
			       json_loadb((const char *)answer->body, answer->len, 0, NULL);
	const char *next = is_discovery(e) ? json_string_value(json_object_get(root, "jwks_uri")) : NULL;

	if (!root) {
		entry_failed(e, "the answer is not JSON");
	} else if (is_discovery(e) && !next) {
		entry_failed(e, "the discovery document has no jwks_uri");
	} else if (next && !str_starts(next, "https://") &&
		   !(str_starts(next, "http://") && str_starts(e->set.uri, "http://"))) {
		entry_failed(e, "the discovery document's jwks_uri is neither https nor as the document's own");
	} else if (next) {
		e->step = strdup(next);
		if (!e->step)
			entry_failed(e, "out of memory");
		else
			loop_timer_start(e->timer, 0, 0); /* the second step */
	} else if (!json_is_array(json_object_get(root, "keys"))) {
		entry_failed(e, "the answer has no list \"keys\"");
	} else {
		entry_good(e, answer);
	}
	json_decref(root);
}

static void on_answer(const struct transfer_result *answer, void *arg)
{
	struct entry *e = arg;
	struct jwks_source *js = e->js;

	e->transfer = NULL;
	js->inflight--;
	if (answer->error)
		entry_failed(e, answer->error);
	else
		answer_read(e, answer);
	pump(js);
}

/* --- asking */

static void enqueue(struct entry *e)
{
	if (e->due || e->transfer)
		return;
	e->due = true;
	e->next_due = NULL;
	*e->js->due_tail = e;
	e->js->due_tail = &e->next_due;
}

static void dequeue(struct jwks_source *js, const struct entry *e)
{
	struct entry **at = &js->due;
	while (*at && *at != e)
		at = &(*at)->next_due;
	if (*at)
		*at = e->next_due;
	js->due_tail = &js->due;
	while (*js->due_tail)
		js->due_tail = &(*js->due_tail)->next_due;
}

static void entry_start(struct entry *e)
{
	const struct transfer_request request = { .url = e->step ? e->step : e->set.uri,
						  .timeout_ms = e->timeout_ms,
						  .response_max = JWKS_BYTES_MAX,
						  .once = true,
						  .fail_on_error = true,
						  .redirects = JWKS_REDIRECTS_MAX,
						  .roots = e->js->roots };

	e->set.fetches++;
	if (transfer_start(e->js->transfers, &request, on_answer, e, &e->transfer) < 0)
		entry_failed(e, "out of memory");
	else
		e->js->inflight++;
}

static void pump(struct jwks_source *js)
{
	while (js->due && js->inflight < JWKS_INFLIGHT_MAX) {
		struct entry *e = js->due;
		js->due = e->next_due;
		if (!js->due)
			js->due_tail = &js->due;
		e->due = false;
		entry_start(e);
	}
}

static void on_due(struct loop_timer *timer, void *arg)
{
	struct entry *e = arg;
	(void)timer;
	enqueue(e);
	pump(e->js);
}

static void on_tell(struct loop_timer *timer, void *arg)
{
	struct jwks_source *js = arg;
	(void)timer;
	js->on_change(js->arg);
}

/* --- life */

int jwks_source_new(struct loop *loop, void (*on_change)(void *arg), void *arg, struct jwks_source **out,
		    struct err *err)
{
	struct jwks_source *js = calloc(1, sizeof(*js));
	if (!js)
		return err_set(err, -ENOMEM, "jwks: no memory");
	*js = (struct jwks_source){ .loop = loop, .on_change = on_change, .arg = arg };
	js->due_tail = &js->due;
	int rc = transfers_new(loop, &js->transfers, err);
	if (rc == 0 && loop_timer_new(loop, on_tell, js, &js->tell) < 0)
		rc = err_set(err, -ENOMEM, "jwks: no memory");
	if (rc < 0) {
		jwks_source_free(js);
		return rc;
	}
	*out = js;
	return 0;
}

void jwks_source_free(struct jwks_source *js)
{
	if (!js)
		return;
	for (size_t i = 0; i < js->count; i++)
		entry_free(js->entries[i]);
	transfers_free(js->transfers);
	loop_timer_free(js->tell);
	free(js->entries);
	free(js->sets);
	free(js->roots);
	free(js);
}

int jwks_source_roots(struct jwks_source *js, const char *path)
{
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	free(js->roots);
	js->roots = copy;
	return 0;
}

void jwks_source_refresh(struct jwks_source *js)
{
	for (size_t i = 0; i < js->count; i++)
		enqueue(js->entries[i]);
	pump(js);
}

static struct entry *entry_new(struct jwks_source *js, const char *uri)
{
	struct entry *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->js = js;
	e->set.uri = strdup(uri);
	if (!e->set.uri || loop_timer_new(js->loop, on_due, e, &e->timer) < 0) {
		entry_free(e);
		return NULL;
	}
	return e;
}

static void entry_drop(struct entry *e)
{
	if (e->due)
		dequeue(e->js, e);
	if (e->transfer)
		e->js->inflight--;
	entry_free(e);
}

static struct entry *entry_find(const struct jwks_source *js, const char *uri)
{
	for (size_t i = 0; i < js->count; i++)
		if (str_eq(js->entries[i]->set.uri, uri))
			return js->entries[i];
	return NULL;
}

static bool is_among(struct entry *const *v, size_t n, const struct entry *e)
{
	for (size_t i = 0; i < n; i++)
		if (v[i] == e)
			return true;
	return false;
}

/* A node has a handful of issuers: looking through all is fine. */
int jwks_source_set(struct jwks_source *js, const struct jwks_want *wants, size_t count)
{
	struct entry **entries = calloc(count + 1, sizeof(struct entry *));
	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct entry *known = entry_find(js, wants[i].uri);
		entries[i] = known ? known : entry_new(js, wants[i].uri);
		if (entries[i]) {
			entries[i]->timeout_ms = wants[i].timeout_ms ? wants[i].timeout_ms : JWKS_TIMEOUT_MS;
			continue;
		}
		while (i--)
			if (!is_among(js->entries, js->count, entries[i]))
				entry_free(entries[i]);
		free(entries);
		return -ENOMEM;
	}
	for (size_t i = 0; i < js->count; i++)
		if (!is_among(entries, count, js->entries[i]))
			entry_drop(js->entries[i]);
	free(js->entries);
	js->entries = entries;
	js->count = count;
	js->stale = true;
	for (size_t i = 0; i < count; i++)
		if (!entries[i]->set.fetches)
			enqueue(entries[i]);
	pump(js);
	return 0;
}

const struct jwks_set *jwks_source_sets(const struct jwks_source *js, size_t *count)
{
	struct jwks_source *cache = (struct jwks_source *)js; /* the copies are a cache */
	*count = 0;
	if (js->stale) {
		struct jwks_set *sets = realloc(js->sets, (js->count + 1) * sizeof(*sets));
		if (!sets)
			return NULL;
		for (size_t i = 0; i < js->count; i++)
			sets[i] = js->entries[i]->set;
		cache->sets = sets;
		cache->stale = false;
	}
	*count = js->count;
	return js->sets;
}
