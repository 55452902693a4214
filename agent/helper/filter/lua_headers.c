/* SPDX-License-Identifier: Apache-2.0 */
/* handle:headers(), of requests and responses. Pseudo-headers are members of the head; what frames a message can't be
 * changed, and trying to is no error, as scripts remove content-length for good measure. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/filter/fields.h"
#include "agent/helper/filter/lua_api.h"

enum { NAME_MAX_BYTES = 256 };

static const char class[] = "weft.headers";

const char *lua_name_check(lua_State *L, int index, char *buf, size_t size)
{
	size_t n;
	const char *name = luaL_checklstring(L, index, &n);

	if (n >= size)
		luaL_error(L, "a header's name is too long");
	for (size_t i = 0; i <= n; i++)
		buf[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
	size_t colon = n && buf[0] == ':';
	if (!http_name_valid(buf + colon, n - colon))
		luaL_error(L, "\"%s\" is no header's name", name);
	return buf;
}

/* The member of the head that a name means; NULL: none. */
static struct http_string *member_of(const struct lua_call *c, struct http_head *h, const char *name)
{
	if (c->response || h != c->head)
		return NULL;
	return str_eq(name, ":path")				  ? &h->path :
	       str_eq(name, ":method")				  ? &h->method :
	       str_eq(name, ":scheme")				  ? &h->scheme :
	       str_eq(name, ":authority") || str_eq(name, "host") ? &h->authority :
								    NULL;
}

/* The message's head, or its trailers. */
static struct http_head *head_check(lua_State *L, struct lua_call **c)
{
	*c = lua_object_check(L, class);
	struct http_head *h = lua_object_part(L) == LUA_TRAILERS ? (*c)->trailers : (*c)->head;
	if (!h)
		luaL_error(L, "there are no headers");
	return h;
}

static void push(lua_State *L, struct http_string s)
{
	if (s.p)
		lua_pushlstring(L, s.p, s.n);
	else
		lua_pushnil(L);
}

static int on_get(lua_State *L)
{
	struct lua_call *c;
	struct http_head *h = head_check(L, &c);
	char buf[NAME_MAX_BYTES];
	const char *name = lua_name_check(L, 2, buf, sizeof(buf));
	const struct http_string *member = member_of(c, h, name);

	if (member)
		push(L, *member);
	else if (str_eq(name, ":status") && c->response && h == c->head)
		lua_pushfstring(L, "%d", (int)h->status);
	else if (str_eq(name, "content-length") && h == c->head && h->content_length >= 0)
		lua_pushfstring(L, "%f", (lua_Number)h->content_length);
	else
		push(L, http_get_joined(h, name));
	return 1;
}

static int on_get_at_index(lua_State *L)
{
	struct lua_call *c;
	struct http_head *h = head_check(L, &c);
	char buf[NAME_MAX_BYTES];
	const char *name = lua_name_check(L, 2, buf, sizeof(buf));
	lua_Integer at = luaL_checkinteger(L, 3);
	const struct http_string *member = member_of(c, h, name);

	if (member) {
		push(L, at == 0 ? *member : (struct http_string){ 0 });
		return 1;
	}
	for (size_t i = 0; at >= 0 && i < h->field_count; i++) {
		if (http_is(h->fields[i].name, name) && at-- == 0) {
			push(L, h->fields[i].value);
			return 1;
		}
	}
	lua_pushnil(L);
	return 1;
}

static int on_count(lua_State *L)
{
	struct lua_call *c;
	struct http_head *h = head_check(L, &c);
	char buf[NAME_MAX_BYTES];
	const char *name = lua_name_check(L, 2, buf, sizeof(buf));
	const struct http_string *member = member_of(c, h, name);
	int n = member && member->p;

	for (size_t i = 0; !member && i < h->field_count; i++)
		n += http_is(h->fields[i].name, name);
	lua_pushinteger(L, n);
	return 1;
}

/* Visible ASCII: these go into request lines. */
static bool is_target(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] >= 0x7f)
			return false;
	return n > 0;
}

static void member_set(lua_State *L, struct lua_call *c, struct http_string *member, const char *value, size_t n)
{
	if (!is_target(value, n) || (member == &c->head->path && value[0] != '/') ||
	    (member == &c->head->method && !http_name_valid(value, n)))
		luaL_error(L, "the value can't be put into a request line");
	struct http_string copy = http_head_text(c->head, value, n);
	if (!copy.p)
		luaL_error(L, "out of memory");
	*member = copy;
	c->path_changed |= member == &c->head->path || member == &c->head->method;
}

static int put(lua_State *L, bool replace)
{
	struct lua_call *c;
	struct http_head *h = head_check(L, &c);
	char buf[NAME_MAX_BYTES];
	const char *name = lua_name_check(L, 2, buf, sizeof(buf));
	size_t n;
	const char *value = luaL_checklstring(L, 3, &n);
	struct http_string *member = member_of(c, h, name);

	lua_vm_steps(L, 50 + n);
	if (h->text_bytes + n > LUA_MEMORY_MAX || h->field_count > 1000)
		luaL_error(L, "too many headers");
	if (member) {
		member_set(L, c, member, value, n);
		return 0;
	}
	if (str_eq(name, ":status") && c->response && h == c->head) {
		int status = atoi(value);
		if (status < 200 || status > 599)
			luaL_error(L, ":status must be between 200 and 599");
		h->status = (uint16_t)status;
		return 0;
	}
	if (!http_value_valid(value, n))
		luaL_error(L, "\"%s\": the value has bytes that can't be in a header", name);
	if (field_put(h, (struct http_string){ name, (uint32_t)strlen(name) },
		      (struct http_string){ value, (uint32_t)n }, replace) < 0)
		luaL_error(L, "out of memory");
	return 0;
}

static int on_add(lua_State *L)
{
	return put(L, false);
}

static int on_replace(lua_State *L)
{
	return put(L, true);
}

static int on_remove(lua_State *L)
{
	struct lua_call *c;
	struct http_head *h = head_check(L, &c);
	char buf[NAME_MAX_BYTES];
	const char *name = lua_name_check(L, 2, buf, sizeof(buf));

	lua_vm_steps(L, 50);
	if (name[0] != ':' &&
	    field_ok((struct http_string){ name, (uint32_t)strlen(name) }, (struct http_string){ "", 0 }))
		http_remove(h, name);
	return 0;
}

/* --- pairs(): over the fields as they are when it is called */

static int on_next(lua_State *L)
{
	lua_Integer at = lua_tointeger(L, lua_upvalueindex(2));

	lua_rawgeti(L, lua_upvalueindex(1), (int)at);
	if (lua_isnil(L, -1))
		return 1;
	lua_rawgeti(L, lua_upvalueindex(1), (int)at + 1);
	lua_pushinteger(L, at + 2);
	lua_replace(L, lua_upvalueindex(2));
	return 2;
}

static int pair_add(lua_State *L, int at, struct http_string name, struct http_string value)
{
	if (!value.p)
		return at;
	lua_pushlstring(L, name.p, name.n);
	lua_rawseti(L, -2, at);
	lua_pushlstring(L, value.p, value.n);
	lua_rawseti(L, -2, at + 1);
	return at + 2;
}

static int on_pairs(lua_State *L)
{
	struct lua_call *c;
	struct http_head *h = head_check(L, &c);
	bool whole = h == c->head; /* trailers have no pseudo-headers */
	const struct {
		struct http_string name, value;
	} members[] = { { { ":authority", 10 }, h->authority },
			{ { ":path", 5 }, h->path },
			{ { ":method", 7 }, h->method },
			{ { ":scheme", 7 }, h->scheme } };
	int at = 1;

	lua_vm_steps(L, 10 * h->field_count);
	lua_newtable(L);
	if (whole && c->response) {
		char digits[8];
		int n = snprintf(digits, sizeof(digits), "%u", h->status);
		at = pair_add(L, at, (struct http_string){ ":status", 7 }, (struct http_string){ digits, (uint32_t)n });
	}
	for (size_t i = 0; whole && !c->response && i < ARRAY_SIZE(members); i++)
		at = pair_add(L, at, members[i].name, members[i].value);
	for (size_t i = 0; i < h->field_count; i++)
		at = pair_add(L, at, h->fields[i].name, h->fields[i].value);
	lua_pushinteger(L, 1);
	lua_pushcclosure(L, on_next, 2);
	return 1;
}

void lua_headers_register(lua_State *L)
{
	static const struct luaL_Reg methods[] = {
		{ "get", on_get }, { "getAtIndex", on_get_at_index }, { "getNumValues", on_count },
		{ "add", on_add }, { "replace", on_replace },	      { "remove", on_remove },
		{ NULL, NULL }
	};
	lua_class_register(L, class, methods, on_pairs);
}
