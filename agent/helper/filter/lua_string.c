/* SPDX-License-Identifier: Apache-2.0 */
/* string.find, match, gmatch and gsub with Lua's patterns (reference manual 5.1, section 5.4.1) and a budget: Lua's own may
 * take the length of the text to the power of the pattern's stars in one instruction, which no hook interrupts. */
#include <ctype.h>
#include <string.h>

#include <lauxlib.h>

#include "agent/helper/filter/lua_vm.h"

enum { CAPTURES_MAX = 32, DEPTH_MAX = 200, OPEN = -1, POSITION = -2 };

struct capture {
	const char *p;
	ptrdiff_t len; /* or OPEN, POSITION */
};

struct matching {
	lua_State *L;
	const char *text, *text_end, *pattern_end;
	size_t left; /* of the budget */
	int depth, count;
	struct capture captures[CAPTURES_MAX];
};

static const char *match_here(struct matching *m, const char *s, const char *p);

static void tick(struct matching *m)
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
static const char *item_end(struct matching *m, const char *p)
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
static bool set_has(struct matching *m, const char *p, const char *end, int c)
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

static bool item_has(struct matching *m, const char *s, const char *p, const char *end)
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

static const char *capture_open(struct matching *m, const char *s, const char *p, ptrdiff_t what)
{
	if (m->count == CAPTURES_MAX)
		luaL_error(m->L, "too many captures");
	m->captures[m->count++] = (struct capture){ s, what };
	const char *end = match_here(m, s, p);
	if (!end)
		m->count--;
	return end;
}

static const char *capture_close(struct matching *m, const char *s, const char *p)
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

static const char *back_reference(struct matching *m, const char *s, int digit)
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
static const char *balanced(struct matching *m, const char *s, const char *p)
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
static bool frontier(struct matching *m, const char *s, const char *p, const char *end)
{
	int before = s == m->text ? 0 : (unsigned char)s[-1], here = s == m->text_end ? 0 : (unsigned char)*s;
	return !set_has(m, p, end, before) && set_has(m, p, end, here);
}

static const char *as_many(struct matching *m, const char *s, const char *p, const char *end)
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

static const char *as_few(struct matching *m, const char *s, const char *p, const char *end)
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
static const char *match_items(struct matching *m, const char *s, const char *p)
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

static const char *match_here(struct matching *m, const char *s, const char *p)
{
	if (++m->depth > DEPTH_MAX)
		luaL_error(m->L, "pattern too complex");
	const char *end = match_items(m, s, p);
	m->depth--;
	return end;
}

/* --- results */

static void begin(struct matching *m, lua_State *L, const char *text, size_t n, const char *pattern, size_t pattern_len)
{
	m->L = L;
	m->text = text;
	m->text_end = text + n;
	m->pattern_end = pattern + pattern_len;
	m->left = lua_vm_of(L)->steps_left;
}

static const char *try_at(struct matching *m, const char *s, const char *p)
{
	m->depth = m->count = 0;
	const char *end = match_here(m, s, p);
	lua_vm_of(m->L)->steps_left = m->left;
	return end;
}

static void capture_push(struct matching *m, int i, const char *s, const char *end)
{
	if (i >= m->count) {
		if (i)
			luaL_error(m->L, "invalid capture index");
		lua_pushlstring(m->L, s, (size_t)(end - s)); /* no captures: the whole match */
		return;
	}
	const struct capture *c = &m->captures[i];
	if (c->len == OPEN)
		luaL_error(m->L, "unfinished capture");
	if (c->len == POSITION)
		lua_pushinteger(m->L, c->p - m->text + 1);
	else
		lua_pushlstring(m->L, c->p, (size_t)c->len);
}

/* whole: without captures, the match itself. */
static int captures_push(struct matching *m, const char *s, const char *end, bool whole)
{
	int n = m->count == 0 && whole ? 1 : m->count;
	luaL_checkstack(m->L, n, "too many captures");
	for (int i = 0; i < n; i++)
		capture_push(m, i, s, end);
	return n;
}

/* --- the functions */

static int find(lua_State *L, bool positions)
{
	size_t n, pattern_len;
	const char *text = luaL_checklstring(L, 1, &n), *pattern = luaL_checklstring(L, 2, &pattern_len);
	lua_Integer init = luaL_optinteger(L, 3, 1);
	if (init < 0)
		init = init + (lua_Integer)n + 1;
	size_t at = init < 1 ? 0 : (size_t)init - 1;
	if (at > n)
		at = n;
	if (positions && (lua_toboolean(L, 4) || strcspn(pattern, "^$*+?.([%-") == pattern_len)) {
		lua_vm_steps(L, (n - at) / 8 + 1);
		const char *found = memmem(text + at, n - at, pattern, pattern_len);
		if (!found)
			return 0;
		lua_pushinteger(L, found - text + 1);
		lua_pushinteger(L, found - text + (lua_Integer)pattern_len);
		return 2;
	}
	struct matching m;
	begin(&m, L, text, n, pattern, pattern_len);
	bool anchored = pattern_len && *pattern == '^';
	for (const char *s = text + at; s <= m.text_end; s++) {
		const char *end = try_at(&m, s, pattern + anchored);
		if (end && positions) {
			lua_pushinteger(L, s - text + 1);
			lua_pushinteger(L, end - text);
			return 2 + captures_push(&m, s, end, false);
		}
		if (end)
			return captures_push(&m, s, end, true);
		if (anchored)
			break;
	}
	lua_pushnil(L);
	return 1;
}

static int on_find(lua_State *L)
{
	int n = find(L, true);
	if (!n)
		lua_pushnil(L);
	return n ? n : 1;
}

static int on_match(lua_State *L)
{
	return find(L, false);
}

static int on_gmatch_next(lua_State *L)
{
	size_t n, pattern_len, at = (size_t)lua_tointeger(L, lua_upvalueindex(3));
	const char *text = lua_tolstring(L, lua_upvalueindex(1), &n);
	const char *pattern = lua_tolstring(L, lua_upvalueindex(2), &pattern_len);
	struct matching m;

	begin(&m, L, text, n, pattern, pattern_len);
	for (const char *s = text + at; s <= m.text_end; s++) {
		const char *end = try_at(&m, s, pattern);
		if (!end)
			continue;
		lua_pushinteger(L, end - text + (end == s)); /* an empty match moves on */
		lua_replace(L, lua_upvalueindex(3));
		return captures_push(&m, s, end, true);
	}
	return 0;
}

static int on_gmatch(lua_State *L)
{
	luaL_checkstring(L, 1);
	luaL_checkstring(L, 2);
	lua_settop(L, 2);
	lua_pushinteger(L, 0);
	lua_pushcclosure(L, on_gmatch_next, 3);
	return 1;
}

/* What the third argument of gsub() makes of a match, added to the buffer. */
static void replacement_add(struct matching *m, luaL_Buffer *b, const char *s, const char *end)
{
	lua_State *L = m->L;
	int type = lua_type(L, 3);

	if (type == LUA_TSTRING || type == LUA_TNUMBER) {
		size_t n;
		const char *r = lua_tolstring(L, 3, &n);
		lua_vm_steps(L, n / 8);
		for (size_t i = 0; i < n; i++) {
			if (r[i] != '%' || ++i == n || !isdigit((unsigned char)r[i])) {
				luaL_addlstring(b, &r[i], 1);
			} else if (r[i] == '0') {
				luaL_addlstring(b, s, (size_t)(end - s));
			} else {
				capture_push(m, r[i] - '1', s, end);
				luaL_addvalue(b);
			}
		}
		return;
	}
	if (type == LUA_TTABLE) {
		capture_push(m, 0, s, end);
		lua_gettable(L, 3);
	} else {
		lua_pushvalue(L, 3);
		lua_call(L, captures_push(m, s, end, true), 1);
	}
	if (!lua_toboolean(L, -1)) {
		lua_pop(L, 1);
		luaL_addlstring(b, s, (size_t)(end - s));
	} else if (!lua_isstring(L, -1)) {
		luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
	} else {
		luaL_addvalue(b);
	}
}

static int on_gsub(lua_State *L)
{
	size_t n, pattern_len;
	const char *text = luaL_checklstring(L, 1, &n), *pattern = luaL_checklstring(L, 2, &pattern_len);
	lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)n + 1), done = 0;
	int type = lua_type(L, 3);
	bool anchored = pattern_len && *pattern == '^';
	struct matching m;
	luaL_Buffer b;

	luaL_argcheck(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE, 3,
		      "string/function/table expected");
	lua_settop(L, 4);
	luaL_buffinit(L, &b);
	begin(&m, L, text, n, pattern, pattern_len);
	const char *s = text;
	while (done < most) {
		const char *end = try_at(&m, s, pattern + anchored);
		if (end) {
			done++;
			replacement_add(&m, &b, s, end);
			m.left = lua_vm_of(L)->steps_left; /* the script's function may have used some */
		}
		if (end && end > s)
			s = end;
		else if (s < m.text_end)
			luaL_addlstring(&b, s++, 1);
		else
			break;
		if (anchored)
			break;
	}
	luaL_addlstring(&b, s, (size_t)(m.text_end - s));
	luaL_pushresult(&b);
	lua_pushinteger(L, done);
	return 2;
}

void lua_string_functions(lua_State *L)
{
	static const struct luaL_Reg functions[] = {
		{ "find", on_find }, { "match", on_match }, { "gmatch", on_gmatch }, { "gsub", on_gsub }, { NULL, NULL }
	};
	for (const struct luaL_Reg *f = functions; f->name; f++) {
		lua_pushcfunction(L, f->func);
		lua_setfield(L, -2, f->name);
	}
}
