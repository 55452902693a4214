/* SPDX-License-Identifier: Apache-2.0 */
/* Lua's patterns (reference manual 5.1, section 5.4.1) with a budget: Lua's own matcher may take the length of the text to the
 * power of the pattern's stars in one instruction, which no hook interrupts. For lua_string.c. Errors are the script's. */
#pragma once

#include "agent/helper/filter/lua_vm.h"

enum { LUA_CAPTURES_MAX = 32 };

struct lua_capture {
	const char *p;
	ptrdiff_t len; /* negative: still open, or a position */
};

struct lua_matching {
	lua_State *L;
	const char *text, *text_end, *pattern_end;
	size_t left; /* of the budget */
	int depth, count;
	struct lua_capture captures[LUA_CAPTURES_MAX];
};

void lua_pattern_begin(struct lua_matching *m, lua_State *L, const char *text, size_t n, const char *pattern,
		       size_t len);
/* A match that begins at s, with the pattern from p on: its end, or NULL. */
const char *lua_pattern_try(struct lua_matching *m, const char *s, const char *p) __attribute__((nonnull));
/* Pushes one capture of the match from s to end; without any, the first is the whole match. */
void lua_pattern_capture(struct lua_matching *m, int i, const char *s, const char *end);
/* All of them; how many. whole: without captures, the match itself. */
int lua_pattern_captures(struct lua_matching *m, const char *s, const char *end, bool whole);
