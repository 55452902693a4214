/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/diff.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

enum { CONTEXT = 3, TABLE_MAX = 4 << 20 };

struct line {
	const char *text;
	size_t len;
	uint64_t hash;
};

struct lines {
	struct line *v;
	size_t n, cap;
};

/* One line of the result: of a, of b, or of both. */
struct edit {
	char mark; /* ' ', '-', '+' */
	const struct line *line;
};

struct edits {
	struct edit *v;
	size_t n, cap;
	bool failed;
};

static bool lines_cut(struct lines *l, const char *text)
{
	while (text && *text) {
		size_t len = strcspn(text, "\n");
		if (mem_reserve(&l->v, &l->cap, l->n + 1, sizeof(*l->v)) < 0)
			return false;
		l->v[l->n++] = (struct line){ .text = text, .len = len, .hash = hash64(HASH64_INIT, text, len) };
		text += len + (text[len] == '\n');
	}
	return true;
}

static bool line_eq(const struct line *a, const struct line *b)
{
	return a->hash == b->hash && a->len == b->len && !memcmp(a->text, b->text, a->len);
}

static void edit_add(struct edits *e, char mark, const struct line *line)
{
	if (e->failed || mem_reserve(&e->v, &e->cap, e->n + 1, sizeof(*e->v)) < 0) {
		e->failed = true;
		return;
	}
	e->v[e->n++] = (struct edit){ mark, line };
}

static void edits_replace(struct edits *e, const struct line *a, size_t n, const struct line *b, size_t m)
{
	for (size_t i = 0; i < n; i++)
		edit_add(e, '-', &a[i]);
	for (size_t i = 0; i < m; i++)
		edit_add(e, '+', &b[i]);
}

/* The middle, without common start and end: longest common subsequence by table. */
static void edits_middle(struct edits *e, const struct line *a, size_t n, const struct line *b, size_t m)
{
	AUTO(mem_freep) uint32_t *lcs = (n + 1) * (m + 1) <= TABLE_MAX ? calloc((n + 1) * (m + 1), sizeof(*lcs)) : NULL;
	if (!lcs || !n || !m) {
		edits_replace(e, a, n, b, m);
		return;
	}
	size_t width = m + 1;
	for (size_t i = n; i-- > 0;) {
		for (size_t j = m; j-- > 0;) {
			uint32_t down = lcs[(i + 1) * width + j], right = lcs[i * width + j + 1];
			lcs[i * width + j] = line_eq(&a[i], &b[j]) ? lcs[(i + 1) * width + j + 1] + 1 :
					     down > right	   ? down :
								     right;
		}
	}
	size_t i = 0, j = 0;
	while (i < n || j < m) {
		if (i < n && j < m && line_eq(&a[i], &b[j])) {
			edit_add(e, ' ', &a[i++]);
			j++;
		} else if (i < n && (j == m || lcs[(i + 1) * width + j] >= lcs[i * width + j + 1])) {
			edit_add(e, '-', &a[i++]);
		} else {
			edit_add(e, '+', &b[j++]);
		}
	}
}

static void edits_make(struct edits *e, const struct lines *a, const struct lines *b)
{
	size_t head = 0, tail = 0;
	while (head < a->n && head < b->n && line_eq(&a->v[head], &b->v[head]))
		head++;
	while (tail < a->n - head && tail < b->n - head && line_eq(&a->v[a->n - 1 - tail], &b->v[b->n - 1 - tail]))
		tail++;
	for (size_t i = 0; i < head; i++)
		edit_add(e, ' ', &a->v[i]);
	edits_middle(e, a->n ? a->v + head : NULL, a->n - head - tail, b->n ? b->v + head : NULL, b->n - head - tail);
	for (size_t i = a->n - tail; i < a->n; i++)
		edit_add(e, ' ', &a->v[i]);
}

/* The end of the hunk that begins at `from`: where CONTEXT unchanged lines have passed and no change is near. */
static size_t hunk_end(const struct edits *e, size_t from)
{
	size_t last = from;
	for (size_t i = from; i < e->n && i <= last + 2 * CONTEXT; i++)
		if (e->v[i].mark != ' ')
			last = i;
	return last + CONTEXT + 1 < e->n ? last + CONTEXT + 1 : e->n;
}

static void hunk_print(struct sb *out, const struct edits *e, size_t from, size_t to, size_t line_a, size_t line_b)
{
	size_t count_a = 0, count_b = 0;
	for (size_t i = from; i < to; i++) {
		count_a += e->v[i].mark != '+';
		count_b += e->v[i].mark != '-';
	}
	sb_addf(out, "@@ -%zu,%zu +%zu,%zu @@\n", count_a ? line_a : line_a - 1, count_a, count_b ? line_b : line_b - 1,
		count_b);
	for (size_t i = from; i < to; i++) {
		sb_add_bytes(out, &e->v[i].mark, 1);
		sb_add_bytes(out, e->v[i].line->text, e->v[i].line->len);
		sb_add(out, "\n");
	}
}

static void edits_print(struct sb *out, const struct edits *e)
{
	size_t line_a = 1, line_b = 1, at = 0;
	for (size_t i = 0; i < e->n; i++) {
		if (e->v[i].mark == ' ')
			continue;
		size_t from = i > at + CONTEXT ? i - CONTEXT : at, to = hunk_end(e, i);
		for (; at < from; at++, line_a++, line_b++)
			;
		hunk_print(out, e, from, to, line_a, line_b);
		for (; at < to; at++) {
			line_a += e->v[at].mark != '+';
			line_b += e->v[at].mark != '-';
		}
		i = to - 1;
	}
}

void diff_unified(struct sb *out, const char *a, const char *b, const char *name_a, const char *name_b)
{
	struct lines lines_a = { 0 }, lines_b = { 0 };
	struct edits edits = { 0 };
	if (lines_cut(&lines_a, a) && lines_cut(&lines_b, b))
		edits_make(&edits, &lines_a, &lines_b);
	else
		out->failed = true;
	bool differ = false;
	for (size_t i = 0; i < edits.n && !differ; i++)
		differ = edits.v[i].mark != ' ';
	if (edits.failed)
		out->failed = true;
	if (differ) {
		sb_addf(out, "--- %s\n+++ %s\n", a ? name_a : "/dev/null", b ? name_b : "/dev/null");
		edits_print(out, &edits);
	}
	free(edits.v);
	free(lines_a.v);
	free(lines_b.v);
}
