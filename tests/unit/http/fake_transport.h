/* SPDX-License-Identifier: Apache-2.0 */
/* A transport whose other end is the test: it pushes bytes in any pieces, and sees what was written. Keeps what
 * on_data() does not take, as real ones do. Each delivery is a block of its own, so that a sanitizer sees reading
 * past it. */
#pragma once

#include "agent/helper/transport.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake_transport {
	struct transport t;
	/* what the codec did */
	char *out; /* all bytes written so far, NUL-terminated */
	size_t out_len, out_cap;
	bool ended, closed, aborted;
	unsigned int writes, flushes;
	/* Bytes that the "kernel" has not taken: with `hold` they stay until fake_drain(), up to `limit`. */
	bool hold;
	size_t limit, queued;
	bool cut; /* a write was cut short: on_room is owed */
	/* what the codec did not take yet */
	uint8_t *kept;
	size_t kept_len;
	bool end_kept, end_told, delivering;
	uint64_t delivered; /* bytes that on_data() took */
};

struct fake_transport *fake_transport_new(void);
/* The test's own: the codec must have closed it. */
void fake_transport_free(struct fake_transport *f);
/* Bytes from the peer; kept while the codec takes none. */
void fake_push(struct fake_transport *f, const void *bytes, size_t len);
void fake_push_text(struct fake_transport *f, const char *text);
/* In pieces of `piece` bytes (0: all at once), or of random sizes from `seed`. */
void fake_push_pieces(struct fake_transport *f, const void *bytes, size_t len, size_t piece);
void fake_push_random(struct fake_transport *f, const void *bytes, size_t len, unsigned int seed);
void fake_push_end(struct fake_transport *f); /* the peer sends no more */
void fake_break(struct fake_transport *f, int error);
void fake_drain(struct fake_transport *f);  /* the queue becomes empty; on_room if it is owed */
void fake_forget(struct fake_transport *f); /* what was written so far */
/* Runs the loop once: what was deferred to the end of the tick happens. For `ms` at least, when it is not 0. */
struct loop;
void fake_tick(struct loop *loop, unsigned int ms);
