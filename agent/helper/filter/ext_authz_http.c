/* SPDX-License-Identifier: Apache-2.0 */
/* envoyExtAuthzHttp: the request's head goes to the service (a few fields, and those configured); 200 allows. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/mem.h"
#include "agent/helper/filter/ext_authz_internal.h"
#include "agent/helper/filter/fields.h"

static bool pattern_matches(const char *pattern, struct http_string name)
{
	size_t n = strlen(pattern);

	if (n && pattern[n - 1] == '*')
		return name.n >= n - 1 && strncasecmp(pattern, name.p, n - 1) == 0;
	if (n && pattern[0] == '*')
		return name.n >= n - 1 && strncasecmp(pattern + 1, name.p + name.n - (n - 1), n - 1) == 0;
	return name.n == n && strncasecmp(pattern, name.p, n) == 0;
}

static bool is_listed(char *const *patterns, size_t count, struct http_string name)
{
	for (size_t i = 0; i < count; i++)
		if (pattern_matches(patterns[i], name))
			return true;
	return false;
}

/* --- asking */

static struct http_string copy(struct http_head *h, struct http_string s)
{
	return s.p ? http_head_text(h, s.p, s.n) : (struct http_string){ 0 };
}

static int fields_copy(struct http_head *to, const struct http_head *from, const struct ext_authz *p)
{
	for (size_t i = 0; i < from->field_count; i++) {
		const struct http_field *f = &from->fields[i];
		if (f->id != HTTP_AUTHORIZATION &&
		    !is_listed(p->include_request_headers, p->include_request_header_count, f->name))
			continue;
		if (!field_ok(f->name, f->value) || http_is(f->name, EXT_PARTIAL_BODY))
			continue;
		struct http_string name = copy(to, f->name), value = copy(to, f->value);
		if (!name.p || !value.p || http_add_ref(to, name, value) < 0)
			return -1;
	}
	for (size_t i = 0; i < p->additional.set_count; i++)
		if (http_set(to, p->additional.set[i].name, p->additional.set[i].value) < 0)
			return -1;
	return 0;
}

struct http_head *ext_authz_http_request(struct exchange *x, const struct ext_authz *p, const struct ext_body *body)
{
	const struct http_head *from = x->head;
	struct http_head *h = http_head_new();
	if (!h)
		return NULL;

	h->version = HTTP_1_1;
	h->method = copy(h, from->method);
	h->scheme = http_head_text(h, "http", 4);
	h->authority = from->authority.n ? copy(h, from->authority) : /* HTTP/1.0 has none */
					   http_head_text(h, ext_authz_host(p), strlen(ext_authz_host(p)));
	h->path = http_head_textf(h, "%s%.*s", p->path_prefix ? p->path_prefix : "", (int)from->path.n, from->path.p);
	h->content_length = (int64_t)body->n;
	int rc = h->method.p && h->scheme.p && h->path.p ? fields_copy(h, from, p) : -1;
	if (rc == 0 && body->p)
		rc = http_set(h, EXT_PARTIAL_BODY, body->whole ? "false" : "true");
	if (rc < 0) {
		http_head_free(h);
		return NULL;
	}
	return h;
}

/* --- the answer */

static int extra_add(struct http_head **to, struct http_string name, struct http_string value)
{
	if (!*to)
		*to = http_head_new();
	if (!*to)
		return -1;
	name = copy(*to, name);
	value = copy(*to, value);
	return name.p && value.p ? http_add_ref(*to, name, value) : -1;
}

/* The first of a name replaces what the client sent; further ones are added. */
static int upstream_set(struct exchange *x, const struct http_head *response, size_t i)
{
	const struct http_field *f = &response->fields[i];
	bool first = true;

	for (size_t k = 0; k < i && first; k++)
		first = response->fields[k].name.n != f->name.n ||
			memcmp(response->fields[k].name.p, f->name.p, f->name.n) != 0;
	struct http_string name = copy(x->head, f->name), value = copy(x->head, f->value);
	if (!name.p || !value.p)
		return -1;
	if (first) {
		char text[256];
		if (f->name.n >= sizeof(text))
			return -1;
		memcpy(text, f->name.p, f->name.n);
		text[f->name.n] = '\0';
		http_remove(x->head, text);
	}
	return http_add_ref(x->head, name, value);
}

static enum ext_outcome allow(struct exchange *x, const struct ext_authz *p, const struct http_head *response)
{
	for (size_t i = 0; i < response->field_count; i++) {
		const struct http_field *f = &response->fields[i];
		if (!field_ok(f->name, f->value))
			continue;
		if (is_listed(p->upstream_headers, p->upstream_header_count, f->name) &&
		    upstream_set(x, response, i) < 0)
			return EXT_ERROR;
		if (is_listed(p->downstream_on_allow, p->downstream_on_allow_count, f->name) &&
		    extra_add(&x->response_extra, f->name, f->value) < 0)
			return EXT_ERROR;
	}
	return EXT_ALLOW;
}

/* Without a list all fields go back; with one, those that a login needs besides. */
static bool is_returned(const struct ext_authz *p, const struct http_field *f)
{
	if (!p->downstream_on_deny_count)
		return f->id != HTTP_DATE && f->id != HTTP_SERVER;
	return is_listed(p->downstream_on_deny, p->downstream_on_deny_count, f->name) || f->id == HTTP_LOCATION ||
	       http_is(f->name, "www-authenticate");
}

enum ext_outcome ext_authz_http_response(struct exchange *x, const struct ext_authz *p,
					 const struct http_head *response, const uint8_t *body, size_t len,
					 struct ext_denial *denial)
{
	if (response->status == 200)
		return allow(x, p, response);
	if (response->status >= 500 || response->status < 200)
		return EXT_ERROR;

	denial->status = response->status;
	ext_denial_body(denial, body, len);
	for (size_t i = 0; i < response->field_count; i++) {
		const struct http_field *f = &response->fields[i];
		if (field_ok(f->name, f->value) && is_returned(p, f) &&
		    extra_add(&denial->extra, f->name, f->value) < 0)
			break;
	}
	return EXT_DENY;
}
