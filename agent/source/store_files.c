/* SPDX-License-Identifier: Apache-2.0 */
/* Staging: a file's new text becomes a list of documents, most of which are usually the ones that it had before: a
 * document is known by the hash of its text, and only new text is decoded. One that merely moved to another line keeps
 * its decoded spec: its resources are copied with the new line, sharing the memory of the first. */
#include "agent/source/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/config/arena.h"

enum { SCAN_MAX = 32 }; /* files with more documents find known ones by hashing */

static void cands_done(struct doc *doc)
{
	for (size_t i = 0; i < doc->cand_count; i++)
		resource_unref(doc->cands[i].resource);
	if (doc->cands != &doc->one)
		free(doc->cands);
}

void doc_unref(struct doc *doc)
{
	if (!doc || --doc->refs)
		return;
	for (size_t i = 0; i < doc->problem_count; i++) {
		free(doc->problems[i].key);
		free(doc->problems[i].text);
	}
	free(doc->problems);
	cands_done(doc);
	version_unref(doc->version);
	free(doc);
}

static void doc_list_done(struct doc_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		doc_unref(list->v[i]);
	free(list->v);
	*list = (struct doc_list){ 0 };
}

void file_free(void *arg)
{
	struct file *file = arg;
	doc_list_done(&file->docs);
	doc_list_done(&file->staged.docs);
	free(file->staged.unreadable);
	free(file->unreadable);
	free(file->held);
	free(file->name);
	free(file);
}

struct file *store_file(struct store *s, const char *name)
{
	struct file *file = table_get_str(s->files, name);
	if (file || !(file = calloc(1, sizeof(*file))))
		return file;
	file->name = strdup(name);
	if (file->name && table_set_str(s->files, name, file) == 0)
		return file;
	free(file->name);
	free(file);
	return NULL;
}

static struct doc *doc_new(struct file *file, const struct document_text *text, uint64_t hash)
{
	struct doc *doc = calloc(1, sizeof(*doc));
	if (!doc)
		return NULL;
	doc->refs = 1;
	doc->file = file;
	doc->hash = hash;
	doc->line = text->line;
	doc->len = (uint32_t)text->len;
	return doc;
}

static bool doc_cands_alloc(struct doc *doc, size_t count)
{
	doc->cands = count > 1 ? calloc(count, sizeof(*doc->cands)) : &doc->one;
	if (!doc->cands)
		return false;
	doc->cand_count = count;
	for (size_t i = 0; i < count; i++)
		doc->cands[i].doc = doc;
	return true;
}

/* The keys of a rejected document, as far as its problems tell (a List may have good items beside bad ones: the
 * document is rejected as a whole). */
static const char *doc_problem_key(const struct doc *doc)
{
	for (size_t i = 0; i < doc->problem_count; i++)
		if (doc->problems[i].level == PROBLEM_ERROR && doc->problems[i].key)
			return doc->problems[i].key;
	return NULL;
}

/* A rejected document may have named more than one resource. */
static bool doc_is_list(const struct doc *doc, const struct decoded *out)
{
	const char *key = doc_problem_key(doc);
	for (size_t i = 0; i < doc->problem_count && key; i++)
		if (doc->problems[i].key && strcmp(doc->problems[i].key, key))
			return true;
	return out->resource_count > 0;
}

/* The text is in the history already when it is what is in force, or was at the end of the last run. */
static struct version *doc_known_version(const struct store *s, const struct doc *doc, const char *key)
{
	const struct slot *slot = table_get_str(s->slots, key);
	struct version *v = slot ? slot->version : NULL;
	if (!v && s->persisted)
		v = table_get_str(s->persisted, key);
	return v && v->hash == doc->hash && v->len == doc->len ? v : NULL;
}

static int doc_set_version(struct store *s, struct doc *doc, const struct document_text *text, struct err *err)
{
	if (!doc->cand_count || !doc->cands[0].resource)
		return 0;
	struct version *known = doc_known_version(s, doc, doc->cands[0].resource->key);
	if (!known)
		doc->version = history_text_add(s->history, text->text, text->len, doc->hash, doc->file->name,
						text->line, err);
	else if (known->line == doc->line && !strcmp(known->file, doc->file->name))
		doc->version = version_ref(known);
	else
		doc->version = history_text_moved(s->history, known, doc->file->name, text->line);
	return doc->version ? 0 : -ENOMEM;
}

static int doc_decode(struct store *s, struct doc *doc, const struct document_text *text, struct err *err)
{
	struct decoded out;
	int rc = decoder_run(s->decoder, doc->file->name, text->line, text->text, text->len, doc->hash, &out);
	if (rc < 0)
		return rc;
	doc->since_s = clock_wall_ns() / 1000000000;
	doc->problems = TAKE(out.problems);
	doc->problem_count = out.problem_count;
	out.problem_count = 0;
	size_t count = out.rejected ? doc_problem_key(doc) != NULL : out.resource_count;
	doc->unparsed = out.rejected && (!count || doc_is_list(doc, &out));
	if (!doc_cands_alloc(doc, count))
		rc = -ENOMEM;
	for (size_t i = 0; i < doc->cand_count && !out.rejected; i++)
		doc->cands[i].resource = TAKE(out.resources[i]);
	decoded_done(&out);
	return rc < 0 ? rc : doc_set_version(s, doc, text, err);
}

/* A copy that differs in its line only; it keeps the first one's memory alive. */
static struct resource *resource_moved(struct resource *from, const char *file, uint32_t line)
{
	struct arena *arena = arena_new(sizeof(struct resource) + 160);
	struct resource *r = arena ? arena_alloc(arena, sizeof(*r)) : NULL;
	if (r) {
		*r = *from;
		r->refs = 1;
		r->line = line;
		r->origin = arena_format(arena, "%s:%u", file, line);
		r->arena = arena;
		r->base = resource_ref(from->base ? from->base : from);
	}
	if (!r || !r->origin) {
		if (r)
			resource_unref(r->base);
		arena_free(arena);
		return NULL;
	}
	return r;
}

static struct problem *problems_moved(const struct doc *from, int32_t by)
{
	struct problem *problems = calloc(from->problem_count + 1, sizeof(*problems));
	for (size_t i = 0; problems && i < from->problem_count; i++) {
		const struct problem *p = &from->problems[i];
		problems[i] = *p;
		problems[i].line = (uint32_t)((int32_t)p->line + by);
		problems[i].key = p->key ? strdup(p->key) : NULL;
		problems[i].text = strdup(p->text);
	}
	return problems;
}

static struct doc *doc_moved(struct store *s, const struct doc *from, const struct document_text *text)
{
	struct doc *doc = doc_new(from->file, text, from->hash);
	int32_t by = (int32_t)text->line - (int32_t)from->line;
	if (!doc || !doc_cands_alloc(doc, from->cand_count))
		goto fail;
	doc->since_s = from->since_s;
	doc->unparsed = from->unparsed;
	doc->problems = problems_moved(from, by);
	if (!doc->problems)
		goto fail;
	doc->problem_count = from->problem_count;
	for (size_t i = 0; i < from->cand_count; i++) {
		struct resource *r = from->cands[i].resource;
		if (r &&
		    !(doc->cands[i].resource = resource_moved(r, from->file->name, (uint32_t)((int32_t)r->line + by))))
			goto fail;
	}
	if (from->version &&
	    !(doc->version = history_text_moved(s->history, from->version, from->file->name, text->line)))
		goto fail;
	return doc;
fail:
	doc_unref(doc);
	return NULL;
}

/* The file's documents by hash, each to be taken once. */
struct known {
	const struct doc_list *docs;
	struct table
		*by_hash; /* large files: hash -> index + 1 of the first not taken; others are found by scanning on */
	size_t next;	  /* where the next one is, when nothing was inserted */
	uint32_t mark;
};

static int known_init(struct store *s, struct known *k, const struct doc_list *docs)
{
	*k = (struct known){ .docs = docs, .mark = ++s->mark };
	if (docs->n <= SCAN_MAX)
		return 0;
	k->by_hash = table_new(NULL);
	for (size_t i = docs->n; k->by_hash && i-- > 0;)
		if (table_set(k->by_hash, &docs->v[i]->hash, sizeof(uint64_t), (void *)(i + 1)) < 0)
			return -ENOMEM;
	return k->by_hash ? 0 : -ENOMEM;
}

static bool known_fits(const struct known *k, size_t i, const struct document_text *text, uint64_t hash)
{
	const struct doc *doc = k->docs->v[i];
	return doc->hash == hash && doc->len == text->len && doc->mark != k->mark;
}

static struct doc *known_take(struct known *k, const struct document_text *text, uint64_t hash)
{
	size_t at = k->next;
	if (at >= k->docs->n || !known_fits(k, at, text, hash)) {
		if (k->by_hash) {
			at = (uintptr_t)table_get(k->by_hash, &hash, sizeof(hash));
			if (!at || !known_fits(k, at - 1, text, hash))
				return NULL;
			at--;
		} else {
			for (at = 0; at < k->docs->n && !known_fits(k, at, text, hash); at++)
				;
			if (at == k->docs->n)
				return NULL;
		}
	}
	k->next = at + 1;
	k->docs->v[at]->mark = k->mark;
	return k->docs->v[at];
}

static int staged_add(struct store *s, struct file *file, struct known *known, const struct document_text *text,
		      struct err *err)
{
	struct doc_list *list = &file->staged.docs;
	uint64_t hash = hash64(HASH64_INIT, text->text, text->len);
	if (mem_reserve(&list->v, &list->cap, list->n + 1, sizeof(struct doc *)) < 0)
		return -ENOMEM;

	struct doc *doc = known_take(known, text, hash);
	if (doc && doc->line == text->line) {
		doc->refs++;
	} else if (doc) {
		doc = doc_moved(s, doc, text);
	} else {
		file->staged.differs = true;
		doc = doc_new(file, text, hash);
		int rc = doc ? doc_decode(s, doc, text, err) : -ENOMEM;
		if (rc < 0) {
			doc_unref(doc);
			return rc;
		}
	}
	if (!doc)
		return -ENOMEM;
	list->v[list->n++] = doc;
	return 0;
}

static void staged_clear(struct file *file)
{
	doc_list_done(&file->staged.docs);
	free(file->staged.unreadable);
	memset(&file->staged, 0, sizeof(file->staged));
}

static bool has_bom(const char *text, size_t len)
{
	return len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3);
}

int store_put_file(struct store *s, const char *name, const char *text, size_t len)
{
	struct file *file = store_file(s, name);
	struct known known = { 0 };
	struct err err = ERR_INIT;
	if (!file)
		return -ENOMEM;
	staged_clear(file);
	int rc = known_init(s, &known, &file->docs);
	const char *at = text + (has_bom(text, len) ? 3 : 0);
	struct document_text document;
	uint32_t line = 1;
	while (rc == 0 && document_next(&at, text + len, &line, &document))
		rc = staged_add(s, file, &known, &document, &err);
	for (size_t i = 0; i < file->docs.n; i++)
		file->staged.differs |= file->docs.v[i]->mark != known.mark;
	table_free(known.by_hash);
	if (rc < 0) {
		staged_clear(file);
		return rc;
	}
	file->staged.differs |= file->unreadable != NULL;
	file->staged.pending = true;
	return 0;
}

int store_put_unreadable(struct store *s, const char *name, const char *why)
{
	if (!name) {
		s->recheck |= s->missing && !why;
		free(s->missing);
		s->missing = why ? strdup(why) : NULL;
		s->rejections_stale = true;
		return why && !s->missing ? -ENOMEM : 0;
	}
	struct file *file = store_file(s, name);
	if (!file)
		return -ENOMEM;
	staged_clear(file);
	file->staged.unreadable = strdup(why);
	file->staged.pending = file->staged.unreadable != NULL;
	return file->staged.pending ? 0 : -ENOMEM;
}

int store_remove_file(struct store *s, const char *name)
{
	struct file *file = table_get_str(s->files, name);
	if (!file)
		return 0;
	staged_clear(file);
	file->staged.removed = file->staged.pending = true;
	file->staged.differs = file->docs.n != 0;
	return 0;
}

/* Says whether the files are what they were, over restarts; not which of them comes first. */
uint64_t store_files_hash(const struct store *s)
{
	uint64_t sum = 0;
	struct table_iter it = { 0 };
	while (table_next(s->files, &it)) {
		const struct file *file = it.value;
		uint64_t name = hash64_str(HASH64_INIT, file->name);
		for (size_t i = 0; i < file->docs.n; i++)
			sum += hash64(name, &file->docs.v[i]->hash, sizeof(uint64_t));
	}
	return sum ? sum : 1;
}
