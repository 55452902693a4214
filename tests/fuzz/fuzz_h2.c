/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 CONNECT from a peer, either side, in pieces of any size: never more streams, data or output than allowed.
 * First byte: bit 0 side, bits 1-3 size of the pieces, bit 4 whether preface and SETTINGS are put before. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/helper/buffer.h"
#include "agent/helper/h2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STREAMS = 4096, OUTPUT_MAX = 16 << 20 };

struct side {
	struct h2 *h;
	struct h2_stream *all[STREAMS];
	size_t count;
	uint64_t delivered, consumed;
};

static struct h2_stream *stream_new(void *arg)
{
	struct side *side = arg;
	if (side->count == STREAMS)
		return NULL;
	struct h2_stream *s = calloc(1, sizeof(*s));
	if (s)
		side->all[side->count++] = s;
	return s;
}

static void on_request(struct h2_stream *s, const struct h2_request *request, void *arg)
{
	struct side *side = arg;
	assert(request->problem || *request->authority);
	assert(strlen(request->authority) < H2_AUTHORITY_MAX);
	if (request->problem)
		h2_respond(side->h, s, 400, true);
	else if (s->id % 3 == 0)
		h2_reset(side->h, s, H2_CANCEL);
	else
		h2_respond(side->h, s, 200, false);
}

static void on_response(struct h2_stream *s, int status, void *arg)
{
	struct side *side = arg;
	if (status != 200)
		h2_reset(side->h, s, H2_CANCEL);
}

static void on_data(struct h2_stream *s, const uint8_t *bytes, size_t len, void *arg)
{
	struct side *side = arg;
	uint8_t sum = 0;
	for (size_t i = 0; i < len; i++)
		sum ^= bytes[i]; /* ASan sees a view that is too long */
	side->delivered += len;
	assert(side->delivered - side->consumed <= H2_HELD_MAX + H2_CONNECTION_WINDOW);
	assert(s->recv_window >= 0);
	if (sum & 1) {
		side->consumed += len;
		h2_consumed(side->h, s, len);
	}
}

static void on_end(struct h2_stream *s, void *arg)
{
	struct side *side = arg;
	h2_end(side->h, s);
}

static void on_reset(struct h2_stream *s, uint32_t code, void *arg)
{
	(void)code;
	(void)arg;
	assert(s->id == 0);
}

static void on_window(struct h2_stream *s, void *arg)
{
	struct side *side = arg;
	uint8_t header[H2_FRAME_HEADER];
	size_t credit = s ? h2_credit(side->h, s) : 0;
	if (credit)
		h2_data_header(side->h, s, credit < 100 ? credit : 100, false, header);
}

static void on_code(uint32_t code, void *arg)
{
	(void)code;
	(void)arg;
}

static void on_nothing(void *arg)
{
	(void)arg;
}

static const struct h2_events events = { stream_new, on_request, on_response, on_data,	  on_end,
					 on_reset,   on_window,	 on_code,     on_nothing, on_nothing };

static int feed(struct side *side, const uint8_t *bytes, size_t len, size_t piece)
{
	int rc = 0;
	while (len && rc == 0) {
		size_t n = piece && piece < len ? piece : len;
		AUTO(mem_freep) uint8_t *exact = malloc(n);
		if (!exact)
			return -1;
		memcpy(exact, bytes, n);
		rc = h2_input(side->h, exact, n, 1);
		bytes += n;
		len -= n;
		assert(h2_stream_count(side->h) <= H2_STREAMS_MAX);
		assert(h2_output(side->h)->len < OUTPUT_MAX);
	}
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	if (size == 0)
		return 0;
	bool server = data[0] & 1;
	size_t piece = data[0] >> 1 & 7;
	struct side side = { 0 };
	if (h2_new(server, &events, &side, &side.h) < 0)
		return 0;
	for (int i = 0; i < 3 && !server; i++) {
		struct h2_connect request = { .authority = "10.0.0.1:80" };
		struct h2_stream *s = stream_new(&side);
		if (s)
			h2_open(side.h, s, &request);
	}
	int rc = 0;
	if (data[0] & 16)
		rc = feed(&side, start + (server ? 0 : 24), sizeof(start) - 1 - (server ? 0 : 24), 0);
	if (rc == 0)
		feed(&side, data + 1, size - 1, piece);
	h2_free(side.h);
	for (size_t i = 0; i < side.count; i++)
		free(side.all[i]);
	return 0;
}
