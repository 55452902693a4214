/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of YAML and JSON files as source of the store: read at start, watched afterwards. Not recursive; names
 * that begin with a dot, and ends other than .yaml, .yml and .json, are left alone. Runs on its loop. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct file_source;
struct loop;
struct store;

enum {
	FILE_SIZE_MAX_BYTES = 32 << 20,
	FILE_TOTAL_MAX_BYTES = 256 << 20,
	FILE_DEBOUNCE_MS = 4,	    /* quiet after the last event */
	FILE_DEBOUNCE_MAX_MS = 200, /* but no longer than this after the first */
};

/* Reads the directory, commits, and watches. A directory that is not there (any more) is waited for, with
 * file_source_problem() saying so; what was read stays in force. dir and store are borrowed resp. copied. */
int file_source_new(struct loop *loop, struct store *store, const char *dir, struct file_source **out, struct err *err);
void file_source_free(struct file_source *fs);
/* Looks at the directory now, without waiting for events. */
void file_source_rescan(struct file_source *fs);
/* All that the directory holds, as far as events have told, was taken or rejected. */
bool file_source_settled(const struct file_source *fs);
/* Why the directory can't be read at the moment, or NULL. */
const char *file_source_problem(const struct file_source *fs);
