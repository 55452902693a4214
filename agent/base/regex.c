/* SPDX-License-Identifier: Apache-2.0 */
/* PCRE2 behind RE2's syntax. What RE2 refuses is refused before PCRE2 sees it: then what is left has the same meaning in
 * both, and can be matched in two ways. The backtracking matcher is fast for what people write; when it runs into its
 * limits, PCRE2's breadth-first one answers instead, unless it needs too many states ("(a+)+" on a long text): then there
 * is no answer, and callers take that for no match. So a pattern that backtracks costs a millisecond, not a core. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "agent/base/regex.h"

#include <ctype.h>
#include <errno.h>
#include <pcre2.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

enum {
	MATCH_LIMIT = 20000, /* steps: below a millisecond */
	DEPTH_LIMIT = 20000,
	HEAP_LIMIT_KIB = 512,
	GROUPS_MAX = 10,  /* \0 to \9 */
	DFA_WORDS = 2048, /* for the states that the breadth-first matcher may be in: hundreds */
	REPLACEMENTS_MAX = 1000,
};

struct regex {
	pcre2_code *code;
	uint32_t groups;
	char *pattern;
};

/* --- syntax */

struct scan {
	const char *p, *pattern;
	struct err *err;
	bool repeated; /* the last thing was a repetition */
};

static int refuse(const struct scan *s, const char *why)
{
	return err_set(s->err, -EINVAL, "regex \"%s\": at %zu: %s", s->pattern, (size_t)(s->p - s->pattern), why);
}

/* At the backslash. Moves past the escape. */
static int scan_escape(struct scan *s)
{
	unsigned char c = (unsigned char)s->p[1];

	if (!c)
		return refuse(s, "a backslash at the end");
	if (c >= '1' && c <= '9')
		return refuse(s, "backreferences are not supported");
	if (c == 'Q') { /* quoted up to \E */
		const char *end = strstr(s->p + 2, "\\E");
		s->p = end ? end + 2 : s->p + strlen(s->p);
		return 0;
	}
	if ((isalpha(c) && !strchr("aftnrdDsSwWbBAzpPx", c)) || c == '_' || c >= 0x80)
		return refuse(s, "an escape that is not known");
	s->p += 2;
	return 0;
}

/* At the bracket. */
static int scan_class(struct scan *s)
{
	s->p++;
	if (*s->p == '^')
		s->p++;
	for (bool first = true; *s->p && (first || *s->p != ']'); first = false) {
		if (*s->p == '\\') {
			int rc = scan_escape(s);
			if (rc < 0)
				return rc;
		} else if (s->p[0] == '[' && s->p[1] == ':') {
			const char *end = strstr(s->p + 2, ":]");
			s->p = end ? end + 2 : s->p + 2;
		} else if (s->p[0] == '[' && (s->p[1] == '.' || s->p[1] == '=')) {
			return refuse(s, "collating elements are not supported");
		} else {
			s->p++;
		}
	}
	if (!*s->p)
		return refuse(s, "a bracket that is not closed");
	s->p++;
	return 0;
}

/* At "(?": flags, a name, or nothing else. */
static int scan_group(struct scan *s)
{
	const char *p = s->p + 2;

	if (p[0] == 'P' && p[1] == '<')
		p += 1;
	if (*p == '<') {
		if (p[1] == '=' || p[1] == '!')
			return refuse(s, "lookaround is not supported");
		s->p = p + 1;
		return 0;
	}
	if (*p == '=' || *p == '!')
		return refuse(s, "lookaround is not supported");
	if (p[0] == 'P' && p[1] == '=')
		return refuse(s, "backreferences are not supported");
	p += strspn(p, "imsU-");
	if (*p != ')' && *p != ':')
		return refuse(s, "a group of a kind that is not supported");
	s->p = p; /* at the ')' or ':' */
	if (*p == ':')
		s->p++;
	return 0;
}

/* At one of * + ? {. A brace that is no repetition is a letter, in both. */
static int scan_repeat(struct scan *s)
{
	const char *p = s->p + 1;

	if (*s->p == '{') {
		char *end;
		unsigned long low, high;
		if (!isdigit((unsigned char)*p)) {
			s->p = p;
			s->repeated = false;
			return 0;
		}
		low = high = strtoul(p, &end, 10);
		if (*end == ',')
			high = isdigit((unsigned char)end[1]) ? strtoul(end + 1, &end, 10) : (end++, low);
		if (*end != '}') {
			s->p = p;
			s->repeated = false;
			return 0;
		}
		if (low > REGEX_REPEAT_MAX || high > REGEX_REPEAT_MAX)
			return refuse(s, "a repetition of more than 1000");
		p = end + 1;
	}
	if (s->repeated)
		return refuse(s, "a repetition of a repetition");
	if (*p == '?')
		p++;
	s->p = p;
	s->repeated = true;
	return 0;
}

static int scan_one(struct scan *s)
{
	bool was = s->repeated;
	s->repeated = false;

	switch (*s->p) {
	case '\\':
		return scan_escape(s);
	case '[':
		return scan_class(s);
	case '(':
		if (s->p[1] == '?')
			return scan_group(s);
		if (s->p[1] == '*')
			return refuse(s, "nothing to repeat");
		s->p++;
		return 0;
	case '*':
	case '+':
	case '?':
	case '{':
		s->repeated = was;
		return scan_repeat(s);
	default:
		s->p++;
		return 0;
	}
}

static int syntax_check(const char *pattern, struct err *err)
{
	struct scan s = { .p = pattern, .pattern = pattern, .err = err };

	if (strlen(pattern) > REGEX_PATTERN_MAX)
		return err_set(err, -EINVAL, "regex: longer than %d bytes", REGEX_PATTERN_MAX);
	while (*s.p) {
		int rc = scan_one(&s);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- compiling */

void regex_free(struct regex *re)
{
	if (!re)
		return;
	pcre2_code_free(re->code);
	free(re->pattern);
	free(re);
}

void regex_freep(struct regex **re)
{
	regex_free(*re);
	*re = NULL;
}

/* Bytes are matched unless the pattern itself speaks of characters beyond ASCII: the same answers for what paths and
 * headers hold, and the breadth-first matcher has no mode for text that may be broken UTF-8. */
static bool wants_utf(const char *pattern)
{
	for (const char *p = pattern; *p; p++)
		if ((unsigned char)*p >= 0x80)
			return true;
	return strstr(pattern, "\\p") || strstr(pattern, "\\P") || strstr(pattern, "\\x{");
}

int regex_new(const char *pattern, bool ignore_case, struct regex **out, struct err *err)
{
	uint32_t options = PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C | PCRE2_NEVER_UCP;
	int code, rc = syntax_check(pattern, err);
	if (rc < 0)
		return rc;

	if (ignore_case)
		options |= PCRE2_CASELESS;
	if (wants_utf(pattern))
		options |= PCRE2_UTF | PCRE2_MATCH_INVALID_UTF;
	AUTO(regex_freep) struct regex *re = calloc(1, sizeof(*re));
	if (!re || !(re->pattern = strdup(pattern)))
		return err_set(err, -ENOMEM, "regex: no memory");
	PCRE2_SIZE at;
	re->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &code, &at, NULL);
	if (!re->code) {
		char text[160] = "";
		pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof(text));
		return err_set(err, -EINVAL, "regex \"%s\": at %zu: %s", pattern, at, text);
	}
	pcre2_pattern_info(re->code, PCRE2_INFO_CAPTURECOUNT, &re->groups);
	*out = TAKE(re);
	return 0;
}

/* --- matching */

struct scratch {
	pcre2_match_data *data;
	pcre2_match_context *limits;
	int workspace[DFA_WORDS];
};

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static bool scratch_usable;

static void scratch_free(void *arg)
{
	struct scratch *s = arg;

	if (!s)
		return;
	pcre2_match_data_free(s->data);
	pcre2_match_context_free(s->limits);
	free(s);
}

static void scratch_key_make(void)
{
	scratch_usable = pthread_key_create(&scratch_key, scratch_free) == 0;
}

/* Of this thread; NULL: no memory. */
static struct scratch *scratch_get(void)
{
	pthread_once(&scratch_once, scratch_key_make);
	if (!scratch_usable)
		return NULL;
	struct scratch *s = pthread_getspecific(scratch_key);
	if (s)
		return s;

	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->data = pcre2_match_data_create(GROUPS_MAX, NULL);
	s->limits = pcre2_match_context_create(NULL);
	if (!s->data || !s->limits || pthread_setspecific(scratch_key, s) != 0) {
		scratch_free(s);
		return NULL;
	}
	pcre2_set_match_limit(s->limits, MATCH_LIMIT);
	pcre2_set_depth_limit(s->limits, DEPTH_LIMIT);
	pcre2_set_heap_limit(s->limits, HEAP_LIMIT_KIB);
	return s;
}

/* 1, 0 or -E2BIG. */
static int matched(const struct regex *re, const char *text, size_t len, uint32_t options)
{
	struct scratch *s = scratch_get();
	if (!s)
		return -E2BIG;

	int rc = pcre2_match(re->code, (PCRE2_SPTR)text, len, 0, options, s->data, s->limits);
	if (rc >= 0)
		return 1;
	if (rc == PCRE2_ERROR_NOMATCH)
		return 0;
	rc = pcre2_dfa_match(re->code, (PCRE2_SPTR)text, len, 0, options, s->data, s->limits, s->workspace, DFA_WORDS);
	return rc >= 0 ? 1 : rc == PCRE2_ERROR_NOMATCH ? 0 : -E2BIG;
}

int regex_match(const struct regex *re, const char *text, size_t len)
{
	return matched(re, text, len, PCRE2_ANCHORED | PCRE2_ENDANCHORED);
}

bool regex_matches(const struct regex *re, const char *text, size_t len)
{
	return regex_match(re, text, len) == 1;
}

int regex_search(const struct regex *re, const char *text, size_t len)
{
	return matched(re, text, len, 0);
}

/* --- substituting */

int regex_substitution_check(const struct regex *re, const char *substitution, struct err *err)
{
	for (const char *p = substitution; *p; p++) {
		if (*p != '\\')
			continue;
		p++;
		if (*p == '\\')
			continue;
		if (*p < '0' || *p > '9')
			return err_set(err, -EINVAL,
				       "substitution \"%s\": a backslash needs a digit or a backslash behind it",
				       substitution);
		if ((uint32_t)(*p - '0') > re->groups)
			return err_set(err, -EINVAL, "substitution \"%s\": the regex \"%s\" has %u groups",
				       substitution, re->pattern, re->groups);
	}
	return 0;
}

static void group_add(struct sb *out, const char *text, const PCRE2_SIZE *at, int groups, int group)
{
	if (group < groups && at[2 * group] != PCRE2_UNSET && at[2 * group + 1] >= at[2 * group])
		sb_add_bytes(out, text + at[2 * group], at[2 * group + 1] - at[2 * group]);
}

static void substitute(struct sb *out, const char *text, const char *substitution, const PCRE2_SIZE *at, int groups)
{
	for (const char *p = substitution; *p && out->len <= REGEX_OUTPUT_MAX; p++) {
		if (*p == '\\' && p[1] >= '0' && p[1] <= '9')
			group_add(out, text, at, groups, *++p - '0');
		else
			sb_add_bytes(out, *p == '\\' && p[1] ? ++p : p, 1);
	}
}

int regex_replace(const struct regex *re, const char *text, size_t len, const char *substitution, char **out)
{
	struct scratch *s = scratch_get();
	AUTO(sb_done) struct sb sb = { 0 };
	size_t from = 0, done = 0;
	bool after_match = false;
	if (!s)
		return -ENOMEM;

	for (int i = 0; from <= len; i++) {
		const PCRE2_SIZE *at = pcre2_get_ovector_pointer(s->data);
		int rc = pcre2_match(re->code, (PCRE2_SPTR)text, len, from, 0, s->data, s->limits);
		if (rc == PCRE2_ERROR_NOMATCH)
			break;
		if (rc < 0 || i >= REPLACEMENTS_MAX || sb.len > REGEX_OUTPUT_MAX)
			return -E2BIG;
		bool empty = at[0] == at[1];
		if (!(empty && after_match && at[0] == done)) { /* RE2: no empty match right behind a match */
			sb_add_bytes(&sb, text + done, at[0] - done);
			substitute(&sb, text, substitution, at, rc ? rc : GROUPS_MAX);
			done = at[1];
			after_match = true;
		}
		from = empty ? at[1] + 1 : at[1];
	}
	if (sb.len + (len - done) > REGEX_OUTPUT_MAX)
		return -E2BIG;
	sb_add_bytes(&sb, text + done, len - done);
	*out = sb_take(&sb);
	return *out ? 0 : -ENOMEM;
}
