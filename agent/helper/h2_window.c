/* SPDX-License-Identifier: Apache-2.0 */
/* What we let a peer send. Two rules keep one stream whose application does not read from stopping the others of its
 * connection, and bound what it makes us keep:
 *
 * - The connection's credit returns when bytes come, not when they are taken. It only waits while more is held than
 *   streams that keep to their windows can hold (H2_HELD_MAX), or, for what this connection holds, while all of the
 *   worker's connections hold more than their budget.
 * - A stream begins with a small window. It doubles while its application takes twice the window within a second, so it
 *   is as large as any round trip below half a second needs; what all streams have grown by is bounded, and where that
 *   bound is near, one that has become slow gives back what it grew by. */
#include "agent/helper/h2_internal.h"

/* Credit goes back in large steps: a WINDOW_UPDATE costs a record and perhaps a system call. */
enum {
	STREAM_RETURN_MIN = H2_STREAM_WINDOW / 2,
	CONNECTION_RETURN = H2_CONNECTION_WINDOW / 4,
	CONNECTION_RETURN_MIN = H2_CONNECTION_WINDOW / 64,
	GROWN_MANY = H2_GROWN_MAX / 2,
};

static bool over_budget(const struct h2 *h)
{
	return h->budget && h->budget->held > h->budget->limit;
}

static void connection_return(struct h2 *h)
{
	uint32_t most = over_budget(h) ? 0 : H2_HELD_MAX;
	uint32_t beyond = h->held > most ? h->held - most : 0;
	int64_t due = (int64_t)H2_CONNECTION_WINDOW - beyond - h->recv_window;
	/* Much at once; less, when it at least doubles what the peer has. */
	if (due < CONNECTION_RETURN && (due < CONNECTION_RETURN_MIN || due < h->recv_window))
		return;
	h2_frame_u32(h, FRAME_WINDOW_UPDATE, 0, (uint32_t)due);
	h->recv_window += (int32_t)due;
}

static void count(struct h2 *h, int64_t change)
{
	h->held += (uint32_t)change;
	if (h->budget)
		h->budget->held += (uint64_t)change;
}

void h2_share(struct h2 *h, struct h2_budget *budget)
{
	h->budget = budget;
}

void h2_received(struct h2 *h, size_t len)
{
	h->recv_window -= (int32_t)len;
	count(h, (int64_t)len);
	connection_return(h);
}

void h2_review(struct h2 *h)
{
	connection_return(h);
}

void h2_window_init(struct h2_stream *s)
{
	s->recv_window = H2_STREAM_WINDOW;
	s->window = H2_STREAM_WINDOW;
}

void h2_window_done(struct h2 *h, struct h2_stream *s)
{
	h->grown -= s->window - H2_STREAM_WINDOW;
	s->window = H2_STREAM_WINDOW;
}

static void grow(struct h2 *h, struct h2_stream *s)
{
	uint32_t by = s->window;
	if (s->taken / 2 < s->window || s->window >= H2_STREAM_WINDOW_MAX || h->grown + by > H2_GROWN_MAX ||
	    over_budget(h))
		return;
	s->window += by;
	s->unreturned += by;
	h->grown += by;
}

/* How much of len is not to be sent again, because the window shrinks by it. */
static uint32_t shrink(struct h2 *h, struct h2_stream *s, uint32_t len)
{
	uint32_t by = s->window - H2_STREAM_WINDOW;
	if (h->grown < GROWN_MANY)
		return 0;
	if (by > len)
		by = len;
	s->window -= by;
	h->grown -= by;
	return by;
}

void h2_consumed(struct h2 *h, struct h2_stream *s, size_t len)
{
	count(h, -(int64_t)len);
	connection_return(h);
	if (!s || s->id == 0 || s->remote_end)
		return;

	uint32_t now_s = (uint32_t)h->now_s, more = (uint32_t)len;
	if (s->taken_s != now_s) {
		bool slow = now_s - s->taken_s > 1 || s->taken < s->window;
		s->taken_s = now_s;
		s->taken = 0;
		if (slow)
			more -= shrink(h, s, more);
	}
	s->taken += (uint32_t)len;
	s->unreturned += more;
	grow(h, s);
	if (s->unreturned < STREAM_RETURN_MIN || s->unreturned < s->window / 4)
		return;
	h2_frame_u32(h, FRAME_WINDOW_UPDATE, s->id, s->unreturned);
	s->recv_window += (int32_t)s->unreturned;
	s->unreturned = 0;
}
