/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/tap: live requests as the helper tells of them, a line of JSON each. A reader that is slow loses lines and is told
 * how many; the helper is never held up. */
#include "agent/control/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/backend.h"
#include "agent/control/control.h"
#include "agent/control/internal.h"

/* A reader that has gone away is found out by writing to it; there are few, so it must be soon. */
enum { READERS_MAX = 4, PENDING_MAX = 256 * 1024, RATE_MAX = 1000, RATE_DEFAULT = 100, HEARTBEAT_MS = 1000 };

struct tap_reader {
	struct control *control;
	struct stream *stream; /* NULL until the answer has begun */
	struct loop_timer *timer;
	uint32_t id;
	struct sb pending;
	size_t sent; /* of pending */
	unsigned long long lost;
	bool heartbeat;
	struct tap_reader *next;
};

static void on_record(const char *json, void *ctx)
{
	struct tap_reader *t = ctx;
	size_t len = strlen(json);

	/* One line for each, whatever the helper put into it. */
	if (strchr(json, '\n') || t->pending.len - t->sent + len + 1 > PENDING_MAX) {
		t->lost++;
		return;
	}
	if (t->sent && t->sent == t->pending.len)
		t->sent = t->pending.len = 0;
	sb_add_bytes(&t->pending, json, len);
	sb_add(&t->pending, "\n");
	if (t->stream)
		stream_wake(t->stream);
}

static ssize_t reader_read(void *arg, char *buf, size_t size)
{
	struct tap_reader *t = arg;

	if (t->pending.failed || control_is_closing(t->control))
		return -1;
	if (t->lost && t->sent == t->pending.len) {
		sb_addf(&t->pending, "{\"lost\":%llu}\n", t->lost);
		t->lost = 0;
	}
	size_t left = t->pending.len - t->sent, n = left < size ? left : size;
	if (n) {
		memcpy(buf, t->pending.p + t->sent, n);
		t->sent += n;
		if (t->sent == t->pending.len)
			t->sent = t->pending.len = 0;
		return (ssize_t)n;
	}
	if (!t->heartbeat)
		return 0;
	t->heartbeat = false;
	buf[0] = '\n';
	return 1;
}

static void reader_done(void *arg)
{
	struct tap_reader *t = arg;
	const struct control_backend *b = control_backend(t->control);

	for (struct tap_reader **at = control_taps(t->control); *at; at = &(*at)->next) {
		if (*at != t)
			continue;
		*at = t->next;
		break;
	}
	if (t->id && b->tap_stop)
		b->tap_stop(t->id, b->arg);
	loop_timer_free(t->timer);
	sb_done(&t->pending);
	free(t);
}

static void on_heartbeat(struct loop_timer *timer, void *arg)
{
	struct tap_reader *t = arg;

	(void)timer;
	t->heartbeat = true;
	if (t->stream)
		stream_wake(t->stream);
}

void taps_end(struct control *control)
{
	for (struct tap_reader *t = *control_taps(control), *next; t; t = next) {
		next = t->next;
		if (t->stream)
			stream_wake(t->stream);
	}
}

static bool room(struct request *rq)
{
	size_t n = 0;

	for (struct tap_reader *t = *control_taps(request_control(rq)); t; t = t->next)
		n++;
	if (n < READERS_MAX)
		return true;
	reply_error(rq, 503, "%d clients tap requests already; end one of them", READERS_MAX);
	return false;
}

void handle_tap(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	struct control *control = request_control(rq);
	const char *filter = request_query(rq, "filter");
	uint64_t rate = RATE_DEFAULT;
	if (!b->tap) {
		reply_missing(rq);
		return;
	}
	if (!request_query_u64(rq, "rate", RATE_MAX, &rate) || !room(rq))
		return;
	struct tap_reader *t = calloc(1, sizeof(*t));
	if (!t) {
		reply_error(rq, 500, "no memory");
		return;
	}
	t->control = control;
	t->heartbeat = true; /* the answer's head goes out with it, not with the first request */
	int rc = loop_timer_new(control_loop(control), on_heartbeat, t, &t->timer);
	if (rc == 0)
		rc = b->tap(filter ? filter : "", (uint32_t)(rate ? rate : 1), on_record, t, &t->id, b->arg);
	if (rc < 0) {
		loop_timer_free(t->timer);
		free(t);
		reply_error(rq, rc == -EINVAL ? 400 : 503, "%s",
			    rc == -EINVAL ? "the filter is too long" :
			    rc == -EBUSY  ? "too many clients tap requests already; end one of them" :
					    "no memory");
		return;
	}
	loop_timer_start(t->timer, HEARTBEAT_MS, HEARTBEAT_MS);
	t->next = *control_taps(control);
	*control_taps(control) = t;
	reply_stream(rq, "application/x-ndjson", reader_read, reader_done, t);
	if (*control_taps(control) == t)
		t->stream = request_stream(rq);
}
