/* SPDX-License-Identifier: Apache-2.0 */
/* Committing. Which document of a key is in force:
 *   - the valid one of the file that had it in force; else the valid one of the file that comes first by name
 *   - none is valid, but one names the key: the last good version stays
 *   - none names it, but the file that had it can't be read in full: the last good version stays, since nobody knows
 *     whether it was meant to go
 *   - else it is gone.
 * At the start the last run's versions (history) play the part of what was in force. */
#include "agent/source/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"

void slot_free(void *arg)
{
	struct slot *slot = arg;
	resource_unref(slot->current);
	version_unref(slot->version);
	free(slot);
}

struct slot *store_slot(struct store *s, const char *key)
{
	struct slot *slot = table_get_str(s->slots, key);
	if (slot)
		return slot;
	slot = calloc(1, sizeof(*slot) + strlen(key) + 1);
	if (!slot)
		return NULL;
	memcpy(slot->key, key, strlen(key) + 1);
	if (table_set_str(s->slots, key, slot) == 0)
		return slot;
	free(slot);
	return NULL;
}

int slot_touch(struct store *s, struct slot *slot)
{
	if (slot->touched)
		return 0;
	if (mem_reserve(&s->touched, &s->touched_cap, s->touched_count + 1, sizeof(struct slot *)) < 0)
		return -ENOMEM;
	s->touched[s->touched_count++] = slot;
	slot->touched = true;
	return 0;
}

static int touch_all(struct store *s)
{
	struct table_iter it = { 0 };
	while (table_next(s->slots, &it))
		if (slot_touch(s, it.value) < 0)
			return -ENOMEM;
	return 0;
}

/* --- documents and slots */

static const char *cand_key(const struct cand *c)
{
	if (c->resource)
		return c->resource->key;
	for (size_t i = 0; i < c->doc->problem_count; i++)
		if (c->doc->problems[i].level == PROBLEM_ERROR && c->doc->problems[i].key)
			return c->doc->problems[i].key;
	return NULL;
}

static int doc_link(struct store *s, struct doc *doc)
{
	for (size_t i = 0; i < doc->cand_count; i++) {
		struct cand *c = &doc->cands[i];
		const char *key = cand_key(c);
		struct slot *slot = key ? store_slot(s, key) : NULL;
		if (c->slot || !key)
			continue;
		if (!slot || slot_touch(s, slot) < 0)
			return -ENOMEM;
		c->slot = slot;
		c->next = slot->cands;
		slot->cands = c;
	}
	return 0;
}

static int doc_unlink(struct store *s, struct doc *doc)
{
	for (size_t i = 0; i < doc->cand_count; i++) {
		struct cand *c = &doc->cands[i];
		if (!c->slot)
			continue;
		if (slot_touch(s, c->slot) < 0)
			return -ENOMEM;
		struct cand **at = &c->slot->cands;
		while (*at != c)
			at = &(*at)->next;
		*at = c->next;
		c->slot = NULL;
	}
	return 0;
}

static int file_swap(struct store *s, struct file *file)
{
	uint32_t mark = ++s->mark;
	for (size_t i = 0; i < file->held_count; i++)
		if (slot_touch(s, file->held[i]) < 0)
			return -ENOMEM;
	for (size_t i = 0; i < file->held_count; i++)
		file->held[i]->held = false;
	file->held_count = 0;
	if (file->staged.unreadable) {
		free(file->unreadable);
		file->unreadable = TAKE(file->staged.unreadable);
		file->staged.pending = false;
		return 0;
	}
	for (size_t i = 0; i < file->staged.docs.n; i++)
		file->staged.docs.v[i]->mark = mark;
	for (size_t i = 0; i < file->docs.n; i++)
		if (file->docs.v[i]->mark != mark && doc_unlink(s, file->docs.v[i]) < 0)
			return -ENOMEM;
	for (size_t i = 0; i < file->staged.docs.n; i++)
		if (doc_link(s, file->staged.docs.v[i]) < 0)
			return -ENOMEM;
	for (size_t i = 0; i < file->docs.n; i++)
		doc_unref(file->docs.v[i]);
	free(file->docs.v);
	file->docs = file->staged.docs;
	free(file->unreadable);
	file->unreadable = NULL;
	memset(&file->staged, 0, sizeof(file->staged));
	return 0;
}

/* Frees the files that were removed, after their slots were resolved. */
static void files_prune(struct store *s)
{
	struct table_iter it = { 0 };
	if (!s->prune)
		return;
	while (table_next(s->slots, &it)) {
		struct slot *slot = it.value;
		if (slot->owner && slot->owner->removed)
			slot->owner = NULL;
	}
	it = (struct table_iter){ 0 };
	while (table_next(s->files, &it)) {
		const struct file *file = it.value;
		if (!file->removed)
			continue;
		/* What was kept while the directory was gone; the next file of that name holds it anew. */
		for (size_t i = 0; i < file->held_count; i++)
			file->held[i]->held = false;
		table_remove(s->files, it.key, it.key_len);
	}
	s->prune = false;
}

static int files_swap(struct store *s, bool *differs)
{
	struct table_iter it = { 0 };
	*differs = false;
	while (table_next(s->files, &it)) {
		struct file *file = it.value;
		if (!file->staged.pending)
			continue;
		file->removed = file->staged.removed;
		s->prune |= file->removed;
		*differs |= file->staged.differs;
		if (file_swap(s, file) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* --- resolving */

/* The resource of a version that is only in the history. NULL: it can't be read or decoded any more. */
static struct resource *version_decode(struct store *s, const char *key, const struct version *v, struct err *err)
{
	struct sb text = { 0 };
	struct decoded out = { 0 };
	struct resource *found = NULL;
	int rc = history_text(s->history, v, &text, err);
	if (rc == 0)
		rc = decoder_run(s->decoder, v->file, v->line, text.p, text.len, v->hash, &out);
	for (size_t i = 0; rc == 0 && i < out.resource_count; i++)
		if (!strcmp(out.resources[i]->key, key))
			found = resource_ref(out.resources[i]);
	if (rc == 0 && !found)
		err_set(err, -EINVAL, "%s of %s:%u is not accepted any more: %s", key, v->file, v->line,
			out.problem_count ? out.problems[0].text : "it is not there");
	decoded_done(&out);
	sb_done(&text);
	return found;
}

static bool cand_before(const struct cand *a, const struct cand *b)
{
	int cmp = strcmp(a->doc->file->name, b->doc->file->name);
	return cmp < 0 || (cmp == 0 && a->doc->line < b->doc->line);
}

/* The candidate that wins, or NULL; *rejected: one that names the key was rejected. */
static const struct cand *slot_winner(const struct slot *slot, bool *rejected, bool *conflict)
{
	const struct cand *winner = NULL;
	*rejected = *conflict = false;
	bool owner_rejected = false;
	for (const struct cand *c = slot->cands; c; c = c->next) {
		if (!c->resource) {
			*rejected = true;
			owner_rejected |= c->doc->file == slot->owner;
			continue;
		}
		*conflict |= winner != NULL;
		bool better = !winner;
		if (winner && (c->doc->file == slot->owner) != (winner->doc->file == slot->owner))
			better = c->doc->file == slot->owner;
		else if (winner)
			better = cand_before(c, winner);
		winner = better ? c : winner;
	}
	/* The owner's document is broken for the moment: another file's doesn't take its place. */
	if (winner && owner_rejected && winner->doc->file != slot->owner && slot->version) {
		*conflict = true;
		return NULL;
	}
	return winner;
}

static bool file_is_incomplete(const struct store *s, const struct file *file)
{
	if (s->missing)
		return true;
	if (!file)
		return false;
	if (file->unreadable)
		return true;
	for (size_t i = 0; i < file->docs.n; i++)
		if (file->docs.v[i]->unparsed)
			return true;
	return false;
}

/* Keeps what is in force, decoding it first when it is only known from the last run. */
static void slot_keep(struct store *s, struct slot *slot, struct resource **resource, struct version **version)
{
	struct err err = ERR_INIT;
	*resource = slot->current ? resource_ref(slot->current) :
		    slot->version ? version_decode(s, slot->key, slot->version, &err) :
				    NULL;
	*version = *resource ? slot->version : NULL;
	slot->last_good = *resource != NULL;
}

static int slot_decide(struct store *s, struct slot *slot, struct resource **resource, struct version **version)
{
	bool rejected, conflict;
	/* Of the last run, or from before the directory vanished: its file may have been read only now. */
	if (!slot->owner && slot->version)
		slot->owner = table_get_str(s->files, slot->version->file);
	const struct cand *winner = slot_winner(slot, &rejected, &conflict);
	*resource = NULL;
	*version = NULL;
	slot->last_good = false;
	s->conflicts += (size_t)conflict - (size_t)slot->conflict;
	slot->conflict = conflict;
	if (winner) {
		slot->owner = winner->doc->file;
		*resource = resource_ref(winner->resource);
		*version = winner->doc->version;
	} else if (rejected) {
		slot_keep(s, slot, resource, version);
	} else if (file_is_incomplete(s, slot->owner)) {
		slot_keep(s, slot, resource, version);
		struct file *file = slot->owner;
		if (file && *resource && !slot->held) {
			if (mem_reserve(&file->held, &file->held_cap, file->held_count + 1, sizeof(struct slot *)) < 0)
				return -ENOMEM;
			file->held[file->held_count++] = slot;
			slot->held = true;
		}
	}
	if (!*resource)
		slot->owner = NULL;
	return 0;
}

/* The differences of one commit. */
struct batch {
	struct history_change *history;
	size_t count, cap;
};

static int batch_add(struct batch *b, const char *key, struct version *before, struct version *after)
{
	if (mem_reserve(&b->history, &b->cap, b->count + 1, sizeof(*b->history)) < 0)
		return -ENOMEM;
	char *copy = strdup(key);
	if (!copy)
		return -ENOMEM;
	b->history[b->count++] = (struct history_change){
		.key = copy,
		.before = before ? version_ref(before) : NULL,
		.after = after ? version_ref(after) : NULL,
	};
	return 0;
}

static bool same_text(const struct version *a, const struct version *b)
{
	return a == b || (a && b && a->hash == b->hash && a->len == b->len);
}

/* Puts a resource (the caller's reference, taken over) and its version into force. */
static int slot_set(struct store *s, struct slot *slot, struct resource *resource, struct version *version,
		    struct batch *b)
{
	int rc = 0;
	if (!same_text(slot->version, version))
		rc = batch_add(b, slot->key, slot->version, version);
	if (version)
		version_ref(version);
	version_unref(slot->version);
	slot->version = version;
	if (slot->current == resource) {
		resource_unref(resource);
		return rc;
	}
	if (mem_reserve(&s->changes, &s->change_cap, s->change_count + 1, sizeof(*s->changes)) < 0) {
		resource_unref(resource);
		return -ENOMEM;
	}
	struct resource *before = slot->current;
	slot->current = resource;
	s->changes[s->change_count++] =
		(struct store_change){ .before = before, .after = resource ? resource_ref(resource) : NULL };
	int index_rc = store_index_replace(s, before, resource);
	return rc < 0 ? rc : index_rc;
}

/* A slot without anything is not kept. */
static void slot_prune(struct store *s, struct slot *slot)
{
	if (!slot->cands && !slot->current && !slot->version && !slot->held)
		table_remove_str(s->slots, slot->key);
}

static int resolve(struct store *s, struct batch *b)
{
	int rc = 0;
	for (size_t i = 0; i < s->touched_count && rc == 0; i++) {
		struct resource *resource;
		struct version *version;
		rc = slot_decide(s, s->touched[i], &resource, &version);
		if (rc == 0)
			rc = slot_set(s, s->touched[i], resource, version, b);
		else
			resource_unref(resource);
	}
	return rc;
}

static void touched_clear(struct store *s)
{
	for (size_t i = 0; i < s->touched_count; i++) {
		s->touched[i]->touched = false;
		slot_prune(s, s->touched[i]);
	}
	free(s->touched);
	s->touched = NULL;
	s->touched_count = s->touched_cap = 0;
}

/* --- the first commit */

/* What the last run had in force gets slots, with the files that it came from as owners. */
static int persisted_slots(struct store *s)
{
	struct table_iter it = { 0 };
	while (s->persisted && table_next(s->persisted, &it)) {
		struct version *v = it.value;
		AUTO(mem_freep) char *key = strndup(it.key, it.key_len);
		struct slot *slot = key ? store_slot(s, key) : NULL;
		if (!slot)
			return -ENOMEM;
		version_unref(slot->version);
		slot->version = version_ref(v);
		if (slot_touch(s, slot) < 0)
			return -ENOMEM;
	}
	table_free(s->persisted);
	s->persisted = NULL;
	return 0;
}

/* The last run ended with a rollback, and the files are the same still. */
static uint64_t rollback_in_force(const struct store *s)
{
	size_t count;
	const struct history_revision *r = history_revisions(s->history, &count);
	if (!count || !r->rolled_back_to)
		return 0;
	return s->missing || r->files_hash == store_files_hash(s) ? r->rolled_back_to : 0;
}

/* Everything as the history has it, whatever the files say. */
static int restore(struct store *s, struct batch *b)
{
	int rc = 0;
	for (size_t i = 0; i < s->touched_count && rc == 0; i++) {
		struct slot *slot = s->touched[i];
		struct err err = ERR_INIT;
		if (!slot->version)
			continue;
		struct resource *resource = version_decode(s, slot->key, slot->version, &err);
		rc = slot_set(s, slot, resource, resource ? slot->version : NULL, b);
	}
	return rc;
}

static int commit_slots(struct store *s, bool differs, struct batch *b)
{
	bool first = !s->committed;
	int rc = first ? persisted_slots(s) : 0;
	if (rc < 0)
		return rc;
	if (first)
		s->frozen = rollback_in_force(s);
	if (s->frozen && first)
		return restore(s, b);
	if (s->frozen && !differs && !s->recheck)
		return 0;
	if (s->frozen || s->recheck)
		rc = touch_all(s);
	s->frozen = 0;
	s->recheck = false;
	return rc < 0 ? rc : resolve(s, b);
}

/* The changes become a revision. Not being able to write it down is told, but stops nothing. */
static int commit_revision(struct store *s, struct batch *b, uint64_t rolled_back_to)
{
	struct err err = ERR_INIT;
	uint64_t files = rolled_back_to ? store_files_hash(s) : 0;
	int rc = history_add(s->history, TAKE(b->history), b->count, rolled_back_to, files, &err);
	b->count = b->cap = 0;
	if (rc == -ENOMEM)
		return rc;
	free(s->state_problem);
	s->state_problem = rc < 0 ? strdup(err.text) : NULL;
	return 0;
}

int store_commit(struct store *s, bool *changed, struct err *err)
{
	struct batch b = { 0 };
	bool differs, first = !s->committed;
	*changed = false;
	store_changes_clear(s);
	s->rejections_stale = true;
	int rc = files_swap(s, &differs);
	if (rc == 0)
		rc = commit_slots(s, differs, &b);
	if (rc == 0)
		rc = store_index_finish(s);
	if (rc == 0 && b.count) {
		rc = commit_revision(s, &b, 0);
		*changed = rc == 0;
	}
	history_changes_free(b.history, b.count);
	if (rc < 0)
		return err_set(err, rc, "config: no memory to apply a change; it is tried again with the next one");
	touched_clear(s);
	files_prune(s);
	if (first)
		decoder_trim(s->decoder);
	s->committed = true;
	if ((*changed || first) && s->on_change)
		s->on_change(s, store_revision(s), s->on_change_arg);
	return 0;
}

/* --- rollback */

/* Decodes all that will be in force before anything is changed. */
static int rollback_decode(struct store *s, const struct history_change *changes, size_t count,
			   struct resource **resources, struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		if (!changes[i].before)
			continue;
		resources[i] = version_decode(s, changes[i].key, changes[i].before, err);
		if (!resources[i])
			return err_prefix(err, "rollback");
	}
	return 0;
}

static int rollback_apply(struct store *s, const struct history_change *changes, size_t count,
			  struct resource **resources, struct batch *b)
{
	for (size_t i = 0; i < count; i++) {
		struct slot *slot = store_slot(s, changes[i].key);
		if (!slot || slot_touch(s, slot) < 0)
			return -ENOMEM;
		slot->last_good = false;
		int rc = slot_set(s, slot, TAKE(resources[i]), changes[i].before, b);
		if (rc < 0)
			return rc;
	}
	return store_index_finish(s);
}

int store_rollback(struct store *s, uint64_t to, struct err *err)
{
	AUTO(mem_freep) struct history_change *changes = NULL;
	struct batch b = { 0 };
	size_t count = 0;
	if (to == store_revision(s))
		return err_set(err, -EALREADY, "revision %llu is in force", (unsigned long long)to);
	int rc = history_between(s->history, to, store_revision(s), &changes, &count, err);
	if (rc < 0)
		return rc;
	AUTO(mem_freep) struct resource **resources = calloc(count + 1, sizeof(struct resource *));
	if (!resources)
		return err_set(err, -ENOMEM, "rollback: no memory");
	rc = rollback_decode(s, changes, count, resources, err);
	if (rc == 0) {
		store_changes_clear(s);
		s->rejections_stale = true;
		rc = rollback_apply(s, changes, count, resources, &b);
		if (rc == 0)
			rc = commit_revision(s, &b, to);
		if (rc < 0)
			err_set(err, rc, "rollback: no memory");
	}
	history_changes_free(b.history, b.count);
	for (size_t i = 0; i < count; i++)
		resource_unref(resources[i]);
	if (rc < 0)
		return rc;
	s->frozen = to;
	touched_clear(s);
	if (s->on_change)
		s->on_change(s, store_revision(s), s->on_change_arg);
	return 0;
}
