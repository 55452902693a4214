/* SPDX-License-Identifier: Apache-2.0 */
/* Revisions are differences, so the state at revision N is the present one with the later differences undone. Only the
 * last STORE_HISTORY_MAX are kept. Texts are appended and never changed; when most of them belong to nobody any more,
 * both files are written anew, beginning with a base record of all that the oldest kept revision started from. */
#include "agent/source/history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/source/history_file.h"

enum { REWRITE_MIN_BYTES = 16 << 20, REWRITE_FACTOR = 3, SUMMARY_KEYS_MAX = 3 };

struct history {
	struct history_file file;
	struct history_revision revisions[STORE_HISTORY_MAX]; /* newest first */
	size_t count;
	struct table *names; /* interned file names */
	struct version *versions;
	uint64_t live_bytes;
	struct table *loading; /* while the files are read: key -> version */
	void (*walk)(void (*each)(const char *key, struct version *v, void *to), void *to, void *arg);
	void *walk_arg;
};

static void version_link(struct history *h, struct version *v)
{
	v->owner = h;
	v->next = h->versions;
	v->prev = NULL;
	if (h->versions)
		h->versions->prev = v;
	h->versions = v;
	h->live_bytes += v->len;
}

struct version *version_ref(struct version *v)
{
	v->refs++;
	return v;
}

void version_unref(struct version *v)
{
	if (!v || --v->refs)
		return;
	if (v->owner) {
		v->owner->live_bytes -= v->len;
		if (v->prev)
			v->prev->next = v->next;
		else
			v->owner->versions = v->next;
		if (v->next)
			v->next->prev = v->prev;
	}
	free(v);
}

static void version_drop(void *v)
{
	version_unref(v);
}

void history_changes_free(struct history_change *changes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(changes[i].key);
		version_unref(changes[i].before);
		version_unref(changes[i].after);
	}
	free(changes);
}

static void revision_done(struct history_revision *r)
{
	history_changes_free(r->changes, r->change_count);
	free(r->pub.summary);
	*r = (struct history_revision){ 0 };
}

int history_new(struct history **out)
{
	struct history *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->file = (struct history_file){ .dir_fd = -1, .revisions_fd = -1, .texts_fd = -1 };
	h->names = table_new(free);
	if (!h->names) {
		free(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

void history_free(struct history *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->count; i++)
		revision_done(&h->revisions[i]);
	for (struct version *v = h->versions; v; v = v->next)
		v->owner = NULL; /* whoever still holds one frees it later */
	table_free(h->loading);
	table_free(h->names);
	history_file_close(&h->file);
	free(h);
}

void history_set_walk(struct history *h,
		      void (*walk)(void (*each)(const char *key, struct version *v, void *to), void *to, void *arg),
		      void *arg)
{
	h->walk = walk;
	h->walk_arg = arg;
}

static const char *history_intern(void *arg, const char *name)
{
	struct history *h = arg;
	char *copy = table_get_str(h->names, name);
	if (copy || !(copy = strdup(name)))
		return copy;
	if (table_set_str(h->names, name, copy) == 0)
		return copy;
	free(copy);
	return NULL;
}

static int history_push(struct history *h, const struct history_revision *r)
{
	if (h->count == STORE_HISTORY_MAX)
		revision_done(&h->revisions[--h->count]);
	memmove(h->revisions + 1, h->revisions, h->count * sizeof(*h->revisions));
	h->revisions[0] = *r;
	h->count++;
	return 0;
}

/* One record of the file, oldest first. */
static int history_on_revision(struct history_revision *r, void *arg)
{
	struct history *h = arg;
	int rc = 0;
	for (size_t i = 0; i < r->change_count && rc == 0; i++) {
		struct history_change *c = &r->changes[i];
		if (c->before)
			version_link(h, c->before);
		if (c->after) {
			version_link(h, c->after);
			rc = table_set_str(h->loading, c->key, version_ref(c->after));
		} else {
			table_remove_str(h->loading, c->key);
		}
	}
	if (r->base)
		revision_done(r);
	else
		history_push(h, r);
	free(r);
	return rc;
}

int history_open(struct history *h, const char *dir, struct table **state, struct err *err)
{
	h->loading = table_new(version_drop);
	if (!h->loading)
		return err_set(err, -ENOMEM, "config history: no memory");
	int rc = dir ? history_file_open(&h->file, dir, history_on_revision, history_intern, h, err) :
		       history_file_memory(&h->file, err);
	*state = TAKE(h->loading);
	return rc;
}

static int history_ensure(struct history *h, struct err *err)
{
	return h->file.texts_fd >= 0 ? 0 : history_file_memory(&h->file, err);
}

static struct version *version_new(struct history *h, const struct version *like, const char *file, uint32_t line)
{
	struct version *v = calloc(1, sizeof(*v));
	if (!v)
		return NULL;
	*v = *like;
	v->refs = 1;
	v->line = line;
	v->file = history_intern(h, file);
	if (!v->file) {
		free(v);
		return NULL;
	}
	version_link(h, v);
	return v;
}

struct version *history_text_add(struct history *h, const char *text, size_t len, uint64_t hash, const char *file,
				 uint32_t line, struct err *err)
{
	struct version v = { .len = (uint32_t)len, .hash = hash };
	if (history_ensure(h, err) < 0 || history_file_text(&h->file, text, len, &v.offset, err) < 0)
		return NULL;
	struct version *copy = version_new(h, &v, file, line);
	if (!copy)
		err_set(err, -ENOMEM, "config history: no memory for a text");
	return copy;
}

struct version *history_text_moved(struct history *h, const struct version *v, const char *file, uint32_t line)
{
	return version_new(h, v, file, line);
}

int history_text(const struct history *h, const struct version *v, struct sb *out, struct err *err)
{
	AUTO(mem_freep) char *text = malloc(v->len + 1);
	if (!text)
		return err_set(err, -ENOMEM, "config history: no memory for a text");
	/* Reading flushes what is buffered: bookkeeping, not state. */
	int rc = history_file_read((struct history_file *)&h->file, v->offset, v->len, text, err);
	if (rc < 0)
		return rc;
	if (hash64(HASH64_INIT, text, v->len) != v->hash)
		return err_set(err, -EIO, "config history: the text of %s:%u is damaged in the state directory",
			       v->file, v->line);
	sb_add_bytes(out, text, v->len);
	return 0;
}

/* "1 added, 2 changed: Service/shop/a, ..." */
static char *summarize(const struct history_change *changes, size_t count, uint64_t rolled_back_to)
{
	size_t added = 0, changed = 0, removed = 0;
	struct sb sb = { 0 };
	for (size_t i = 0; i < count; i++) {
		added += !changes[i].before;
		removed += !changes[i].after;
		changed += changes[i].before && changes[i].after;
	}
	if (rolled_back_to)
		sb_addf(&sb, "rollback to %llu: ", (unsigned long long)rolled_back_to);
	if (changed)
		sb_addf(&sb, "%zu changed", changed);
	if (added)
		sb_addf(&sb, "%s%zu added", changed ? ", " : "", added);
	if (removed)
		sb_addf(&sb, "%s%zu removed", changed || added ? ", " : "", removed);
	if (!count)
		sb_add(&sb, "no difference");
	for (size_t i = 0; i < count && i < SUMMARY_KEYS_MAX; i++)
		sb_addf(&sb, "%s%s", i ? ", " : ": ", changes[i].key);
	if (count > SUMMARY_KEYS_MAX)
		sb_add(&sb, ", ...");
	return sb_take(&sb);
}

static int change_cmp(const void *a, const void *b)
{
	return strcmp(((const struct history_change *)a)->key, ((const struct history_change *)b)->key);
}

/* Copies a version's text into the next files; the new place is remembered until all have been copied. */
static int rewrite_texts(struct history *h, struct history_file *next, uint64_t *offsets, struct err *err)
{
	size_t i = 0;
	for (struct version *v = h->versions; v; v = v->next, i++) {
		AUTO(mem_freep) char *text = malloc(v->len + 1);
		if (!text)
			return err_set(err, -ENOMEM, "config history: no memory for a text");
		int rc = history_file_read(&h->file, v->offset, v->len, text, err);
		if (rc == 0)
			rc = history_file_text(next, text, v->len, &offsets[i], err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

struct base_build {
	struct table *state;
	struct history_revision base;
	size_t cap;
	bool failed;
};

static void base_each(const char *key, struct version *v, void *to)
{
	struct base_build *b = to;
	if (table_set_str(b->state, key, version_ref(v)) < 0)
		b->failed = true;
}

/* All keys and versions before the oldest kept revision. */
static int base_build(const struct history *h, struct base_build *b)
{
	b->state = table_new(version_drop);
	if (!b->state)
		return -ENOMEM;
	h->walk(base_each, b, h->walk_arg);
	for (size_t i = 0; i < h->count; i++) {
		for (size_t k = 0; k < h->revisions[i].change_count; k++) {
			const struct history_change *c = &h->revisions[i].changes[k];
			if (!c->before)
				table_remove_str(b->state, c->key);
			else if (table_set_str(b->state, c->key, version_ref(c->before)) < 0)
				b->failed = true;
		}
	}
	b->base.base = true;
	struct table_iter it = { 0 };
	while (!b->failed && table_next(b->state, &it)) {
		if (mem_reserve(&b->base.changes, &b->cap, b->base.change_count + 1, sizeof(*b->base.changes)) < 0)
			return -ENOMEM;
		char *key = strndup(it.key, it.key_len);
		if (!key)
			return -ENOMEM;
		b->base.changes[b->base.change_count++] =
			(struct history_change){ .key = key, .after = version_ref(it.value) };
	}
	return b->failed ? -ENOMEM : 0;
}

/* Version offsets are those of the new files while the records are written, and are put back on failure. */
static int rewrite_records(struct history *h, struct history_file *next, struct err *err)
{
	struct base_build b = { 0 };
	int rc = base_build(h, &b);
	if (rc < 0)
		err_set(err, rc, "config history: no memory to rewrite it");
	if (rc == 0)
		rc = history_file_append(next, &b.base, err);
	for (size_t i = h->count; i-- > 0 && rc == 0;)
		rc = history_file_append(next, &h->revisions[i], err);
	history_changes_free(b.base.changes, b.base.change_count);
	table_free(b.state);
	return rc;
}

static void swap_offsets(struct history *h, uint64_t *offsets)
{
	size_t i = 0;
	for (struct version *v = h->versions; v; v = v->next, i++) {
		uint64_t old = v->offset;
		v->offset = offsets[i];
		offsets[i] = old;
	}
}

static int history_rewrite(struct history *h, struct err *err)
{
	size_t count = 0;
	for (struct version *v = h->versions; v; v = v->next)
		count++;
	AUTO(mem_freep) uint64_t *offsets = calloc(count + 1, sizeof(*offsets));
	struct history_file next;
	if (!offsets)
		return err_set(err, -ENOMEM, "config history: no memory to rewrite it");
	int rc = history_file_rewrite(&h->file, &next, err);
	if (rc == 0)
		rc = rewrite_texts(h, &next, offsets, err);
	if (rc == 0) {
		swap_offsets(h, offsets);
		rc = rewrite_records(h, &next, err);
		if (rc == 0)
			rc = history_file_finish(&h->file, &next, err);
		if (rc < 0)
			swap_offsets(h, offsets);
	}
	if (rc < 0)
		history_file_close(&next);
	return rc;
}

int history_add(struct history *h, struct history_change *changes, size_t count, uint64_t rolled_back_to,
		uint64_t files_hash, struct err *err)
{
	if (count)
		qsort(changes, count, sizeof(*changes), change_cmp);
	struct history_revision r = {
		.pub = { .number = history_number(h) + 1,
			 .time_s = clock_wall_ns() / 1000000000,
			 .summary = summarize(changes, count, rolled_back_to),
			 .rolled_back_from = rolled_back_to != 0 },
		.rolled_back_to = rolled_back_to,
		.files_hash = files_hash,
		.changes = changes,
		.change_count = count,
	};
	int rc = r.pub.summary ? history_ensure(h, err) : err_set(err, -ENOMEM, "config history: no memory");
	if (rc == -ENOMEM) {
		revision_done(&r);
		return rc;
	}
	history_push(h, &r);
	if (rc == 0)
		rc = history_file_append(&h->file, &h->revisions[0], err);
	if (rc == 0 && h->walk && h->file.texts_size > REWRITE_MIN_BYTES &&
	    h->file.texts_size / REWRITE_FACTOR > h->live_bytes)
		rc = history_rewrite(h, err);
	return rc;
}

uint64_t history_number(const struct history *h)
{
	return h->count ? h->revisions[0].pub.number : 0;
}

const struct history_revision *history_revisions(const struct history *h, size_t *count)
{
	*count = h->count;
	return h->revisions;
}

static int not_kept(const struct history *h, uint64_t number, struct err *err)
{
	if (!h->count)
		return err_set(err, -ENOENT, "there is no revision %llu, nor any other yet",
			       (unsigned long long)number);
	return err_set(err, -ENOENT, "revision %llu is not kept; those from %llu to %llu are",
		       (unsigned long long)number, (unsigned long long)h->revisions[h->count - 1].pub.number,
		       (unsigned long long)h->revisions[0].pub.number);
}

static bool is_kept(const struct history *h, uint64_t number)
{
	return h->count && number <= h->revisions[0].pub.number && number >= h->revisions[h->count - 1].pub.number;
}

int history_between(const struct history *h, uint64_t from, uint64_t to, struct history_change **out, size_t *count,
		    struct err *err)
{
	AUTO(table_freep) struct table *seen = table_new(NULL);
	AUTO(mem_freep) struct history_change *changes = NULL;
	size_t n = 0, cap = 0;
	if (!is_kept(h, to))
		return not_kept(h, to, err);
	if (from && !is_kept(h, from))
		return not_kept(h, from, err);
	if (!seen)
		return err_set(err, -ENOMEM, "config history: no memory");

	/* Oldest first: the first `before` and the last `after` of a key count. */
	for (size_t i = h->count; i-- > 0;) {
		const struct history_revision *r = &h->revisions[i];
		if (r->pub.number <= from || r->pub.number > to)
			continue;
		for (size_t k = 0; k < r->change_count; k++) {
			const struct history_change *c = &r->changes[k];
			uintptr_t at = (uintptr_t)table_get_str(seen, c->key);
			if (at) {
				changes[at - 1].after = c->after;
				continue;
			}
			if (mem_reserve(&changes, &cap, n + 1, sizeof(*changes)) < 0 ||
			    table_set_str(seen, c->key, (void *)(n + 1)) < 0)
				return err_set(err, -ENOMEM, "config history: no memory");
			changes[n++] = *c;
		}
	}
	if (n)
		qsort(changes, n, sizeof(*changes), change_cmp);
	*out = TAKE(changes);
	*count = n;
	return 0;
}
