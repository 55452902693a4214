/* SPDX-License-Identifier: Apache-2.0 */
/* Heads that come. nghttp2 has checked what RFC 9113 8.2 and 8.3 say of fields and pseudo-headers; here they become an
 * http_head within the limits, and what is left to check is checked. */
#include "agent/helper/http/http1_parse.h"
#include "agent/helper/http/http2_internal.h"
#include "agent/helper/http/http_chars.h"

#include <string.h>
#include <strings.h>

enum { OVERHEAD = 32 }; /* of a field in a header list, RFC 9113 10.5.1 */

/* A list that goes on far beyond the limit is not read to its end: HPACK makes 64 MiB of one frame. */
enum { LIST_FACTOR = 16 };

static struct http_string text_of(struct http_head *h, const struct http2_field *f)
{
	return http_head_text(h, f->value, f->value_len);
}

/* nghttp2 lets no other through. */
static struct http_string *pseudo_of(struct http_head *h, const char *name)
{
	switch (name[1]) {
	case 'm':
		return &h->method;
	case 'a':
		return &h->authority;
	case 's':
		return &h->scheme;
	default:
		return name[2] == 'a' ? &h->path : &h->protocol;
	}
}

static int pseudo_add(struct http_head *h, const struct http2_field *f)
{
	if (f->name[1] == 's' && f->name[2] == 't') { /* :status, three digits */
		for (size_t i = 0; i < f->value_len && i < 3; i++)
			h->status = (uint16_t)(h->status * 10 + (f->value[i] - '0'));
		return 0;
	}
	struct http_string *to = pseudo_of(h, f->name);
	*to = text_of(h, f);
	h->text_bytes += f->value_len;
	return to->p ? 0 : -1;
}

static int content_length_set(struct http_head *h, const struct http2_field *f)
{
	int64_t n = 0;
	for (size_t i = 0; i < f->value_len; i++) {
		int digit = f->value[i] - '0';
		if (digit < 0 || digit > 9 || n > (INT64_MAX - digit) / 10)
			return -1;
		n = n * 10 + digit;
	}
	h->content_length = n;
	return 0;
}

static int field_add(struct http_head *h, const struct http2_field *f)
{
	enum http_name id = http_name_id(f->name, f->name_len);
	if (id == HTTP_CONTENT_LENGTH)
		return content_length_set(h, f);
	struct http_string value = text_of(h, f);
	if (id == HTTP_HOST) { /* :authority goes first, and http2_head_request() compares */
		h->text_bytes += value.n;
		return value.p && (h->authority.p || (h->authority = value, true)) ? 0 : -1;
	}
	struct http_string name = { f->name, (uint32_t)f->name_len };
	if (id)
		name = http_name_text(id);
	else if (!f->name_static)
		name = http_head_text(h, f->name, f->name_len);
	if (!value.p || !name.p || http_add_ref(h, name, value) < 0)
		return -1;
	h->fields[h->field_count - 1].sensitive = f->sensitive;
	return 0;
}

int http2_head_begin(struct http2_stream *s)
{
	http_head_free(s->head);
	s->head = http_head_new();
	s->list_bytes = s->list_count = 0;
	s->too_large = false;
	if (!s->head)
		return -1;
	s->head->version = HTTP_2;
	return 0;
}

int http2_head_add(struct http2_stream *s, const struct http2_field *f)
{
	const struct http_limits *limits = &http2_of(s)->limits;
	size_t more = f->name_len + f->value_len + OVERHEAD;
	uint32_t most = limits->head_bytes + limits->field_count * OVERHEAD;
	if (s->list_bytes > (uint64_t)most * LIST_FACTOR)
		return -1;
	s->list_bytes += (uint32_t)more;
	s->list_count += f->name[0] != ':';
	if (s->list_bytes > most || s->list_count > limits->field_count)
		s->too_large = true;
	if (s->too_large)
		return 0;
	if (f->name[0] == ':')
		return pseudo_add(s->head, f);
	/* A second Host, or one that differs: who may call what is decided by it. */
	if (f->name_len == 4 && !memcmp(f->name, "host", 4) && s->head->authority.p &&
	    (s->head->authority.n != f->value_len || strncasecmp(s->head->authority.p, f->value, f->value_len) != 0))
		s->malformed = true;
	return field_add(s->head, f);
}

/* Crumbs of Cookie become one field, RFC 9113 8.2.3. */
static bool cookies_join(struct http_head *h)
{
	size_t count = 0, first = 0;
	for (size_t i = h->field_count; i-- > 0;) {
		if (h->fields[i].id != HTTP_COOKIE)
			continue;
		count++;
		first = i;
	}
	if (count < 2)
		return true;
	bool sensitive = h->fields[first].sensitive;
	struct http_string all = http_get_joined(h, "cookie");
	if (!all.p)
		return false;
	size_t kept = first + 1;
	for (size_t i = kept; i < h->field_count; i++) {
		if (h->fields[i].id == HTTP_COOKIE)
			sensitive |= h->fields[i].sensitive;
		else
			h->fields[kept++] = h->fields[i];
	}
	h->field_count = kept;
	h->fields[first].value = all;
	h->fields[first].sensitive = sensitive;
	h->joined = NULL;
	return true;
}

/* The same rules as for HTTP/1, so that what is let in does not depend on the version. */
static bool target_ok(const struct http2_stream *s)
{
	const struct http_head *h = s->head;
	if (!h->authority.p || !http1_authority_valid(h->authority.p, h->authority.n, s->is_connect))
		return false;
	if (s->is_connect)
		return true;
	return h->path.n && http_visible(h->path.p, h->path.n) && !memchr(h->path.p, '#', h->path.n) &&
	       (http_is_nocase(h->scheme, "http") || http_is_nocase(h->scheme, "https"));
}

static void expect_take(struct http2_stream *s)
{
	struct http_head *h = s->head;
	if (!http_is_nocase(http_get_id(h, HTTP_EXPECT), "100-continue"))
		return;
	http_remove_id(h, HTTP_EXPECT);
	h->expect_continue = !s->remote_end;
}

bool http2_head_request(struct http2_stream *s)
{
	struct http_head *h = s->head;
	if (s->malformed || !h->method.p || !http_name_valid(h->method.p, h->method.n) || !cookies_join(h))
		return false;
	s->is_connect = http_is(h->method, "CONNECT") && !h->protocol.p;
	s->is_head = http_is(h->method, "HEAD");
	if (!target_ok(s))
		return false;
	/* One protocol by its name, as with Upgrade; within h2c there would be requests that nobody judges. */
	if (h->protocol.p && (!http_name_valid(h->protocol.p, h->protocol.n) || http_is_nocase(h->protocol, "h2c")))
		return false;
	if (h->protocol.p) {
		/* RFC 8441; the same as Upgrade to those above, so that it can be carried over either version. */
		s->is_extended = true;
		h->upgrade = true;
		h->content_length = -1;
		h->method = (struct http_string){ "GET", 3 };
	}
	expect_take(s);
	s->expected = s->is_connect ? -1 : h->content_length;
	return true;
}

bool http2_head_response(struct http2_stream *s)
{
	struct http_head *h = s->head;
	if (h->status < 100 || h->status > 599 || h->status == 101)
		return false;
	if (h->status >= 200) {
		bool ok = h->status < 300;
		if (s->is_extended && ok) {
			h->upgrade = true;
			h->status = 101;
		}
		if (ok && (s->is_extended || s->is_connect))
			h->content_length = -1;
		s->expected = h->content_length;
		if (s->is_head || h->status == 204 || h->status == 304)
			s->expected = 0;
	}
	return true;
}
