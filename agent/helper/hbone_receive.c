/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving: one large read into the worker's scratch memory, records opened where they lie, frames parsed from there and
 * DATA written to the applications from there. Only the beginning of a record whose end has not come is kept. */
#include "agent/helper/hbone_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* One opened record. False: the connection is gone. */
static bool on_plain(struct hbone_conn *c, const struct tls_plain *plain)
{
	enum drop_reason reason;
	switch (plain->what) {
	case TLS_OPENED_NONE:
		return true;
	case TLS_OPENED_UPDATE:
		if (conn_rekey(c, false) == 0)
			return true;
		hbone_conn_close(c);
		return false;
	case TLS_OPENED_DATA:
		if (h2_input(c->h2, plain->data, plain->len, hbone_now_ms(c->h) / 1000) == 0) {
			if (h2_output(c->h2)->len)
				conn_touch(c);
			return true;
		}
		if (c->state == CONN_CLOSED)
			return false;
		relay_flush(c->h);
		const char *why = h2_fault(c->h2, &reason);
		conn_flush(c); /* the GOAWAY that says why */
		conn_fail(c, reason, why);
		return false;
	case TLS_OPENED_ALERT:
		/* In TLS 1.3 a client learns only now that its certificate was refused. */
		conn_fail(c, DROP_TLS_HANDSHAKE, "the peer ended TLS with an alert");
		return false;
	case TLS_OPENED_CLOSE:
		hbone_conn_close(c);
		return false;
	}
	return false;
}

/* Opens the records in bytes; returns how many bytes they took, or -1: the connection is gone. */
static ssize_t conn_records(struct hbone_conn *c, uint8_t *bytes, size_t len)
{
	size_t at = 0;
	for (;;) {
		struct tls_plain plain;
		ssize_t n = tls_record_open(c->record, bytes + at, len - at, &plain);
		if (n == 0)
			return (ssize_t)at;
		if (n < 0) {
			relay_flush(c->h);
			conn_fail(c, DROP_HBONE_PROTOCOL, "a record that does not decrypt");
			return -1;
		}
		at += (size_t)n;
		if (!on_plain(c, &plain))
			return -1;
	}
}

static int keep_rest(struct hbone_conn *c, const uint8_t *bytes, size_t len)
{
	return len ? buffer_append(&c->rest, bytes, len) : 0;
}

/* Reads and works off once. True: there may be more. */
bool conn_read(struct hbone_conn *c)
{
	uint8_t *rx = c->h->rx;
	size_t have = c->rest.len;
	if (have) {
		memcpy(rx, buffer_head(&c->rest), have);
		buffer_done(&c->rest);
	}
	size_t room = RX_SIZE - have;
	ssize_t n = recv(c->fd, rx + have, room, MSG_DONTWAIT);
	if (n <= 0) {
		bool again = n < 0 && (errno == EAGAIN || errno == EINTR);
		if (!again || keep_rest(c, rx, have) < 0)
			hbone_conn_close(c);
		return false;
	}

	c->received_ms = hbone_now_ms(c->h);
	c->ping_sent = false;
	size_t total = have + (size_t)n;
	ssize_t took = conn_records(c, rx, total);
	relay_flush(c->h);
	if (took < 0)
		return false;
	if (keep_rest(c, rx + took, total - (size_t)took) < 0) {
		conn_fail(c, DROP_NO_MEMORY, "no memory for a record");
		return false;
	}
	return (size_t)n == room && c->state == CONN_OPEN;
}

/* What came right behind the handshake, in the same segment. */
void conn_early(struct hbone_conn *c)
{
	if (c->rest.len == 0)
		return;
	struct buffer early = c->rest;
	c->rest = (struct buffer){ 0 };
	ssize_t took = conn_records(c, buffer_head(&early), early.len);
	relay_flush(c->h);
	if (took >= 0 && keep_rest(c, buffer_head(&early) + took, early.len - (size_t)took) < 0)
		conn_fail(c, DROP_NO_MEMORY, "no memory for a record");
	buffer_done(&early);
}
