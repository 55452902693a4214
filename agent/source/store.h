/* SPDX-License-Identifier: Apache-2.0 */
/* The store: the resources in force, by kind/namespace/name, each the last good version, and those that were rejected,
 * with their reason. Sources stage files and commit them as one change set; compile reads. Every accepted change set is
 * a numbered revision that can be compared and rolled back. One thread (the loop's); resources themselves may be
 * referenced anywhere. */
#pragma once

#include "agent/config/resource.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct sb;
struct store;

struct rejection {
	char *key;	/* "AuthorizationPolicy/shop/payments-callers", or the file when the document has no name */
	char *origin;	/* "file:line" */
	char *text;	/* "spec.rules[0].from: unknown field \"form\"; did you mean \"from\"?" */
	bool warning;	/* loaded all the same */
	bool last_good; /* an earlier version stays in force */
	uint64_t since_s;
};

struct revision {
	uint64_t number;
	uint64_t time_s;
	char *summary;	       /* "2 changed, 1 added: AuthorizationPolicy/shop/x, ..." */
	bool rolled_back_from; /* made by a rollback */
};

/* A difference between two revisions that follow each other. */
struct store_change {
	struct resource *before,
		*after; /* NULL: added, removed. Borrowed; the same spec pointer: only its line moved */
};

enum { STORE_HISTORY_MAX = 50 };

int store_new(struct store **out);
void store_free(struct store *s);

/* Continues what an earlier run left in state_dir (made when missing): the numbers, the history, and the last good
 * version of documents that turn out broken. NULL: history in memory only. Before the first commit. A damaged file
 * there is put aside and reported in *err, with 0 returned: the store is usable and starts anew. */
int store_open(struct store *s, const char *state_dir, struct err *err);
/* Called at the end of a commit or rollback that changed something. */
void store_on_change(struct store *s, void (*fn)(struct store *s, uint64_t revision, void *arg), void *arg);

/* --- for sources: stage, then commit */

/* The file's text, copied as needed. `name` is what messages say, unique among all sources; a document is decoded only
 * when its text is new. 0 or -ENOMEM. */
int store_put_file(struct store *s, const char *name, const char *text, size_t len);
/* The file is there but can't be read: what it held stays in force. name NULL: no file can be (the directory is gone);
 * what was in force, also at the end of the last run, stays; why NULL: over. */
int store_put_unreadable(struct store *s, const char *name, const char *why);
int store_remove_file(struct store *s, const char *name);
/* Applies all that was staged at once. *changed: a new revision came of it (never from a commit without differences).
 * Only the first commit calls on_change also without one, as the last run's revision comes into force then.
 * 0, or -ENOMEM: try again. */
int store_commit(struct store *s, bool *changed, struct err *err);

/* --- what is in force */

/* Iterates over the resources of one kind in the order of their keys (strcmp); NULL at the end. */
const struct resource *store_next(const struct store *s, enum resource_kind kind, const struct resource *after);
/* ns: NULL or "" for cluster-wide kinds. */
const struct resource *store_get(const struct store *s, enum resource_kind kind, const char *ns, const char *name);
size_t store_count(const struct store *s);	/* resources */
uint64_t store_revision(const struct store *s); /* 0: nothing yet */
/* What the last revision changed. */
const struct store_change *store_changes(const struct store *s, size_t *count);
/* Rejections and warnings, by file and line; borrowed until the next commit. */
const struct rejection *store_rejections(const struct store *s, size_t *count);
/* The document of a resource in force, as written, but for values of Secrets (config/redact.h), which nothing here shows.
 * -ENOENT, -EIO. */
int store_text(const struct store *s, const char *key, struct sb *out, struct err *err);

/* --- history */

/* Up to `max` of the revisions that are kept, newest first, into out; borrowed until the next commit. Returns how many. */
size_t store_history(const struct store *s, const struct revision **out, size_t max);
/* Unified diff of the documents that differ between two kept revisions (0 as `from`: before the oldest). */
int store_diff(const struct store *s, uint64_t from, uint64_t to, struct sb *out, struct err *err);
/* Makes the resources what they were at revision `to`, as a new revision. It stays in force, also over a restart, until
 * the files change. -ENOENT: not kept. */
int store_rollback(struct store *s, uint64_t to, struct err *err);
uint64_t store_rolled_back_to(const struct store *s); /* 0: the files are in force */
