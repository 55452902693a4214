/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/filter/lua_pattern.h"

#include <ctype.h>
#include <string.h>

#include <lauxlib.h>

enum { DEPTH_MAX = 200, OPEN = -1, POSITION = -2 };

static const char *match_here(struct lua_matching *m, const char *s, const char *p) __attribute__((nonnull));

static void tick(struct lua_matching *m)
{
	if (m->left)
		m->left--;
	else
		lua_vm_steps(m->L, SIZE_MAX);
}

/* --- one character */

static bool class_has(int class, int c)
{
	bool in;
	switch (tolower(class)) {
	case 'a':
		in = isalpha(c);
		break;
	case 'c':
		in = iscntrl(c);
		break;
	case 'd':
		in = isdigit(c);
		break;
	case 'l':
		in = islower(c);
		break;
	case 'p':
		in = ispunct(c);
		break;
	case 's':
		in = isspace(c);
		break;
	case 'u':
		in = isupper(c);
		break;
	case 'w':
		in = isalnum(c);
		break;
	case 'x':
		in = isxdigit(c);
		break;
	case 'z':
		in = c == 0;
		break;
	default:
		return class == c;
	}
	return in != (bool)isupper(class);
}

/* Behind the single character, class or set that begins at p. */
static const char *item_end(struct lua_matching *m, const char *p)
{
	char first = *p++;
	if (first == '%') {
		if (p == m->pattern_end)
			luaL_error(m->L, "malformed pattern (ends with '%%')");
		return p + 1;
	}
	if (first != '[')
		return p;
	if (p < m->pattern_end && *p == '^')
		p++;
	do { /* the first may be a "]" */
		if (p == m->pattern_end)
			luaL_error(m->L, "malformed pattern (missing ']')");
		if (*p++ == '%' && p < m->pattern_end)
			p++;
	} while (p == m->pattern_end || *p != ']');
	return p + 1;
}

/* p: "[", end: behind its "]". */
static bool set_has(struct lua_matching *m, const char *p, const char *end, int c)
{
	bool inverted = p[1] == '^';
	end--;
	for (p += 1 + inverted; p < end; p++) {
		tick(m);
		if (*p == '%' && p + 1 < end) {
			if (class_has((unsigned char)*++p, c))
				return !inverted;
		} else if (p + 2 < end && p[1] == '-') {
			if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
				return !inverted;
			p += 2;
		} else if ((unsigned char)*p == c) {
			return !inverted;
		}
	}
	return inverted;
}

static bool item_has(struct lua_matching *m, const char *s, const char *p, const char *end)
{
	tick(m);
	if (s >= m->text_end)
		return false;
	int c = (unsigned char)*s;
	switch (*p) {
	case '.':
		return true;
	case '%':
		return class_has((unsigned char)p[1], c);
	case '[':
		return set_has(m, p, end, c);
	default:
		return (unsigned char)*p == c;
	}
}

/* --- captures */

static const char *capture_open(struct lua_matching *m, const char *s, const char *p, ptrdiff_t what)
{
	if (m->count == LUA_CAPTURES_MAX)
		luaL_error(m->L, "too many captures");
	m->captures[m->count++] = (struct lua_capture){ s, what };
	const char *end = match_here(m, s, p);
	if (!end)
		m->count--;
	return end;
}

static const char *capture_close(struct lua_matching *m, const char *s, const char *p)
{
	int i = m->count - 1;
	while (i >= 0 && m->captures[i].len != OPEN)
		i--;
	if (i < 0) {
		luaL_error(m->L, "invalid pattern capture");
		return NULL; /* not reached */
	}
	m->captures[i].len = s - m->captures[i].p;
	const char *end = match_here(m, s, p);
	if (!end)
		m->captures[i].len = OPEN;
	return end;
}

static const char *back_reference(struct lua_matching *m, const char *s, int digit)
{
	int i = digit - '1';
	if (i < 0 || i >= m->count || m->captures[i].len < 0) {
		luaL_error(m->L, "invalid capture index");
		return NULL; /* not reached */
	}
	size_t n = (size_t)m->captures[i].len;
	for (size_t k = 0; k < n / 16; k++)
		tick(m);
	return (size_t)(m->text_end - s) >= n && !memcmp(m->captures[i].p, s, n) ? s + n : NULL;
}

/* --- what is longer than one character */

/* "%bxy" */
static const char *balanced(struct lua_matching *m, const char *s, const char *p)
{
	if (p + 1 >= m->pattern_end)
		luaL_error(m->L, "unbalanced pattern");
	if (s >= m->text_end || *s != p[0])
		return NULL;
	size_t open = 1;
	for (s++; s < m->text_end; s++) {
		tick(m);
		if (*s == p[1]) {
			if (--open == 0)
				return s + 1;
		} else if (*s == p[0]) {
			open++;
		}
	}
	return NULL;
}

/* "%f[set]": p is at the set. */
static bool frontier(struct lua_matching *m, const char *s, const char *p, const char *end)
{
	int before = s == m->text ? 0 : (unsigned char)s[-1], here = s == m->text_end ? 0 : (unsigned char)*s;
	return !set_has(m, p, end, before) && set_has(m, p, end, here);
}

static const char *as_many(struct lua_matching *m, const char *s, const char *p, const char *end)
{
	ptrdiff_t n = 0;
	while (item_has(m, s + n, p, end))
		n++;
	for (; n >= 0; n--) {
		const char *found = match_here(m, s + n, end + 1);
		if (found)
			return found;
	}
	return NULL;
}

static const char *as_few(struct lua_matching *m, const char *s, const char *p, const char *end)
{
	for (;; s++) {
		const char *found = match_here(m, s, end + 1);
		if (found)
			return found;
		if (!item_has(m, s, p, end))
			return NULL;
	}
}

/* One item after the other; what needs several tries recurses. */
static const char *match_items(struct lua_matching *m, const char *s, const char *p)
{
	while (p < m->pattern_end) {
		tick(m);
		if (*p == '(')
			return p + 1 < m->pattern_end && p[1] == ')' ? capture_open(m, s, p + 2, POSITION) :
								       capture_open(m, s, p + 1, OPEN);
		if (*p == ')')
			return capture_close(m, s, p + 1);
		if (*p == '$' && p + 1 == m->pattern_end)
			return s == m->text_end ? s : NULL;
		char special = *p == '%' && p + 1 < m->pattern_end ? p[1] : '\0';
		if (special == 'b') {
			s = balanced(m, s, p + 2);
			p += 4;
		} else if (special == 'f') {
			if (p + 2 >= m->pattern_end || p[2] != '[')
				luaL_error(m->L, "missing '[' after '%%f' in pattern");
			const char *end = item_end(m, p + 2);
			s = frontier(m, s, p + 2, end) ? s : NULL;
			p = end;
		} else if (isdigit((unsigned char)special)) {
			s = back_reference(m, s, special);
			p += 2;
		} else {
			const char *end = item_end(m, p);
			char how = end < m->pattern_end ? *end : '\0';
			if (how == '*')
				return as_many(m, s, p, end);
			if (how == '-')
				return as_few(m, s, p, end);
			if (how == '+')
				return item_has(m, s, p, end) ? as_many(m, s + 1, p, end) : NULL;
			bool has = item_has(m, s, p, end);
			if (how == '?') {
				const char *found = has ? match_here(m, s + 1, end + 1) : NULL;
				if (found)
					return found;
				p = end + 1;
				continue;
			}
			s = has ? s + 1 : NULL;
			p = end;
		}
		if (!s)
			return NULL;
	}
	return s;
}

static const char *match_here(struct lua_matching *m, const char *s, const char *p)
{
	if (++m->depth > DEPTH_MAX)
		luaL_error(m->L, "pattern too complex");
	const char *end = match_items(m, s, p);
	m->depth--;
	return end;
}

/* --- results */

void lua_pattern_begin(struct lua_matching *m, lua_State *L, const char *text, size_t n, const char *pattern,
		       size_t len)
{
	m->L = L;
	m->text = text;
	m->text_end = text + n;
	m->pattern_end = pattern + len;
	m->left = lua_vm_of(L)->steps_left;
}

const char *lua_pattern_try(struct lua_matching *m, const char *s, const char *p)
{
	m->depth = m->count = 0;
	const char *end = match_here(m, s, p);
	lua_vm_of(m->L)->steps_left = m->left;
	return end;
}

void lua_pattern_capture(struct lua_matching *m, int i, const char *s, const char *end)
{
	if (i >= m->count) {
		if (i)
			luaL_error(m->L, "invalid capture index");
		lua_pushlstring(m->L, s, (size_t)(end - s)); /* no captures: the whole match */
		return;
	}
	const struct lua_capture *c = &m->captures[i];
	if (c->len == OPEN)
		luaL_error(m->L, "unfinished capture");
	if (c->len == POSITION)
		lua_pushinteger(m->L, c->p - m->text + 1);
	else
		lua_pushlstring(m->L, c->p, (size_t)c->len);
}

/* whole: without captures, the match itself. */
int lua_pattern_captures(struct lua_matching *m, const char *s, const char *end, bool whole)
{
	int n = m->count == 0 && whole ? 1 : m->count;
	luaL_checkstack(m->L, n, "too many captures");
	for (int i = 0; i < n; i++)
		lua_pattern_capture(m, i, s, end);
	return n;
}
