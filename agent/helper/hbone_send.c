/* SPDX-License-Identifier: Apache-2.0 */
/* Sending: the control frames that have collected and the DATA of one application are sealed in scratch memory and leave
 * in one write. Only what the socket does not take is kept (`out`), and while it is there no application of this
 * connection is read: that bounds it to one batch and the control frames. */
#include "agent/helper/hbone_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

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
int conn_drain(struct hbone_conn *c)
{
	while (c->out.len) {
		ssize_t n = send(c->fd, buffer_head(&c->out), c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n < 0) {
			conn_close(c);
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
		conn_close(c);
		return;
	}
	while (h2_output(c->h2)->len && c->out.len == 0) {
		ssize_t n = seal_output(c, c->h->tx, BATCH_RECORDS);
		if (n < 0 || conn_write(c, c->h->tx, (size_t)n) < 0) {
			conn_close(c);
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

ssize_t conn_pull(struct hbone_conn *c, struct hbone_stream *s)
{
	if (c->out.len) {
		if (!s->blocked)
			TAILQ_INSERT_TAIL(&c->blocked, s, queue);
		s->blocked = true;
		return -EBUSY;
	}
	size_t credit = h2_credit(c->h2, &s->h2);
	if (credit == 0)
		return -ENOBUFS;
	if (h2_output(c->h2)->len > TLS_CONTENT_MAX || tls_record_is_worn(c->record)) {
		conn_flush(c);
		return c->state == CONN_OPEN ? conn_pull(c, s) : -ECANCELED;
	}

	/* What waits goes first, in the same write: the DATA may belong to a stream that it opens. */
	ssize_t at = seal_output(c, c->h->tx, 1);
	struct iovec iov[BATCH_RECORDS];
	int count = at < 0 ? 0 : payload_slots(c->h->tx + at, credit, s->eager ? BATCH_RECORDS : 1, iov);
	size_t room = 0;
	for (int i = 0; i < count; i++)
		room += iov[i].iov_len;
	ssize_t n = at < 0 ? at : readv(s->fd, iov, count);
	int error = n < 0 ? errno : 0;
	ssize_t end = at;
	if (n > 0)
		end = seal_data(c, s, (size_t)at, (size_t)n, is_last(s, (size_t)n < room));
	if (end < 0 || (end > 0 && conn_write(c, c->h->tx, (size_t)end) < 0)) {
		conn_close(c);
		return -ECANCELED;
	}
	if (n < 0)
		return -error;
	s->eager = (size_t)n == room;
	s->sent += (size_t)n;
	return n;
}
