/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/str.h"
#include "agent/model/policy.h"

int match_string_init(struct match_string *out, const char *pattern)
{
	size_t len = strlen(pattern);
	enum match_kind kind = MATCH_EXACT;

	if (len == 1 && pattern[0] == '*') {
		kind = MATCH_PRESENT;
		pattern++;
		len--;
	} else if (len && pattern[0] == '*') { /* Istio looks at the leading star first: "*a*" ends in "a*" */
		kind = MATCH_SUFFIX;
		pattern++;
		len--;
	} else if (len && pattern[len - 1] == '*') {
		kind = MATCH_PREFIX;
		len--;
	}
	char *text = strndup(pattern, len);
	if (!text)
		return -ENOMEM;
	*out = (struct match_string){ .kind = kind, .text = text };
	return 0;
}

int match_path_init(struct match_string *out, const char *pattern)
{
	if (!strchr(pattern, '{'))
		return match_string_init(out, pattern);
	char *text = strdup(pattern);
	if (!text)
		return -ENOMEM;
	*out = (struct match_string){ .kind = MATCH_TEMPLATE, .text = text };
	return 0;
}

/* Segments of a template without {**} against n bytes: {*} is one segment that is not empty. */
static bool segments_hold(const char *t, size_t tn, const char *p, size_t n)
{
	while (tn) {
		if (tn >= 3 && memcmp(t, "{*}", 3) == 0) {
			const char *slash = memchr(p, '/', n);
			size_t len = slash ? (size_t)(slash - p) : n;
			if (!len)
				return false;
			t += 3;
			tn -= 3;
			p += len;
			n -= len;
			continue;
		}
		if (!n || *t != *p)
			return false;
		t++;
		tn--;
		p++;
		n--;
	}
	return n == 0;
}

/* Where the last `slashes` slashes of p begin; NULL: it has not so many. */
static const char *tail_begin(const char *p, size_t n, size_t slashes)
{
	const char *at = p + n;

	for (; slashes; slashes--) {
		at = memrchr(p, '/', (size_t)(at - p));
		if (!at)
			return NULL;
	}
	return at;
}

/* What follows {**} has as many slashes as written, as {*} spans none: so its place is known without trying. */
static bool template_holds(const char *t, const char *p, size_t n)
{
	const char *any = strstr(t, "{**}");
	if (!any)
		return segments_hold(t, strlen(t), p, n);

	const char *tail = any + 4;
	size_t slashes = 0, heads = 0;
	for (const char *c = tail; *c; c++)
		slashes += *c == '/';
	const char *tail_at = tail_begin(p, n, slashes);
	if (!tail_at || !segments_hold(tail, strlen(tail), tail_at, (size_t)(p + n - tail_at)))
		return false;

	/* The head ends with the slash before {**}: the same from the left. */
	for (const char *c = t; c < any; c++)
		heads += *c == '/';
	const char *at = p;
	for (; heads; heads--) {
		at = memchr(at, '/', (size_t)(p + n - at));
		if (!at)
			return false;
		at++;
	}
	return at <= tail_at && segments_hold(t, (size_t)(any - t), p, (size_t)(at - p));
}

static bool bytes_eq(const char *a, const char *b, size_t n, bool ignore_case)
{
	return ignore_case ? strncasecmp(a, b, n) == 0 : memcmp(a, b, n) == 0;
}

bool match_string_holds(const struct match_string *m, const char *p, size_t n, bool ignore_case)
{
	if (!p)
		return false;
	if (m->kind == MATCH_PRESENT)
		return true;
	if (m->kind == MATCH_TEMPLATE)
		return template_holds(m->text, p, n);

	size_t len = strlen(m->text);
	if (n < len || (m->kind == MATCH_EXACT && n != len))
		return false;
	return bytes_eq(m->kind == MATCH_SUFFIX ? p + n - len : p, m->text, len, ignore_case);
}

bool match_strings_hold(const struct match_strings *s, const char *p, size_t n, bool ignore_case)
{
	for (size_t i = 0; i < s->n; i++)
		if (match_string_holds(&s->v[i], p, n, ignore_case))
			return true;
	return false;
}

bool match_string_matches(const struct match_string *m, const char *text)
{
	if (!*text) /* an absent name: no pattern means absence */
		return false;
	switch (m->kind) {
	case MATCH_EXACT:
		return strcmp(m->text, text) == 0;
	case MATCH_PREFIX:
		return str_starts(text, m->text);
	case MATCH_SUFFIX:
		return str_ends(text, m->text);
	case MATCH_PRESENT:
		return true;
	case MATCH_TEMPLATE:
		return template_holds(m->text, text, strlen(text));
	}
	return false;
}
