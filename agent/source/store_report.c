/* SPDX-License-Identifier: Apache-2.0 */
/* What was rejected, and what was loaded with a warning, as a list for people; made when somebody asks. */
#include "agent/source/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"

void store_rejections_clear(struct store *s)
{
	for (size_t i = 0; i < s->rejection_count; i++) {
		free(s->rejections[i].key);
		free(s->rejections[i].origin);
		free(s->rejections[i].text);
	}
	s->rejection_count = 0;
}

/* Takes over origin and text. */
static void rejection_add(struct store *s, const char *key, char *origin, char *text, const struct rejection *like)
{
	char *copy = strdup(key);
	if (!copy || !origin || !text ||
	    mem_reserve(&s->rejections, &s->rejection_cap, s->rejection_count + 1, sizeof(*s->rejections)) < 0) {
		free(copy);
		free(origin);
		free(text);
		return;
	}
	struct rejection *r = &s->rejections[s->rejection_count++];
	*r = *like;
	r->key = copy;
	r->origin = origin;
	r->text = text;
}

static void doc_report(struct store *s, const struct file *file, const struct doc *doc)
{
	for (size_t i = 0; i < doc->problem_count; i++) {
		const struct problem *p = &doc->problems[i];
		const struct slot *slot = p->key ? table_get_str(s->slots, p->key) : NULL;
		struct rejection like = {
			.warning = p->level == PROBLEM_WARNING,
			.last_good = p->level == PROBLEM_ERROR &&
				     (slot ? slot->last_good : doc->unparsed && file->held_count),
			.since_s = doc->since_s,
		};
		if (p->level != PROBLEM_INFO)
			rejection_add(s, p->key ? p->key : file->name, str_format("%s:%u", file->name, p->line),
				      strdup(p->text), &like);
	}
}

/* Every valid candidate but the one in force. */
static void slot_report_conflict(struct store *s, const struct slot *slot)
{
	for (const struct cand *c = slot->cands; c; c = c->next) {
		if (!c->resource || c->resource == slot->current)
			continue;
		struct rejection like = { .last_good = slot->current != NULL, .since_s = c->doc->since_s };
		char *text = slot->current ?
				     str_format("is already defined in %s, which stays in force; remove one of them",
						slot->current->origin) :
				     strdup("is defined twice; remove one of them");
		rejection_add(s, slot->key, strdup(c->resource->origin), text, &like);
	}
}

static int rejection_cmp(const void *a, const void *b)
{
	const struct rejection *x = a, *y = b;
	const char *colon_x = strrchr(x->origin, ':'), *colon_y = strrchr(y->origin, ':');
	size_t len_x = colon_x ? (size_t)(colon_x - x->origin) : strlen(x->origin);
	size_t len_y = colon_y ? (size_t)(colon_y - y->origin) : strlen(y->origin);
	int cmp = strncmp(x->origin, y->origin, len_x > len_y ? len_x : len_y);
	if (len_x == len_y && !memcmp(x->origin, y->origin, len_x))
		cmp = (colon_x ? atoi(colon_x + 1) : 0) - (colon_y ? atoi(colon_y + 1) : 0);
	return cmp ? cmp : strcmp(x->text, y->text);
}

static void report(struct store *s)
{
	struct table_iter it = { 0 };
	struct rejection like = { .last_good = true };
	store_rejections_clear(s);
	if (s->missing)
		rejection_add(s, "config", strdup("config"), strdup(s->missing), &like);
	if (s->state_problem)
		rejection_add(s, "state", strdup("state"), strdup(s->state_problem),
			      &(struct rejection){ .warning = true });
	while (table_next(s->files, &it)) {
		const struct file *file = it.value;
		if (file->unreadable)
			rejection_add(s, file->name, strdup(file->name), strdup(file->unreadable), &like);
		for (size_t i = 0; i < file->docs.n; i++)
			if (file->docs.v[i]->problem_count)
				doc_report(s, file, file->docs.v[i]);
	}
	it = (struct table_iter){ 0 };
	while (s->conflicts && table_next(s->slots, &it))
		if (((const struct slot *)it.value)->conflict)
			slot_report_conflict(s, it.value);
	if (s->rejection_count)
		qsort(s->rejections, s->rejection_count, sizeof(*s->rejections), rejection_cmp);
}

const struct rejection *store_rejections(const struct store *s, size_t *count)
{
	struct store *cache = (struct store *)s;
	if (s->rejections_stale)
		report(cache);
	cache->rejections_stale = false;
	*count = s->rejection_count;
	return s->rejections;
}
