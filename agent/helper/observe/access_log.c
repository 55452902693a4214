/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/access_log.h"

#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/helper/observe/expression.h"
#include "agent/helper/observe/format.h"
#include "agent/helper/observe/log_writer.h"
#include "agent/helper/observe/record.h"
#include "agent/link/metrics.h"
#include "agent/model/access_format.h"
#include "agent/model/telemetry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PATHS_MAX = 16, FLUSH_MS = 100, FLUSH_BYTES = 64 << 10, FORMATS = 64 /* a power of two */ };

struct batch {
	char *path;
	struct sb lines;
	uint32_t count;
};

/* A format that was read, of a telemetry's n-th log. */
struct known {
	uint64_t telemetry, log; /* id; log: n * REPORTER_COUNT + reporter */
	struct log_format *format;
};

struct access_logs {
	struct log_writer *writer;
	struct link_shard *metrics;
	struct loop_timer *timer;
	bool timer_runs;
	struct known formats[FORMATS];
	struct batch batches[PATHS_MAX];
	size_t batch_count;
};

static void dropped(struct access_logs *l, uint64_t lines)
{
	if (lines)
		__atomic_store_n(&l->metrics->access_log_dropped, l->metrics->access_log_dropped + lines,
				 __ATOMIC_RELAXED);
}

static void flush(struct access_logs *l, struct batch *b)
{
	size_t len = b->lines.len;
	if (!b->count)
		return;
	char *lines = sb_take(&b->lines);
	if (lines)
		log_writer_put(l->writer, b->path, lines, len, b->count);
	else
		dropped(l, b->count);
	b->lines = (struct sb){ 0 };
	b->count = 0;
}

static void flush_all(struct access_logs *l)
{
	for (size_t i = 0; i < l->batch_count; i++)
		flush(l, &l->batches[i]);
	dropped(l, log_writer_dropped(l->writer));
}

static void timer_start(struct access_logs *l)
{
	if (l->timer_runs)
		return;
	l->timer_runs = true;
	loop_timer_start(l->timer, FLUSH_MS, 0);
}

static void on_flush(struct loop_timer *timer, void *arg)
{
	struct access_logs *l = arg;
	(void)timer;
	l->timer_runs = false;
	flush_all(l);
	if (log_writer_busy(l->writer)) /* what it comes to drop is to be counted */
		timer_start(l);
}

int access_logs_new(struct loop *loop, struct log_writer *writer, struct link_shard *metrics, struct access_logs **out)
{
	struct access_logs *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->writer = writer;
	l->metrics = metrics;
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
	for (size_t i = 0; i < FORMATS; i++)
		log_format_free(l->formats[i].format);
	loop_timer_free(l->timer);
	free(l);
}

/* When there are too many paths, one that has nothing to write gives way. NULL: none has, or no memory. */
static struct batch *batch_of(struct access_logs *l, const char *path)
{
	struct batch *idle = NULL;
	for (size_t i = 0; i < l->batch_count; i++) {
		if (str_eq(l->batches[i].path, path))
			return &l->batches[i];
		if (!l->batches[i].count)
			idle = &l->batches[i];
	}
	if (l->batch_count < PATHS_MAX)
		idle = &l->batches[l->batch_count];
	char *copy = idle ? strdup(path) : NULL;
	if (!copy)
		return NULL;
	l->batch_count += idle == &l->batches[l->batch_count];
	free(idle->path);
	sb_done(&idle->lines);
	*idle = (struct batch){ .path = copy };
	return idle;
}

static const struct log_format *format_of(struct access_logs *l, const struct telemetry *t, int reporter, size_t i)
{
	const struct access_log *log = &t->logs[reporter][i];
	uint64_t which = i * REPORTER_COUNT + (uint64_t)reporter;
	struct known *k = &l->formats[(t->id + which) & (FORMATS - 1)];
	if (k->format && k->telemetry == t->id && k->log == which)
		return k->format;
	log_format_free(k->format);
	k->telemetry = t->id;
	k->log = which;
	k->format = log_format_new(log->format ? log->format :
				   log->json   ? access_log_json :
						 access_format_default,
				   log->json);
	return k->format;
}

static void write_one(struct access_logs *l, const char *path, const struct log_format *format,
		      const struct request_record *r)
{
	struct batch *b = format ? batch_of(l, path) : NULL;
	if (!b) {
		dropped(l, 1);
		return;
	}
	size_t before = b->lines.len;
	log_format_write(format, r, &b->lines);
	if (b->lines.len == before && !b->lines.failed)
		return;
	if (!b->lines.failed && b->lines.p[b->lines.len - 1] != '\n')
		sb_add_bytes(&b->lines, "\n", 1);
	b->count++;
	if (b->lines.len >= FLUSH_BYTES || b->lines.failed)
		flush(l, b);
	timer_start(l);
}

void access_logs_write(struct access_logs *l, const struct telemetry *t, const struct request_record *r)
{
	for (size_t i = 0; i < t->log_count[r->reporter]; i++) {
		const struct access_log *log = &t->logs[r->reporter][i];
		if (!log->filter || expression_true(r, log->filter))
			write_one(l, log->path, format_of(l, t, r->reporter, i), r);
	}
}
