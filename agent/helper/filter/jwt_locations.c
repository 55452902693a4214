/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/filter/jwt_locations.h"

#include <errno.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/helper/route/exchange.h"

/* Istio's, of a rule that names none. */
static const struct jwt_location bearer = { (char *)"authorization", (char *)"Bearer " };
static const struct jwt_location access_token = { (char *)"access_token", NULL };

static int candidate_add(struct jwt_candidate *out, size_t *count, const struct jwt_candidate *c)
{
	if (!c->token.p)
		return 0;
	if (*count == JWT_CANDIDATES_MAX)
		return -E2BIG;
	out[(*count)++] = *c;
	return 0;
}

static struct http_string header_token(struct exchange *x, const struct jwt_location *at)
{
	struct http_string v = http_get_joined(x->head, at->name);
	size_t n = at->prefix ? strlen(at->prefix) : 0;

	if (!v.p || v.n < n || (n && memcmp(v.p, at->prefix, n) != 0))
		return (struct http_string){ 0 };
	v.p += n;
	v.n -= (uint32_t)n;
	while (v.n && *v.p == ' ') {
		v.p++;
		v.n--;
	}
	return v;
}

/* The piece "name=value" of a list. */
struct piece {
	const char *p;
	size_t n, value_at; /* value_at: past the "=" */
};

static bool piece_next(const char **at, const char *end, char separator, struct piece *out)
{
	while (separator == ';' && *at < end && **at == ' ')
		(*at)++;
	if (*at >= end)
		return false;
	const char *stop = memchr(*at, separator, (size_t)(end - *at));
	const char *equals;

	out->p = *at;
	out->n = (size_t)((stop ? stop : end) - *at);
	equals = memchr(*at, '=', out->n);
	out->value_at = equals ? (size_t)(equals - *at) + 1 : out->n;
	*at = stop ? stop + 1 : end;
	return true;
}

static bool piece_is(const struct piece *piece, const char *name)
{
	size_t n = strlen(name);

	return piece->value_at == n + 1 && memcmp(piece->p, name, n) == 0;
}

/* The first of that name. A second one is no token of ours, and the first's removal takes both away. */
static struct http_string list_token(struct http_string list, char separator, const char *name)
{
	const char *at = list.p, *end = at + list.n;
	struct piece piece;

	while (list.p && piece_next(&at, end, separator, &piece))
		if (piece_is(&piece, name))
			return (struct http_string){ piece.p + piece.value_at, (uint32_t)(piece.n - piece.value_at) };
	return (struct http_string){ 0 };
}

int jwt_candidates_find(struct exchange *x, size_t rule, struct jwt_candidate out[JWT_CANDIDATES_MAX], size_t *count)
{
	const struct jwt_rule *r = &x->filters->jwt[rule];
	bool none = !r->header_count && !r->param_count && !r->cookie_count;
	const struct jwt_location *headers = none ? &bearer : r->headers, *params = none ? &access_token : r->params;
	size_t header_count = none ? 1 : r->header_count, param_count = none ? 1 : r->param_count;
	struct jwt_candidate c = { .rule = rule, .place = JWT_HEADER };
	int rc = 0;

	for (size_t i = 0; i < header_count && rc == 0; i++) {
		c.at = &headers[i];
		c.token = header_token(x, c.at);
		rc = candidate_add(out, count, &c);
	}
	c.place = JWT_PARAM;
	for (size_t i = 0; i < param_count && rc == 0; i++) {
		c.at = &params[i];
		c.token = list_token(x->query, '&', c.at->name);
		rc = candidate_add(out, count, &c);
	}
	c.place = JWT_COOKIE;
	for (size_t i = 0; i < r->cookie_count && rc == 0; i++) {
		c.at = &r->cookies[i];
		c.token = list_token(http_get_joined(x->head, "cookie"), ';', c.at->name);
		rc = candidate_add(out, count, &c);
	}
	return rc;
}

/* --- removing */

/* The list without pieces of that name, in new text of the head. p NULL: no memory. */
static struct http_string list_without(struct exchange *x, struct http_string list, char separator, const char *name)
{
	const char *at = list.p, *end = at + list.n;
	char *out = http_head_room(x->head, 2 * (size_t)list.n + 1);
	struct piece piece;
	size_t n = 0;

	if (!out)
		return (struct http_string){ 0 };
	while (piece_next(&at, end, separator, &piece)) {
		if (piece_is(&piece, name))
			continue;
		if (n) {
			out[n++] = separator;
			if (separator == ';')
				out[n++] = ' ';
		}
		memcpy(out + n, piece.p, piece.n);
		n += piece.n;
	}
	return (struct http_string){ out, (uint32_t)n };
}

static int param_remove(struct exchange *x, const char *name)
{
	const char *mark = memchr(x->head->path.p, '?', x->head->path.n);
	if (!mark)
		return 0;
	struct http_string query = list_without(x, x->query, '&', name);
	if (!query.p)
		return -ENOMEM;
	struct http_string path = http_head_textf(x->head, "%.*s%s%.*s", (int)(mark - x->head->path.p), x->head->path.p,
						  query.n ? "?" : "", (int)query.n, query.p);
	if (!path.p)
		return -ENOMEM;
	x->head->path = path;
	x->query = query;
	return 0;
}

static int cookie_remove(struct exchange *x, const char *name)
{
	struct http_string cookies = list_without(x, http_get_joined(x->head, "cookie"), ';', name);
	if (!cookies.p)
		return -ENOMEM;
	http_remove_id(x->head, HTTP_COOKIE);
	return cookies.n ? http_add_ref(x->head, http_name_text(HTTP_COOKIE), cookies) : 0;
}

int jwt_candidate_remove(struct exchange *x, const struct jwt_candidate *candidate)
{
	switch (candidate->place) {
	case JWT_HEADER:
		http_remove(x->head, candidate->at->name);
		return 0;
	case JWT_PARAM:
		return param_remove(x, candidate->at->name);
	case JWT_COOKIE:
		return cookie_remove(x, candidate->at->name);
	}
	return -EINVAL;
}
