/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/h2_headers.h"

#include "agent/helper/buffer.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Entries of the static table (RFC 7541, appendix A). */
enum { STATIC_AUTHORITY = 1, STATIC_METHOD = 2, STATIC_STATUS_200 = 8, STATIC_STATUS_400 = 12 };
enum { INDEXED = 0x80, PER_FIELD = 32 };

struct h2_decoder {
	nghttp2_hd_inflater *inflater;
};

/* A string literal: length with a 7-bit prefix, no Huffman coding. */
static int encode_string(const char *text, struct buffer *out)
{
	size_t len = strlen(text), rest = len;
	uint8_t prefix[8];
	size_t n = 0;
	prefix[n++] = rest < 127 ? (uint8_t)rest : 127;
	if (rest >= 127) {
		for (rest -= 127; rest >= 128; rest >>= 7)
			prefix[n++] = (uint8_t)(rest | 0x80);
		prefix[n++] = (uint8_t)rest;
	}
	int rc = buffer_append(out, prefix, n);
	return rc < 0 ? rc : buffer_append(out, text, len);
}

/* A literal without indexing; the name is one of the static table, or text. */
static int encode_field(uint8_t name_index, const char *name, const char *value, struct buffer *out)
{
	if (!value)
		return 0;
	int rc = buffer_append(out, &name_index, 1);
	if (rc == 0 && name)
		rc = encode_string(name, out);
	return rc < 0 ? rc : encode_string(value, out);
}

int h2_encode_connect(const struct h2_connect *c, struct buffer *out)
{
	int rc = encode_field(STATIC_METHOD, NULL, "CONNECT", out);
	if (rc == 0)
		rc = encode_field(STATIC_AUTHORITY, NULL, c->authority, out);
	if (rc == 0)
		rc = encode_field(0, "baggage", c->baggage, out);
	if (rc == 0)
		rc = encode_field(0, "forwarded", c->forwarded, out);
	if (rc == 0)
		rc = encode_field(0, "traceparent", c->traceparent, out);
	return rc;
}

int h2_encode_status(int status, struct buffer *out)
{
	const uint8_t indexed = status == 200 ? INDEXED | STATIC_STATUS_200 : INDEXED | STATIC_STATUS_400;
	if (status == 200 || status == 400)
		return buffer_append(out, &indexed, 1);
	const char text[] = { (char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10),
			      (char)('0' + status % 10), '\0' };
	return encode_field(STATIC_STATUS_200, NULL, text, out);
}

void h2_decoder_free(struct h2_decoder *d)
{
	if (!d)
		return;

	nghttp2_hd_inflate_del(d->inflater);
	free(d);
}

static int decoder_need(struct h2_decoder **d)
{
	if (*d)
		return 0;
	struct h2_decoder *made = calloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	if (nghttp2_hd_inflate_new(&made->inflater) != 0) {
		free(made);
		return -ENOMEM;
	}
	*d = made;
	return 0;
}

typedef void (*field_fn)(const nghttp2_nv *nv, void *arg);

static int decode_block(struct h2_decoder **d, const uint8_t *block, size_t len, field_fn fn, void *arg)
{
	int rc = decoder_need(d);
	if (rc < 0)
		return rc;

	size_t total = 0;
	for (;;) {
		nghttp2_nv nv;
		int flags = 0;
		ssize_t n = nghttp2_hd_inflate_hd2((*d)->inflater, &nv, &flags, block, len, 1);
		if (n < 0)
			return (int)n == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EBADMSG;
		block += n;
		len -= (size_t)n;
		if (flags & NGHTTP2_HD_INFLATE_EMIT) {
			total += nv.namelen + nv.valuelen + PER_FIELD;
			if (total > H2_HEADERS_MAX)
				return -E2BIG;
			fn(&nv, arg);
		}
		if (flags & NGHTTP2_HD_INFLATE_FINAL)
			break;
		if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && len == 0)
			return -EBADMSG;
	}
	nghttp2_hd_inflate_end_headers((*d)->inflater);
	return 0;
}

static bool is(const nghttp2_nv *nv, const char *name)
{
	return nv->namelen == strlen(name) && memcmp(nv->name, name, nv->namelen) == 0;
}

struct request_fields {
	struct h2_request *out;
	bool method, authority, regular;
};

/* RFC 9113, 8.2.2: they belong to one HTTP/1 hop; `te` could only be "trailers", which a CONNECT does not need. */
static bool is_connection_field(const nghttp2_nv *nv)
{
	return is(nv, "connection") || is(nv, "transfer-encoding") || is(nv, "upgrade") || is(nv, "keep-alive") ||
	       is(nv, "proxy-connection");
}

static const char *pseudo_field(struct request_fields *f, const nghttp2_nv *nv)
{
	if (f->regular)
		return "a pseudo-header after other headers";
	if (is(nv, ":method")) {
		if (f->method)
			return "two :method";
		f->method = true;
		return nv->valuelen == 7 && memcmp(nv->value, "CONNECT", 7) == 0 ? NULL : "not a CONNECT";
	}
	if (!is(nv, ":authority"))
		return "a pseudo-header that CONNECT must not have";
	if (f->authority)
		return "two :authority";
	f->authority = true;
	if (nv->valuelen == 0 || nv->valuelen >= H2_AUTHORITY_MAX)
		return "an :authority of impossible length";
	for (size_t i = 0; i < nv->valuelen; i++)
		if (nv->value[i] <= 0x20 || nv->value[i] >= 0x7f)
			return "an :authority that is not text";
	memcpy(f->out->authority, nv->value, nv->valuelen);
	f->out->authority[nv->valuelen] = '\0';
	return NULL;
}

static void on_request_field(const nghttp2_nv *nv, void *arg)
{
	struct request_fields *f = arg;
	const char *problem = NULL;
	if (nv->namelen == 0 || !nghttp2_check_header_value(nv->value, nv->valuelen))
		problem = "a header that is not text";
	else if (nv->name[0] == ':')
		problem = pseudo_field(f, nv);
	else if (!nghttp2_check_header_name(nv->name, nv->namelen))
		problem = "a header with an invalid name";
	else if (is_connection_field(nv))
		problem = "a header of an HTTP/1 connection";
	if (nv->namelen && nv->name[0] != ':')
		f->regular = true;
	if (problem && !f->out->problem)
		f->out->problem = problem;
}

int h2_decode_request(struct h2_decoder **d, const uint8_t *block, size_t len, struct h2_request *out)
{
	struct request_fields f = { .out = out };
	*out = (struct h2_request){ 0 };
	int rc = decode_block(d, block, len, on_request_field, &f);
	if (rc == 0 && !out->problem && !f.method)
		out->problem = "no :method";
	if (rc == 0 && !out->problem && !f.authority)
		out->problem = "no :authority";
	return rc;
}

static void on_response_field(const nghttp2_nv *nv, void *arg)
{
	int *status = arg;
	if (!is(nv, ":status"))
		return;
	int value = 0;
	for (size_t i = 0; i < nv->valuelen && i < 4; i++)
		value = nv->value[i] >= '0' && nv->value[i] <= '9' ? value * 10 + nv->value[i] - '0' : -10000;
	*status = nv->valuelen == 3 && value >= 100 && *status == 0 ? value : -1;
}

int h2_decode_response(struct h2_decoder **d, const uint8_t *block, size_t len, int *status)
{
	*status = 0;
	if (len == 1 && block[0] == (INDEXED | STATIC_STATUS_200)) {
		*status = 200; /* what our own side sends: no table needed */
		return 0;
	}
	int rc = decode_block(d, block, len, on_response_field, status);
	if (*status < 0)
		*status = 0;
	return rc;
}
