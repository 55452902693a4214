/* SPDX-License-Identifier: Apache-2.0 */
/* HTTPRoute's session persistence (GEP-1619), by cookie or header. The token says which endpoint of which destination, and
 * when the session began and was last used; it means nothing to clients. The endpoint counts before weights and balancing, as
 * long as it is there and healthy. Forging a token gets a client an endpoint that it could have got anyway. */
#include "agent/helper/route/internal.h"

#include <stdio.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/model/cluster.h"

/* In hexadecimal: address, port, destination, began, used. */
struct token {
	uint8_t addr[16];
	uint16_t port;
	uint32_t destination, began, used;
};
enum { TOKEN_DIGITS = 32 + 4 + 8 + 8 + 8 };

/* Of this route only: two rules never share a session. */
static uint32_t destination_id(const struct http_route *route, const struct http_destination *d)
{
	uint64_t id = HASH64_INIT;
	const char *texts[] = { route->owner, route->name, d->cluster };
	for (size_t i = 0; i < 3; i++)
		id = hash64(id, texts[i] ? texts[i] : "", texts[i] ? strlen(texts[i]) + 1 : 1);
	return (uint32_t)(id ^ id >> 32);
}

static uint32_t now_s(void)
{
	return (uint32_t)(clock_wall_ns() / 1000000000u);
}

/* --- reading --- */

static bool hex_read(const char **at, size_t digits, uint64_t *out)
{
	*out = 0;
	for (size_t i = 0; i < digits; i++) {
		char c = (*at)[i];
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
		if (digit < 0)
			return false;
		*out = *out << 4 | (uint64_t)digit;
	}
	*at += digits;
	return true;
}

static bool token_read(const char *p, size_t n, struct token *out)
{
	uint64_t v;
	if (n && *p == '"') {
		p++;
		n--;
	}
	if (n < TOKEN_DIGITS)
		return false;
	for (size_t i = 0; i < sizeof(out->addr); i++) {
		if (!hex_read(&p, 2, &v))
			return false;
		out->addr[i] = (uint8_t)v;
	}
	if (!hex_read(&p, 4, &v) || !v)
		return false;
	out->port = (uint16_t)v;
	uint32_t *const rest[] = { &out->destination, &out->began, &out->used };
	for (size_t i = 0; i < 3; i++) {
		if (!hex_read(&p, 8, &v))
			return false;
		*rest[i] = (uint32_t)v;
	}
	return true;
}

/* The next value of the cookie in *rest. p NULL: there is none left. */
static struct http_string cookie_next(struct http_string *rest, const char *name)
{
	size_t n = strlen(name);
	while (rest->n) {
		const char *stop = memchr(rest->p, ';', rest->n);
		uint32_t len = stop ? (uint32_t)(stop - rest->p) : rest->n;
		struct http_string one = { rest->p, len };
		rest->p += len + (stop != NULL);
		rest->n -= len + (stop != NULL);
		while (one.n && *one.p == ' ') {
			one.p++;
			one.n--;
		}
		if (one.n > n && !memcmp(one.p, name, n) && one.p[n] == '=')
			return (struct http_string){ one.p + n + 1, one.n - (uint32_t)n - 1 };
	}
	return (struct http_string){ 0 };
}

/* false: it is over, or it is not from now. */
static bool is_alive(const struct http_route *route, const struct token *t)
{
	uint32_t now = now_s();
	if (t->began > t->used || t->used > now + 60)
		return false;
	uint32_t age = now > t->began ? now - t->began : 0, idle = now > t->used ? now - t->used : 0;
	return (!route->session_absolute_s || age < route->session_absolute_s) &&
	       (!route->session_idle_s || idle < route->session_idle_s);
}

static bool token_use(struct exchange_private *e, struct http_string value)
{
	const struct http_route *route = e->x.route;
	struct token t;
	if (!value.p || !token_read(value.p, value.n, &t) || !is_alive(route, &t))
		return false;
	for (size_t i = 0; i < route->destination_count; i++) {
		if (destination_id(route, &route->destinations[i]) != t.destination)
			continue;
		e->destination = &route->destinations[i];
		memcpy(e->pinned.addr.b, t.addr, sizeof(t.addr));
		e->pinned.port = t.port;
		e->session_began = t.began;
		e->session_used = t.used;
		return true;
	}
	return false;
}

void session_read(struct exchange_private *e)
{
	const char *name = e->x.route->session_name;
	if (!name)
		return;
	if (e->x.route->session_header) {
		token_use(e, http_get(e->x.head, name));
		return;
	}
	struct http_string rest = http_get_joined(e->x.head, "cookie"), value;
	do
		value = cookie_next(&rest, name);
	while (value.p && !token_use(e, value));
}

/* --- writing --- */

/* The path that the rule matches, as far as it is fixed: so sessions of paths are apart. In text. */
static struct http_string cookie_path(const struct exchange *x)
{
	static const struct http_string all = { "/", 1 };
	const struct http_route *route = x->route;
	const struct http_text *t = x->match < route->match_count ? route->matches[x->match].path : NULL;
	if (!t)
		return all;
	size_t n = t->text ? strlen(t->text) : 0;
	if (t->kind == HTTP_TEXT_REGEX) {
		n = t->text ? strcspn(t->text, "\\^$.|?*+()[]{}") : 0;
		while (n && t->text[n - 1] != '/') /* whole segments, without the slash */
			n--;
		n -= n > 1;
	}
	for (size_t i = 0; i < n; i++)
		if (t->text[i] <= ' ' || t->text[i] == ';' || t->text[i] == 0x7f)
			return all;
	return n && t->text[0] == '/' ? (struct http_string){ t->text, (uint32_t)n } : all;
}

static void token_text(const struct token *t, char out[TOKEN_DIGITS + 1])
{
	for (size_t i = 0; i < sizeof(t->addr); i++)
		snprintf(out + 2 * i, 3, "%02x", t->addr[i]);
	snprintf(out + 32, TOKEN_DIGITS - 32 + 1, "%04x%08x%08x%08x", t->port, t->destination, t->began, t->used);
}

static void cookie_write(const struct exchange *x, const struct token *t, const char *text, struct http_head *response)
{
	const struct http_route *route = x->route;
	struct http_string path = cookie_path(x);
	char age[32] = "";
	uint32_t spent = t->used - t->began;
	if (route->session_max_age && route->session_absolute_s)
		snprintf(age, sizeof(age), "; Max-Age=%u",
			 spent < route->session_absolute_s ? route->session_absolute_s - spent : 0);
	struct http_string value = http_head_textf(response, "%s=\"%s\"%s; Path=%.*s; HttpOnly; SameSite=Strict",
						   route->session_name, text, age, (int)path.n, path.p);
	if (value.p)
		http_add_id(response, HTTP_SET_COOKIE, value.p, value.n);
}

void session_write(struct exchange_private *e, struct http_head *response)
{
	const struct http_route *route = e->x.route;
	const struct cluster_endpoint *endpoint = e->x.record.endpoint;
	if (!route || !route->session_name || !endpoint || !e->destination)
		return;
	struct token t = { .port = endpoint->addr.port,
			   .destination = destination_id(route, e->destination),
			   .began = now_s(),
			   .used = now_s() };
	if (e->pinned.port && addr_port_eq(&e->pinned, &endpoint->addr)) {
		if (!route->session_idle_s || e->session_used >= t.used)
			return; /* what the client has will do */
		t.began = e->session_began;
	}
	memcpy(t.addr, endpoint->addr.addr.b, sizeof(t.addr));
	char text[TOKEN_DIGITS + 1];
	token_text(&t, text);
	if (route->session_header)
		http_set(response, route->session_name, text);
	else
		cookie_write(&e->x, &t, text, response);
}
