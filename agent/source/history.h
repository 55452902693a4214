/* SPDX-License-Identifier: Apache-2.0 */
/* The store's memory: numbered revisions as differences, and the documents' texts, in two append-only files of the state
 * directory (or in an anonymous one when there is none, so that texts never cost resident memory).
 *   texts-<generation>   the documents' bytes, one after the other
 *   revisions            a header that names the generation, then one checksummed record a revision
 * A killed agent loses nothing that was committed; after a power cut the tail may be missing (nothing is synced, the
 * files of the user are the truth) and is cut off. Not thread-safe. */
#pragma once

#include "agent/source/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct history;
struct sb;
struct table;

/* One text of one document. Reference-counted within the store's thread. */
struct version {
	unsigned int refs;
	uint32_t len;
	uint64_t offset, hash; /* hash64() of the text: checked when it is read back */
	const char *file;      /* interned by the history */
	uint32_t line;
	struct history *owner; /* lists all of its versions, to move their texts when it rewrites its files */
	struct version *next, *prev;
};

struct history_change {
	char *key;
	struct version *before, *after; /* NULL: absent */
};

struct history_revision {
	struct revision pub;
	uint64_t rolled_back_to; /* 0: an ordinary one */
	uint64_t files_hash;	 /* of a rollback: of the files at that time */
	bool base;		 /* in the file only: all that was there before the oldest revision that is kept */
	struct history_change *changes;
	size_t change_count;
};

int history_new(struct history **out);
void history_free(struct history *h);
/* How to get at all keys and versions in force, for rewriting the files when they hold mostly what is gone. */
void history_set_walk(struct history *h,
		      void (*walk)(void (*each)(const char *key, struct version *v, void *to), void *to, void *arg),
		      void *arg);
/* See store_open(). *state becomes key -> struct version (the caller's references; table_free drops them). */
int history_open(struct history *h, const char *dir, struct table **state, struct err *err);

struct version *version_ref(struct version *v);
void version_unref(struct version *v);

/* Writes a text down. NULL: no memory or no space (err says). */
struct version *history_text_add(struct history *h, const char *text, size_t len, uint64_t hash, const char *file,
				 uint32_t line, struct err *err);
/* The same text at another place. NULL: no memory. */
struct version *history_text_moved(struct history *h, const struct version *v, const char *file, uint32_t line);
int history_text(const struct history *h, const struct version *v, struct sb *out, struct err *err);

/* Adds the next revision and takes over `changes` (array, keys and references), also when it fails. A failure to write
 * is reported in err, but the revision counts. 0, -errno of writing, or -ENOMEM: not added. */
int history_add(struct history *h, struct history_change *changes, size_t count, uint64_t rolled_back_to,
		uint64_t files_hash, struct err *err);
void history_changes_free(struct history_change *changes, size_t count);
uint64_t history_number(const struct history *h); /* of the newest; 0: none */
/* Newest first. */
const struct history_revision *history_revisions(const struct history *h, size_t *count);
/* What changed after revision `from` up to `to`, one entry a key, sorted by key: borrowed keys and versions in an array
 * that the caller frees. -ENOENT: not kept. */
int history_between(const struct history *h, uint64_t from, uint64_t to, struct history_change **out, size_t *count,
		    struct err *err);
