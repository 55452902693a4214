/* SPDX-License-Identifier: Apache-2.0 */
/* What consistent hashing looks at. The hash is the same on every node, so that all callers agree. */
#include "agent/helper/balance/internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/base/hash.h"
#include "agent/base/str.h"
#include "agent/model/http.h"

static bool hash_header(const struct http_head *head, const char *name, uint64_t *hash)
{
	size_t len = strlen(name);
	bool found = false;
	const struct http_string *pseudo = !strcasecmp(name, ":authority") || !strcasecmp(name, "host") ?
						   &head->authority :
					   !strcasecmp(name, ":path")	? &head->path :
					   !strcasecmp(name, ":method") ? &head->method :
									  NULL;
	if (pseudo) {
		*hash = hash64(HASH64_INIT, pseudo->p, pseudo->p ? pseudo->n : 0);
		return pseudo->p;
	}
	*hash = HASH64_INIT;
	for (size_t i = 0; i < head->field_count; i++) {
		const struct http_field *f = &head->fields[i];
		if (f->name.n != len || strncasecmp(f->name.p, name, len))
			continue;
		*hash = hash64(*hash, f->value.p, f->value.n);
		found = true;
	}
	return found;
}

/* The value of a cookie in "a=1; name=value"; quotes are no part of it. */
static bool cookie_find(struct http_string field, const char *name, struct http_string *value)
{
	const char *p = field.p, *end = field.p + field.n;
	size_t len = strlen(name);
	while (p < end) {
		while (p < end && (*p == ' ' || *p == '\t' || *p == ';'))
			p++;
		const char *stop = memchr(p, ';', (size_t)(end - p));
		if (!stop)
			stop = end;
		if ((size_t)(stop - p) > len && !memcmp(p, name, len) && p[len] == '=') {
			p += len + 1;
			while (stop > p && (stop[-1] == ' ' || stop[-1] == '\t'))
				stop--;
			if (stop - p >= 2 && *p == '"' && stop[-1] == '"') {
				p++;
				stop--;
			}
			*value = (struct http_string){ p, (uint32_t)(stop - p) };
			return true;
		}
		p = stop;
	}
	return false;
}

static void cookie_text(const struct http_cluster *c, uint64_t value, char *out, size_t size)
{
	char age[32] = "";
	if (c->cookie_ttl_s)
		snprintf(age, sizeof(age), "; Max-Age=%u", c->cookie_ttl_s);
	const char *path = c->cookie_path ? c->cookie_path : "";
	int n = snprintf(out, size, "%s=\"%016llx\"%s%s%s%s; HttpOnly", c->hash_key, (unsigned long long)value, age,
			 *path ? "; Path=" : "", path, c->cookie_attributes ? c->cookie_attributes : "");
	if (n < 0 || (size_t)n >= size)
		out[0] = 0; /* half a cookie would be another one */
}

static bool hash_cookie(const struct http_cluster *c, const struct http_head *head, uint64_t *random, uint64_t *hash,
			char *cookie, size_t cookie_size)
{
	struct http_string value;
	for (size_t i = 0; head && i < head->field_count; i++) {
		const struct http_field *f = &head->fields[i];
		if (f->id != HTTP_COOKIE || !cookie_find(f->value, c->hash_key, &value) || !value.n)
			continue;
		*hash = hash64(HASH64_INIT, value.p, value.n);
		return true;
	}
	if (!c->cookie_make)
		return false;
	uint64_t made = balance_random(random);
	char text[17];
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)made);
	cookie_text(c, made, cookie, cookie_size);
	*hash = hash64(HASH64_INIT, text, 16); /* as of the cookie that will come back */
	return *cookie;
}

static bool hash_query(const struct http_head *head, const char *name, uint64_t *hash)
{
	char buf[1024];
	struct http_view value;
	const char *mark = head->path.p ? memchr(head->path.p, '?', head->path.n) : NULL;
	if (!mark)
		return false;
	struct http_view query = { mark + 1, (size_t)(head->path.p + head->path.n - mark - 1) };
	if (!http_query_get(query, name, buf, sizeof(buf), &value))
		return false;
	*hash = hash64(HASH64_INIT, value.p, value.n);
	return true;
}

bool hash_input(const struct http_cluster *c, const struct upstream_query *q, uint64_t *random, uint64_t *hash,
		char *cookie, size_t cookie_size)
{
	bool found = false;

	cookie[0] = 0;
	switch (c->hash) {
	case HASH_NONE:
		break;
	case HASH_HEADER:
		found = q->head && c->hash_key && hash_header(q->head, c->hash_key, hash);
		break;
	case HASH_COOKIE:
		found = c->hash_key && hash_cookie(c, q->head, random, hash, cookie, cookie_size);
		break;
	case HASH_SOURCE_IP:
		*hash = hash64(HASH64_INIT, q->source.addr.b, sizeof(q->source.addr.b));
		found = !addr_is_zero(&q->source.addr);
		break;
	case HASH_QUERY:
		found = q->head && c->hash_key && hash_query(q->head, c->hash_key, hash);
		break;
	}
	*hash = found ? balance_mix(*hash) : 0;
	return found;
}
