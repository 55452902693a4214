/* SPDX-License-Identifier: Apache-2.0 */
/* The store's insides, for store*.c only.
 * A file is a list of documents; a document stands as candidate for the keys that it names; a slot is a key with its
 * candidates and what is in force. Committing swaps the document lists of the staged files, and resolves the slots that
 * this touched. */
#pragma once

#include "agent/config/decode.h"
#include "agent/source/history.h"
#include "agent/source/store.h"

struct doc;
struct file;
struct slot;

struct cand {
	struct cand *next; /* of the slot */
	struct slot *slot; /* NULL: not linked */
	struct doc *doc;
	struct resource *resource; /* NULL: the document was rejected */
};

struct doc {
	unsigned int refs; /* the file's list, and the staged list */
	struct file *file;
	uint64_t hash, since_s;
	uint32_t line, len, mark;
	bool unparsed;		 /* rejected, and it is not known which resource it was to be */
	struct version *version; /* when it has a resource */
	struct problem *problems;
	size_t problem_count;
	struct cand *cands; /* &one, or an array */
	size_t cand_count;
	struct cand one;
};

struct doc_list {
	struct doc **v;
	size_t n, cap;
};

struct file {
	char *name;
	struct doc_list docs;
	char *unreadable;   /* why, or NULL */
	bool removed;	    /* freed at the end of the commit */
	struct slot **held; /* last good ones that are not in the file any more, because some of it can't be read */
	size_t held_count, held_cap;
	struct {
		bool pending, removed, differs;
		struct doc_list docs;
		char *unreadable;
	} staged;
};

struct slot {
	struct cand *cands;
	struct resource *current; /* NULL: none in force */
	struct version *version;  /* of current; before the first commit: of the last run */
	struct file *owner;	  /* NULL: none */
	bool touched, last_good, conflict;
	bool held; /* in its owner's list */
	char key[];
};

struct kind_index {
	struct resource **v; /* by key */
	size_t n, cap, hint;
	bool dirty;
};

struct store {
	struct table *files; /* name -> struct file */
	struct table *slots; /* key -> struct slot */
	struct kind_index kinds[KIND_COUNT];
	struct decoder *decoder;
	struct history *history;
	struct table *persisted; /* until the first commit: key -> struct version */
	bool committed;
	bool recheck;	 /* `missing` is over: what no file has goes */
	bool prune;	 /* files were removed */
	uint64_t frozen; /* rolled back to; 0: no */
	char *missing;	 /* why no file can be read, or NULL */
	char *state_problem;
	struct slot **touched;
	size_t touched_count, touched_cap;
	struct store_change *changes;
	size_t change_count, change_cap;
	struct rejection *rejections;
	size_t rejection_count, rejection_cap;
	bool rejections_stale;
	size_t conflicts;
	uint32_t mark;
	void (*on_change)(struct store *s, uint64_t revision, void *arg);
	void *on_change_arg;
};

/* store_files.c */
void file_free(void *file);
void doc_unref(struct doc *doc);
struct file *store_file(struct store *s, const char *name); /* made when missing; NULL: no memory */
uint64_t store_files_hash(const struct store *s);
/* store_commit.c */
struct slot *store_slot(struct store *s, const char *key); /* made when missing; NULL: no memory */
void slot_free(void *slot);
int slot_touch(struct store *s, struct slot *slot);
/* store_index.c */
int store_index_replace(struct store *s, struct resource *before, struct resource *after);
int store_index_finish(struct store *s);
void store_changes_clear(struct store *s);
/* store_report.c */
void store_rejections_clear(struct store *s);
