/* SPDX-License-Identifier: Apache-2.0 */
/* Sending: what applications send comes as little (it goes to the frames that collect, and all of a tick's share records
 * and a write at its end) or as much: then the frames that have collected and the DATA of one application are sealed in
 * scratch memory and leave in one write. Only what the socket does not take is kept (`out`), and while it is there no application of this
 * connection is read: that bounds it to one batch and the control frames. */
#include "agent/helper/hbone_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { PUSH_RECORDS = 8 << 10 }; /* from here on bytes are worth a write of their own */

int conn_write(struct hbone_conn *c, const uint8_t *bytes, size_t len)
{
	size_t done = 0;
	if (c->out.len == 0) {
		ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		done = n < 0 ? 0 : (size_t)n;
	}
	if (done == len)
		return 0;

	uint32_t cap = c->out.cap;
	int rc = buffer_append(&c->out, bytes + done, len - done);
	hbone_count_bytes(c->h, (int64_t)c->out.cap - cap);
	if (!c->writing)
		conn_arm(c);
	return rc;
}

int conn_rekey(struct hbone_conn *c, bool request)
{
	uint8_t record[TLS_UPDATE_MAX];
	ssize_t n = tls_record_update(c->record, request, record);
	return n < 0 ? (int)n : conn_write(c, record, (size_t)n);
}

void conn_touch(struct hbone_conn *c)
{
	if (c->dirty || c->state == CONN_CLOSED)
		return;
	lazy_leave(c);
	c->dirty = true;
	TAILQ_INSERT_TAIL(&c->h->dirty, c, in_dirty);
}

/* Seals the control frames that wait into `to`; returns the bytes, or -errno. */
static ssize_t seal_output(struct hbone_conn *c, uint8_t *to, size_t records)
{
	struct buffer *output = h2_output(c->h2);
	size_t at = 0;
	while (output->len && records-- > 0) {
		size_t n = output->len < TLS_CONTENT_MAX ? output->len : TLS_CONTENT_MAX;
		memcpy(to + at + TLS_HEADER, buffer_head(output), n);
		ssize_t sealed = tls_record_seal(c->record, TLS_DATA, to + at, n);
		if (sealed < 0)
			return sealed;
		buffer_consume(output, n);
		at += (size_t)sealed;
	}
	return (ssize_t)at;
}

/* Sends what `out` holds. 1: all of it; 0: not yet; -1: the connection is gone. */
int hbone_conn_drain(struct hbone_conn *c)
{
	while (c->out.len) {
		ssize_t n = send(c->fd, buffer_head(&c->out), c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n < 0) {
			hbone_conn_close(c);
			return -1;
		}
		uint32_t cap = c->out.cap;
		buffer_consume(&c->out, (size_t)n);
		hbone_count_bytes(c->h, (int64_t)c->out.cap - cap);
	}
	return 1;
}

void conn_flush(struct hbone_conn *c)
{
	if (c->state != CONN_OPEN)
		return;
	if (tls_record_is_worn(c->record) && c->out.len == 0 && conn_rekey(c, false) < 0) {
		hbone_conn_close(c);
		return;
	}
	while (h2_output(c->h2)->len && c->out.len == 0) {
		ssize_t n = seal_output(c, c->h->tx, BATCH_RECORDS);
		if (n < 0 || conn_write(c, c->h->tx, (size_t)n) < 0) {
			hbone_conn_close(c);
			return;
		}
	}
	if (h2_output(c->h2)->len > OUTPUT_MAX)
		conn_fail(c, DROP_HBONE_FLOOD, "the peer makes us answer and does not read the answers");
}

/* Seals `len` bytes that were read into the slots at tx as DATA, one frame a record. Returns the end, or -errno. */
static ssize_t seal_data(struct hbone_conn *c, struct hbone_stream *s, size_t at, size_t len, bool last)
{
	uint8_t *tx = c->h->tx;
	while (len) {
		size_t n = len < FRAME_PAYLOAD ? len : FRAME_PAYLOAD;
		h2_data_header(c->h2, &s->h2, n, last && n == len, tx + at + TLS_HEADER);
		ssize_t sealed = tls_record_seal(c->record, TLS_DATA, tx + at, H2_FRAME_HEADER + n);
		if (sealed < 0)
			return sealed;
		at += (size_t)sealed;
		len -= n;
	}
	return (ssize_t)at;
}

/* Where the payloads of the next records will lie, as far as the windows allow. */
static int payload_slots(uint8_t *tx, size_t credit, int records, struct iovec iov[BATCH_RECORDS])
{
	int count = 0;
	for (; count < records && credit; count++) {
		size_t n = credit < FRAME_PAYLOAD ? credit : FRAME_PAYLOAD;
		iov[count] = (struct iovec){ tx + (size_t)count * RECORD_SLOT + TLS_HEADER + H2_FRAME_HEADER, n };
		credit -= n;
	}
	return count;
}

/* Whether the application's orderly end stands right behind what was read: then one frame tells both. */
static bool is_last(struct hbone_stream *s, bool drained)
{
	char byte;
	if (drained && s->hung_up)
		s->app_eof = recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
	return s->app_eof;
}

/* How much may be sent as DATA now: > 0; else as conn_pull(). The output fits one record then. */
static ssize_t conn_credit(struct hbone_conn *c, struct hbone_stream *s)
{
	if (h2_output(c->h2)->len > TLS_CONTENT_MAX || tls_record_is_worn(c->record))
		conn_flush(c);
	if (c->state != CONN_OPEN)
		return -ECANCELED;
	if (c->out.len) {
		if (!s->blocked)
			TAILQ_INSERT_TAIL(&c->blocked, s, queue);
		s->blocked = true;
		return -EBUSY;
	}
	size_t credit = h2_credit(c->h2, &s->h2);
	return credit ? (ssize_t)credit : -ENOBUFS;
}

/* Copies len bytes from behind `skip` into pieces of the sizes that `to` has. */
static void gather(const struct iovec *iov, int count, size_t skip, const struct iovec *to, const struct iovec *end,
		   size_t len)
{
	size_t filled = 0;
	for (int i = 0; i < count && len; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		const uint8_t *from = (const uint8_t *)iov[i].iov_base + skip;
		size_t left = iov[i].iov_len - skip < len ? iov[i].iov_len - skip : len;
		skip = 0;
		len -= left;
		while (left && to < end) {
			size_t n = to->iov_len - filled < left ? to->iov_len - filled : left;
			memcpy((uint8_t *)to->iov_base + filled, from, n);
			from += n;
			left -= n;
			filled += n;
			if (filled == to->iov_len) {
				to++;
				filled = 0;
			}
		}
	}
}

/* One frame in the output: it shares a record and a write with what else the tick brings. */
static ssize_t push_frame(struct hbone_conn *c, struct hbone_stream *s, const struct iovec *iov, int count, size_t skip,
			  size_t len, bool last)
{
	struct buffer *output = h2_output(c->h2);
	uint8_t *frame = buffer_reserve(output, H2_FRAME_HEADER + len);
	if (!frame)
		return -ENOBUFS;
	const struct iovec whole = { frame + H2_FRAME_HEADER, len };
	gather(iov, count, skip, &whole, &whole + 1, len);
	h2_data_header(c->h2, &s->h2, len, last, frame);
	buffer_added(output, H2_FRAME_HEADER + len);
	conn_touch(c);
	return (ssize_t)len;
}

/* Seals what waits, and behind it the DATA that was read into the slots after the first, and sends both. */
static int send_pulled(struct hbone_conn *c, struct hbone_stream *s, size_t len, bool last)
{
	/* What waits goes first, in the same write: the DATA may belong to a stream that it opens. */
	uint8_t *tx = c->h->tx;
	ssize_t before = seal_output(c, tx, 1);
	ssize_t end = before < 0 ? before : seal_data(c, s, RECORD_SLOT, len, last);
	if (end < 0)
		return (int)end;
	uint8_t *from = tx + RECORD_SLOT - before;
	if (before)
		memmove(from, tx, (size_t)before);
	return conn_write(c, from, (size_t)(tx + end - from));
}

/* Before the answer no more is sent than is kept to be sent again. */
static ssize_t early_credit(const struct hbone_stream *s, ssize_t credit)
{
	ssize_t room = EARLY_MAX - s->early_len;
	return room == 0 ? -ENOBUFS : credit < room ? credit : room;
}

static void early_keep(struct hbone_stream *s, const void *bytes, size_t len)
{
	uint8_t *early = realloc(s->early, s->early_len + len);
	if (!early) {
		s->retried = true; /* or what is lost would be missing in a second try */
		return;
	}
	memcpy(early + s->early_len, bytes, len);
	s->early = early;
	s->early_len = (uint16_t)(s->early_len + len);
}

ssize_t conn_pull(struct hbone_conn *c, struct hbone_stream *s)
{
	ssize_t credit = conn_credit(c, s);
	if (credit >= 0 && s->state == STREAM_ASKED)
		credit = early_credit(s, credit);
	if (credit < 0)
		return credit;

	struct iovec iov[BATCH_RECORDS];
	int count = payload_slots(c->h->tx + RECORD_SLOT, (size_t)credit, s->eager ? BATCH_RECORDS : 1, iov);
	size_t room = 0;
	for (int i = 0; i < count; i++)
		room += iov[i].iov_len;
	ssize_t n = count == 1 ? recv(s->fd, iov->iov_base, room, MSG_DONTWAIT) : readv(s->fd, iov, count);
	if (n <= 0)
		return n < 0 ? -errno : 0;

	bool last = is_last(s, (size_t)n < room);
	if (s->state == STREAM_ASKED)
		early_keep(s, iov->iov_base, (size_t)n);
	int rc = 0;
	if (n < PUSH_RECORDS)
		rc = push_frame(c, s, iov, 1, 0, (size_t)n, last) < 0 ? -ENOMEM : 0;
	else
		rc = send_pulled(c, s, (size_t)n, last);
	if (rc < 0) {
		hbone_conn_close(c);
		return -ECANCELED;
	}
	s->eager = (size_t)n == room;
	s->peer_last = false;
	s->sent += (size_t)n;
	return n;
}

static ssize_t push_records(struct hbone_conn *c, struct hbone_stream *s, const struct iovec *iov, int count,
			    size_t skip, size_t len)
{
	struct iovec slots[BATCH_RECORDS];
	ssize_t at = seal_output(c, c->h->tx, 1);
	size_t room = 0;
	if (at >= 0) {
		int n = payload_slots(c->h->tx + at, len, BATCH_RECORDS, slots);
		for (int i = 0; i < n; i++)
			room += slots[i].iov_len;
		gather(iov, count, skip, slots, slots + n, room);
		at = seal_data(c, s, (size_t)at, room, false);
	}
	if (at < 0 || conn_write(c, c->h->tx, (size_t)at) < 0) {
		hbone_conn_close(c);
		return -ECANCELED;
	}
	return (ssize_t)room;
}

ssize_t conn_push(struct hbone_conn *c, struct hbone_stream *s, const struct iovec *iov, int count, size_t skip)
{
	size_t len = 0;
	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	len -= skip;
	ssize_t credit = conn_credit(c, s);
	if (credit < 0)
		return credit;
	if (len > (size_t)credit)
		len = (size_t)credit;
	ssize_t n = len < PUSH_RECORDS ? push_frame(c, s, iov, count, skip, len, false) :
					 push_records(c, s, iov, count, skip, len);
	if (n > 0)
		s->sent += (size_t)n;
	return n;
}
