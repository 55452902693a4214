/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/access_log.h"

#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/helper/observe/expression.h"
#include "agent/helper/observe/format.h"
#include "agent/helper/observe/log_writer.h"
#include "agent/helper/observe/record.h"
#include "agent/model/telemetry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PATHS_MAX = 16, FLUSH_MS = 100, FLUSH_BYTES = 64 << 10 };

struct batch {
	char *path;
	struct sb lines;
	uint32_t count;
};

struct access_logs {
	struct log_writer *writer;
	struct loop_timer *timer;
	bool timer_runs;
	struct batch batches[PATHS_MAX];
	size_t batch_count;
};

static void flush(struct access_logs *l, struct batch *b)
{
	size_t len = b->lines.len;
	char *lines = len ? sb_take(&b->lines) : NULL;
	if (lines)
		log_writer_put(l->writer, b->path, lines, len, b->count);
	sb_done(&b->lines);
	b->lines = (struct sb){ 0 };
	b->count = 0;
}

static void flush_all(struct access_logs *l)
{
	for (size_t i = 0; i < l->batch_count; i++)
		flush(l, &l->batches[i]);
}

static void on_flush(struct loop_timer *timer, void *arg)
{
	struct access_logs *l = arg;
	(void)timer;
	l->timer_runs = false;
	flush_all(l);
}

int access_logs_new(struct loop *loop, struct log_writer *writer, struct access_logs **out)
{
	struct access_logs *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->writer = writer;
	int rc = loop_timer_new(loop, on_flush, l, &l->timer);
	if (rc < 0) {
		free(l);
		return rc;
	}
	*out = l;
	return 0;
}

void access_logs_free(struct access_logs *l)
{
	if (!l)
		return;
	flush_all(l);
	for (size_t i = 0; i < l->batch_count; i++)
		free(l->batches[i].path);
	loop_timer_free(l->timer);
	free(l);
}

static struct batch *batch_of(struct access_logs *l, const char *path)
{
	for (size_t i = 0; i < l->batch_count; i++)
		if (str_eq(l->batches[i].path, path))
			return &l->batches[i];
	if (l->batch_count == PATHS_MAX)
		return NULL;
	char *copy = strdup(path);
	if (!copy)
		return NULL;
	struct batch *b = &l->batches[l->batch_count++];
	*b = (struct batch){ .path = copy };
	return b;
}

static void write_one(struct access_logs *l, const struct access_log *log, const struct request_record *r)
{
	if (log->filter && !expression_true(r, log->filter))
		return;
	struct batch *b = batch_of(l, log->path);
	if (!b)
		return;
	size_t before = b->lines.len;
	if (log->json)
		record_format_json(r, log->format ? log->format : access_log_json, &b->lines);
	else
		record_format_line(r, log->format ? log->format : access_log_text, &b->lines);
	if (b->lines.len == before)
		return;
	if (b->lines.p[b->lines.len - 1] != '\n')
		sb_add(&b->lines, "\n");
	b->count++;
	if (b->lines.len >= FLUSH_BYTES || b->lines.failed) {
		flush(l, b);
	} else if (!l->timer_runs) {
		l->timer_runs = true;
		loop_timer_start(l->timer, FLUSH_MS, 0);
	}
}

void access_logs_write(struct access_logs *l, const struct telemetry *t, const struct request_record *r)
{
	for (size_t i = 0; i < t->log_count[r->reporter]; i++)
		write_one(l, &t->logs[r->reporter][i], r);
}
