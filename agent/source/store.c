/* SPDX-License-Identifier: Apache-2.0 */
/* Making and freeing a store, and its history as others see it. Staging is in store_files.c, committing in
 * store_commit.c, what is in force in store_index.c, what was rejected in store_report.c. */
#include "agent/source/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/config/redact.h"
#include "agent/source/diff.h"

static void store_walk(void (*each)(const char *key, struct version *v, void *to), void *to, void *arg)
{
	struct store *s = arg;
	struct table_iter it = { 0 };
	while (table_next(s->slots, &it)) {
		const struct slot *slot = it.value;
		if (slot->version)
			each(slot->key, slot->version, to);
	}
}

int store_new(struct store **out)
{
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->files = table_new(file_free);
	s->slots = table_new(slot_free);
	if (!s->files || !s->slots || decoder_new(&s->decoder) < 0 || history_new(&s->history) < 0) {
		store_free(s);
		return -ENOMEM;
	}
	history_set_walk(s->history, store_walk, s);
	*out = s;
	return 0;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	store_changes_clear(s);
	free(s->changes);
	store_rejections_clear(s);
	free(s->rejections);
	table_free(s->persisted);
	table_free(s->files);
	table_free(s->slots);
	for (int i = 0; i < KIND_COUNT; i++)
		free(s->kinds[i].v);
	decoder_free(s->decoder);
	history_free(s->history);
	free(s->touched);
	free(s->missing);
	free(s->state_problem);
	free(s);
}

int store_open(struct store *s, const char *state_dir, struct err *err)
{
	table_free(s->persisted);
	return history_open(s->history, state_dir, &s->persisted, err);
}

void store_on_change(struct store *s, void (*fn)(struct store *s, uint64_t revision, void *arg), void *arg)
{
	s->on_change = fn;
	s->on_change_arg = arg;
}

uint64_t store_revision(const struct store *s)
{
	return history_number(s->history);
}

uint64_t store_rolled_back_to(const struct store *s)
{
	return s->frozen;
}

int store_text(const struct store *s, const char *key, struct sb *out, struct err *err)
{
	const struct slot *slot = table_get_str(s->slots, key);
	if (!slot || !slot->version || !slot->current)
		return err_set(err, -ENOENT, "there is no %s", key);
	struct sb text = { 0 };
	int rc = history_text(s->history, slot->version, &text, err);
	if (rc == 0 && document_redact(slot->version->file, text.p, text.len, out) == 0)
		sb_add_bytes(out, text.p, text.len);
	if (rc == 0 && (text.failed || out->failed))
		rc = err_set(err, -ENOMEM, "%s: no memory", key);
	sb_done(&text);
	return rc;
}

size_t store_history(const struct store *s, const struct revision **out, size_t max)
{
	size_t count;
	const struct history_revision *r = history_revisions(s->history, &count);
	for (size_t i = 0; i < count && i < max; i++)
		out[i] = &r[i].pub;
	return count < max ? count : max;
}

/* A version as people may see it, and whether something of it is hidden. */
struct shown {
	char *text; /* NULL: there is no version */
	bool hidden;
};

static void shown_done(struct shown *shown)
{
	free(shown->text);
}

static int version_show(const struct store *s, const struct version *v, struct shown *out, struct err *err)
{
	struct sb text = { 0 }, instead = { 0 };
	if (!v)
		return 0;
	int rc = history_text(s->history, v, &text, err);
	if (rc == 0) {
		int hidden = text.failed ? -ENOMEM : document_redact(v->file, text.p, text.len, &instead);
		out->hidden = hidden == 1;
		out->text = hidden < 0 ? NULL : sb_take(hidden ? &instead : &text);
		if (!out->text)
			rc = err_set(err, -ENOMEM, "diff: no memory");
	}
	sb_done(&text);
	sb_done(&instead);
	return rc;
}

/* What differs is hidden: a line says so, or nothing would. */
static void difference_mark(struct shown *a, struct shown *b)
{
	if (!a->hidden || !b->hidden || !str_eq(a->text, b->text))
		return;
	char *marked = str_format("%s# Hidden values are others than before.\n", b->text);
	if (!marked)
		return;
	free(b->text);
	b->text = marked;
}

static int diff_change(const struct store *s, const struct history_change *c, uint64_t from, uint64_t to,
		       struct sb *out, struct err *err)
{
	AUTO(shown_done) struct shown a = { 0 };
	AUTO(shown_done) struct shown b = { 0 };
	AUTO(mem_freep) char *name_a = str_format("%s\trevision %llu", c->key, (unsigned long long)from);
	AUTO(mem_freep) char *name_b = str_format("%s\trevision %llu", c->key, (unsigned long long)to);
	if (!name_a || !name_b)
		return err_set(err, -ENOMEM, "diff: no memory");
	int rc = version_show(s, c->before, &a, err);
	if (rc == 0)
		rc = version_show(s, c->after, &b, err);
	if (rc < 0)
		return rc;
	difference_mark(&a, &b);
	diff_unified(out, a.text, b.text, name_a, name_b);
	return 0;
}

int store_diff(const struct store *s, uint64_t from, uint64_t to, struct sb *out, struct err *err)
{
	AUTO(mem_freep) struct history_change *changes = NULL;
	size_t count = 0;
	uint64_t low = from < to ? from : to, high = from < to ? to : from;
	int rc = history_between(s->history, low, high, &changes, &count, err);
	for (size_t i = 0; i < count && rc == 0; i++) {
		struct history_change c = changes[i];
		if (from > to)
			c = (struct history_change){ .key = c.key,
						     .before = changes[i].after,
						     .after = changes[i].before };
		rc = diff_change(s, &c, from, to, out, err);
	}
	return rc;
}
