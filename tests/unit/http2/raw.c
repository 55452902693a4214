/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http2/side.h"

#include <assert.h>
#include <string.h>

static void put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void raw_preface(struct side *s)
{
	if (s->f->out_len == 0 || s->f->out[0] != 'P') /* a client says its own */
		fake_push_text(s->f, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	raw_frame(s, F_SETTINGS, 0, 0, NULL, 0);
}

void raw_frame(struct side *s, uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t len)
{
	uint8_t frame[9 + 70000];
	assert(len <= sizeof(frame) - 9);
	put_u32(frame, (uint32_t)len << 8);
	frame[3] = type;
	frame[4] = flags;
	put_u32(frame + 5, id);
	if (len)
		memcpy(frame + 9, payload, len);
	fake_push(s->f, frame, 9 + len);
	fake_tick(s->loop, 0);
}

static uint8_t *put_int(uint8_t *p, size_t n, uint8_t prefix)
{
	uint8_t most = (uint8_t)((1u << prefix) - 1);
	if (n < most) {
		*p++ = (uint8_t)n;
		return p;
	}
	*p++ = most;
	for (n -= most; n >= 128; n /= 128)
		*p++ = (uint8_t)(n % 128 + 128);
	*p++ = (uint8_t)n;
	return p;
}

size_t raw_block(uint8_t *out, size_t size, const char *const *fields)
{
	uint8_t *p = out;
	for (; *fields; fields += 2) {
		assert((size_t)(p - out) + strlen(fields[0]) + strlen(fields[1]) + 8 < size);
		*p++ = 0;
		for (int i = 0; i < 2; i++) {
			size_t n = strlen(fields[i]);
			p = put_int(p, n, 7);
			memcpy(p, fields[i], n);
			p += n;
		}
	}
	return (size_t)(p - out);
}

void raw_headers(struct side *s, uint8_t flags, uint32_t id, const char *const *fields)
{
	uint8_t block[16384];
	size_t len = raw_block(block, sizeof(block), fields);
	raw_frame(s, F_HEADERS, flags, id, block, len);
}

void raw_get(struct side *s, uint32_t id, bool end)
{
	raw_headers(s, (uint8_t)(END_HEADERS | (end ? END_STREAM : 0)), id,
		    (const char *const[]){ ":method", end ? "GET" : "POST", ":scheme", "http", ":path", "/",
					   ":authority", "a", NULL });
}

void raw_u32(struct side *s, uint8_t type, uint32_t id, uint32_t value)
{
	uint8_t p[4];
	put_u32(p, value);
	raw_frame(s, type, 0, id, p, 4);
}

/* The next frame that came back, from *at. */
static const uint8_t *next(const struct side *s, size_t *at)
{
	const uint8_t *out = (const uint8_t *)s->f->out;
	if (*at == 0 && s->f->out_len >= 24 && out[0] == 'P')
		*at = 24;
	if (s->f->out_len - *at < 9)
		return NULL;
	const uint8_t *frame = out + *at;
	*at += 9 + (get_u32(frame) >> 8);
	assert(*at <= s->f->out_len || s->f->hold);
	return frame;
}

static long find_code(const struct side *s, uint8_t type, uint32_t id, size_t offset)
{
	size_t at = 0;
	const uint8_t *frame;
	long code = -1;
	while ((frame = next(s, &at)))
		if (frame[3] == type && get_u32(frame + 5) == id)
			code = get_u32(frame + 9 + offset);
	return code;
}

long raw_rst(const struct side *s, uint32_t id)
{
	return find_code(s, F_RST, id, 0);
}

long raw_goaway(const struct side *s)
{
	return find_code(s, F_GOAWAY, 0, 4);
}

size_t raw_count(const struct side *s, uint8_t type, uint8_t flags)
{
	size_t at = 0, n = 0;
	const uint8_t *frame;
	while ((frame = next(s, &at)))
		n += frame[3] == type && (frame[4] & flags) == flags;
	return n;
}

size_t raw_data(const struct side *s, uint32_t id, bool *end)
{
	size_t at = 0, n = 0;
	const uint8_t *frame;
	*end = false;
	while ((frame = next(s, &at))) {
		if (frame[3] == F_DATA && get_u32(frame + 5) == id)
			n += get_u32(frame) >> 8;
		*end |= frame[3] <= F_HEADERS && get_u32(frame + 5) == id && frame[4] & END_STREAM;
	}
	return n;
}
