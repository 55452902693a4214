/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/condition.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"

static void strings_free(struct match_strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].text);
	free(s->v);
	*s = (struct match_strings){ 0 };
}

int condition_not_strings(struct match_strings *to, const struct string_list *values)
{
	if (!values->n)
		return 0;
	struct match_string *grown = reallocarray(to->v, to->n + values->n, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	to->v = grown;
	for (size_t i = 0; i < values->n; i++) {
		if (match_string_init(&to->v[to->n], values->v[i]) < 0)
			return -ENOMEM;
		to->n++;
	}
	return 0;
}

/* Which of a and b matches just what both match. NULL: none does, and *inexact tells whether anything could. */
static const struct match_string *both(const struct match_string *a, const struct match_string *b, bool *inexact)
{
	if (a->kind == MATCH_PRESENT)
		return b;
	if (b->kind == MATCH_PRESENT)
		return a;
	if (a->kind == MATCH_EXACT)
		return match_string_matches(b, a->text) ? a : NULL;
	if (b->kind == MATCH_EXACT)
		return match_string_matches(a, b->text) ? b : NULL;
	if (a->kind != b->kind) {
		*inexact = true;
		return NULL;
	}
	bool (*extends)(const char *text, const char *part) = a->kind == MATCH_PREFIX ? str_starts : str_ends;
	return extends(a->text, b->text) ? a : extends(b->text, a->text) ? b : NULL;
}

int condition_strings(struct match_strings *to, const struct string_list *values, bool widen)
{
	if (!values->n)
		return CONDITION_OK;
	if (!to->n)
		return condition_not_strings(to, values);

	struct match_strings more = { 0 }, result = { 0 };
	bool any_inexact = false;
	if (condition_not_strings(&more, values) < 0)
		goto no_memory;
	result.v = calloc(to->n * more.n, sizeof(*result.v));
	if (!result.v)
		goto no_memory;
	for (size_t i = 0; i < to->n * more.n; i++) {
		const struct match_string *a = &to->v[i / more.n], *b = &more.v[i % more.n];
		bool inexact = false;
		const struct match_string *kept = both(a, b, &inexact);
		any_inexact |= inexact;
		if (inexact && widen)
			kept = a;
		if (!kept)
			continue;
		result.v[result.n] = (struct match_string){ kept->kind, strdup(kept->text) };
		if (!result.v[result.n].text)
			goto no_memory;
		result.n++;
	}
	strings_free(&more);
	strings_free(to);
	*to = result;
	return any_inexact ? CONDITION_INEXACT : result.n ? CONDITION_OK : CONDITION_NEVER;
no_memory:
	strings_free(&more);
	strings_free(&result);
	return -ENOMEM;
}

int condition_not_cidrs(struct match_cidrs *to, const struct cidr *values, size_t n)
{
	if (!n)
		return 0;
	struct cidr *grown = reallocarray(to->v, to->n + n, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	to->v = grown;
	memcpy(to->v + to->n, values, n * sizeof(*values));
	to->n += n;
	return 0;
}

/* Two ranges nest or are disjoint. */
int condition_cidrs(struct match_cidrs *to, const struct cidr *values, size_t n)
{
	if (!n)
		return CONDITION_OK;
	if (!to->n)
		return condition_not_cidrs(to, values, n);

	struct cidr *result = calloc(to->n * n, sizeof(*result));
	size_t count = 0;
	if (!result)
		return -ENOMEM;
	for (size_t i = 0; i < to->n * n; i++) {
		const struct cidr *a = &to->v[i / n], *b = &values[i % n];
		const struct cidr *narrow = a->bits >= b->bits ? a : b, *wide = narrow == a ? b : a;
		if (cidr_contains(wide, &narrow->addr))
			result[count++] = *narrow;
	}
	free(to->v);
	*to = (struct match_cidrs){ result, count };
	return count ? CONDITION_OK : CONDITION_NEVER;
}

int condition_not_ports(struct match_ports *to, const struct string_list *values)
{
	if (!values->n)
		return 0;
	uint16_t *grown = reallocarray(to->v, to->n + values->n, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	to->v = grown;
	for (size_t i = 0; i < values->n; i++) {
		uint64_t port;
		if (str_to_u64(values->v[i], UINT16_MAX, &port) == 0) /* validated when it was decoded */
			to->v[to->n++] = (uint16_t)port;
	}
	return 0;
}

int condition_ports(struct match_ports *to, const struct string_list *values)
{
	if (!values->n)
		return CONDITION_OK;
	struct match_ports more = { 0 };
	if (condition_not_ports(&more, values) < 0)
		return -ENOMEM;
	if (!to->n) {
		free(to->v);
		*to = more;
		return more.n ? CONDITION_OK : CONDITION_NEVER;
	}

	size_t kept = 0;
	for (size_t i = 0; i < to->n; i++)
		for (size_t k = 0; k < more.n; k++)
			if (to->v[i] == more.v[k]) {
				to->v[kept++] = to->v[i];
				break;
			}
	to->n = kept;
	free(more.v);
	return kept ? CONDITION_OK : CONDITION_NEVER;
}
