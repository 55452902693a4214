/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/http/http2_nv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT(s) ((struct http_string){ s, sizeof(s) - 1 })

static int begin(struct http2_nv *v, const struct http_head *head)
{
	enum { EXTRA = 8 }; /* pseudo-headers, Content-Length, Date, Expect */
	v->count = 0;
	v->nv = v->fixed;
	v->cap = head->field_count + EXTRA;
	if (v->cap <= HTTP2_NV_FIXED)
		return 0;
	v->nv = malloc(v->cap * sizeof(*v->nv));
	return v->nv ? 0 : -ENOMEM;
}

void http2_nv_done(struct http2_nv *v)
{
	if (v->nv != v->fixed)
		free(v->nv);
}

static void add(struct http2_nv *v, struct http_string name, struct http_string value, bool sensitive)
{
	/* nghttp2 does not write there; its type is older than const. */
	v->nv[v->count++] = (nghttp2_nv){
		.name = (uint8_t *)(uintptr_t)name.p,
		.namelen = name.n,
		.value = (uint8_t *)(uintptr_t)value.p,
		.valuelen = value.n,
		.flags = sensitive ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
	};
}

/* Values that no other request has would only push useful ones out of the peer's table. */
static bool unique(enum http_name id)
{
	return id == HTTP_X_REQUEST_ID || id == HTTP_TRACEPARENT || id == HTTP_X_B3_TRACEID || id == HTTP_X_B3_SPANID;
}

/* RFC 9113 8.2.2: what is HTTP/1's own. Users have removed it; sent, it would cost the stream. */
static bool of_http1(const struct http_field *f)
{
	switch (f->id) {
	case HTTP_CONNECTION:
	case HTTP_HOST:
	case HTTP_HTTP2_SETTINGS:
	case HTTP_KEEP_ALIVE:
	case HTTP_PROXY_CONNECTION:
	case HTTP_TRANSFER_ENCODING:
	case HTTP_UPGRADE:
	case HTTP_CONTENT_LENGTH:
		return true;
	case HTTP_TE:
		return !http_is_nocase(f->value, "trailers");
	default:
		return false;
	}
}

static void fields(struct http2_nv *v, const struct http_head *head)
{
	for (size_t i = 0; i < head->field_count; i++) {
		const struct http_field *f = &head->fields[i];
		if (!of_http1(f))
			add(v, f->name, f->value, f->sensitive || unique(f->id));
	}
}

static void content_length(struct http2_nv *v, const struct http_head *head)
{
	if (head->content_length < 0)
		return;
	int n = snprintf(v->length, sizeof(v->length), "%" PRId64, head->content_length);
	add(v, TEXT("content-length"), (struct http_string){ v->length, (uint32_t)n }, false);
}

/* The present time (RFC 9110 5.6.7), made once a second and thread. */
static struct http_string date_now(void)
{
	static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	static _Thread_local char text[64]; /* the compiler does not know that years have four digits */
	static _Thread_local time_t at;
	static _Thread_local int n;
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	if (now.tv_sec != at || n == 0) {
		at = now.tv_sec;
		gmtime_r(&at, &tm);
		n = snprintf(text, sizeof(text), "%s, %02d %s %d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
			     months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	}
	return (struct http_string){ text, (uint32_t)n };
}

int http2_nv_request(struct http2_nv *v, const struct http_head *head, bool tls)
{
	if (begin(v, head) < 0)
		return -ENOMEM;
	bool connect = !head->upgrade && http_is(head->method, "CONNECT");
	add(v, TEXT(":method"), head->upgrade ? TEXT("CONNECT") : head->method, false);
	if (!connect) {
		add(v, TEXT(":scheme"), head->scheme.p ? head->scheme : tls ? TEXT("https") : TEXT("http"), false);
		add(v, TEXT(":path"), head->path.n ? head->path : TEXT("/"), false);
	}
	if (head->authority.p)
		add(v, TEXT(":authority"), head->authority, false);
	if (head->upgrade)
		add(v, TEXT(":protocol"), head->protocol, false);
	if (!connect && !head->upgrade)
		content_length(v, head);
	fields(v, head);
	if (head->expect_continue && !http_get_id(head, HTTP_EXPECT).p)
		add(v, TEXT("expect"), TEXT("100-continue"), false);
	return 0;
}

int http2_nv_response(struct http2_nv *v, const struct http_head *head, uint16_t status)
{
	if (begin(v, head) < 0)
		return -ENOMEM;
	v->status[0] = (char)('0' + status / 100 % 10);
	v->status[1] = (char)('0' + status / 10 % 10);
	v->status[2] = (char)('0' + status % 10);
	add(v, TEXT(":status"), (struct http_string){ v->status, 3 }, false);
	if (status >= 200 && status != 204 && !head->upgrade)
		content_length(v, head);
	fields(v, head);
	if (status >= 200 && !http_get_id(head, HTTP_DATE).p)
		add(v, TEXT("date"), date_now(), false);
	return 0;
}

int http2_nv_trailers(struct http2_nv *v, const struct http_head *trailers)
{
	if (begin(v, trailers) < 0)
		return -ENOMEM;
	fields(v, trailers);
	return 0;
}
