/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker's transports share. */
#include "agent/helper/transport_socket_internal.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/worker.h"

#include <errno.h>
#include <stdlib.h>

void transports_trim(struct transports *ts)
{
	fd_closep(&ts->pipe[0]);
	fd_closep(&ts->pipe[1]);
	while (ts->chunk_count)
		free(ts->chunks[--ts->chunk_count]);
	free(TAKE(ts->scratch));
}

int transports_append(struct transports *ts, struct buffer *b, const void *bytes, size_t len)
{
	if (!b->p && len <= TRANSPORT_CHUNK) {
		b->p = ts->chunk_count ? ts->chunks[--ts->chunk_count] : malloc(TRANSPORT_CHUNK);
		if (!b->p)
			return -ENOMEM;
		b->cap = TRANSPORT_CHUNK;
	}
	return buffer_append(b, bytes, len);
}

void transports_release(struct transports *ts, struct buffer *b)
{
	if (b->cap == TRANSPORT_CHUNK && ts->chunk_count < TRANSPORT_CHUNKS) {
		ts->chunks[ts->chunk_count++] = b->p;
		*b = (struct buffer){ 0 };
	} else {
		buffer_done(b);
	}
}

void transports_consume(struct transports *ts, struct buffer *b, size_t len)
{
	if (len < b->len)
		buffer_consume(b, len);
	else
		transports_release(ts, b);
}

void transports_linger_arm(struct transports *ts)
{
	const struct transport_socket *oldest = TAILQ_FIRST(&ts->lingering);
	if (!oldest) {
		loop_timer_stop(ts->linger);
		return;
	}
	uint64_t now = loop_now_ns(ts->loop);
	uint64_t left = oldest->deadline_ns > now ? oldest->deadline_ns - now : 0;
	loop_timer_start(ts->linger, left / 1000000 + 1, 0);
}

static void on_linger(struct loop_timer *timer, void *arg)
{
	struct transports *ts = arg;
	struct transport_socket *s;
	(void)timer;
	while ((s = TAILQ_FIRST(&ts->lingering)) && s->deadline_ns <= loop_now_ns(ts->loop))
		transport_socket_remove(s, true);
	transports_linger_arm(ts);
}

int transports_new(struct worker *w, struct transports **out)
{
	struct transports *ts = calloc(1, sizeof(*ts));
	if (!ts)
		return -ENOMEM;
	ts->w = w;
	ts->pipe[0] = ts->pipe[1] = -1;
	ts->loop = worker_loop(w);
	TAILQ_INIT(&ts->all);
	TAILQ_INIT(&ts->lingering);
	TAILQ_INIT(&ts->pairs);
	int rc = loop_timer_new(ts->loop, on_linger, ts, &ts->linger);
	if (rc < 0)
		free(ts);
	else
		*out = ts;
	return rc;
}

void transports_free(struct transports *ts)
{
	struct transport_socket *s;
	if (!ts)
		return;
	while ((s = TAILQ_FIRST(&ts->all))) {
		s->closed = true; /* their owners are gone */
		transport_socket_remove(s, true);
	}
	transport_pairs_cut(ts);
	loop_timer_free(ts->linger);
	if (ts->contexts)
		ts->contexts_free(ts->contexts);
	transports_trim(ts);
	free(ts);
}
