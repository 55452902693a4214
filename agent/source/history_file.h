/* SPDX-License-Identifier: Apache-2.0 */
/* The history's two files: reading, appending, rewriting. For history.c only. */
#pragma once

#include "agent/source/history.h"

struct history_file {
	int dir_fd;	  /* -1: in memory only */
	int revisions_fd; /* -1: none */
	int texts_fd;
	uint64_t generation;
	uint64_t texts_size; /* written */
	char *buf;	     /* texts that are not written yet */
	size_t buf_len, buf_cap;
};

int history_file_memory(struct history_file *f, struct err *err);
/* Opens or makes the files; on_revision gets every record that is whole, oldest first, and owns it (rc < 0 stops). A
 * damaged start is put aside: 0 with err set. */
int history_file_open(struct history_file *f, const char *dir,
		      int (*on_revision)(struct history_revision *r, void *arg),
		      const char *(*intern)(void *arg, const char *name), void *arg, struct err *err);
void history_file_close(struct history_file *f);
/* Buffered; flushed by history_file_append() and reads. */
int history_file_text(struct history_file *f, const char *text, size_t len, uint64_t *offset, struct err *err);
int history_file_read(struct history_file *f, uint64_t offset, size_t len, char *to, struct err *err);
int history_file_append(struct history_file *f, const struct history_revision *r, struct err *err);
/* Begins new files of the next generation that replace the present ones when finish is called; `next` is then used like
 * any other. */
int history_file_rewrite(const struct history_file *f, struct history_file *next, struct err *err);
int history_file_finish(struct history_file *f, struct history_file *next, struct err *err);
