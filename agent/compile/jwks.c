/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/compile.h"
#include "agent/compile/dirty.h"
#include "agent/compile/filters.h"

const char *jwks_get(const struct compiler *c, const char *uri)
{
	return c->jwks.keys ? table_get_str(c->jwks.keys, uri) : NULL;
}

static bool is_same(const struct compiler *c, const struct compile_input *in)
{
	if ((c->jwks.keys ? table_count(c->jwks.keys) : 0) != in->jwks_count)
		return false;
	for (size_t i = 0; i < in->jwks_count; i++)
		if (!str_eq(jwks_get(c, in->jwks[i].uri), in->jwks[i].keys))
			return false;
	return true;
}

int jwks_update(struct compiler *c, const struct compile_input *in)
{
	if (is_same(c, in))
		return 0;
	AUTO(table_freep) struct table *keys = table_new(free);
	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < in->jwks_count; i++) {
		char *copy = strdup(in->jwks[i].keys);
		if (!copy || table_set_str(keys, in->jwks[i].uri, copy) < 0) {
			free(copy);
			return -ENOMEM;
		}
	}
	table_free(c->jwks.keys);
	c->jwks.keys = TAKE(keys);
	return dirty_locals(c, NULL);
}

/* --- which are wanted: those of this node's workloads */

static void wanted_done(struct compile_jwks_want *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(v[i].uri);
	free(v);
}

static int on_uri_cmp(const void *a, const void *b)
{
	return strcmp(((const struct compile_jwks_want *)a)->uri, ((const struct compile_jwks_want *)b)->uri);
}

struct wanted {
	struct compile_jwks_want *v;
	size_t n, cap;
};

static int want(struct wanted *w, const struct jwt_rule *rule)
{
	size_t k = 0;

	while (k < w->n && !str_eq(w->v[k].uri, rule->jwks_uri))
		k++;
	if (k == w->n) {
		if (mem_reserve(&w->v, &w->cap, w->n + 1, sizeof(*w->v)) < 0)
			return -ENOMEM;
		w->v[k] = (struct compile_jwks_want){ .uri = strdup(rule->jwks_uri) };
		if (!w->v[k].uri)
			return -ENOMEM;
		w->n++;
	}
	if (rule->jwks_timeout_ms > w->v[k].timeout_ms)
		w->v[k].timeout_ms = rule->jwks_timeout_ms;
	return 0;
}

static int workload_wants(struct wanted *w, const struct http_filters *f)
{
	int rc = 0;

	for (size_t i = 0; f && i < f->jwt_count && rc == 0; i++)
		if (f->jwt[i].jwks_uri)
			rc = want(w, &f->jwt[i]);
	return rc;
}

int jwks_wanted_update(struct compiler *c)
{
	struct wanted w = { 0 };

	for (size_t i = 0; i < c->locals.n; i++) {
		const struct workload *object = ((struct workload_node *)c->locals.v[i])->object;
		if (object && workload_wants(&w, object->inbound) < 0) {
			wanted_done(w.v, w.n);
			return -ENOMEM;
		}
	}
	if (w.n)
		qsort(w.v, w.n, sizeof(*w.v), on_uri_cmp);
	wanted_done(c->jwks.wanted, c->jwks.wanted_count);
	c->jwks.wanted = w.v;
	c->jwks.wanted_count = w.n;
	return 0;
}

void jwks_done(struct compiler *c)
{
	table_free(c->jwks.keys);
	wanted_done(c->jwks.wanted, c->jwks.wanted_count);
	c->jwks = (struct jwks_state){ 0 };
}

const struct compile_jwks_want *compiler_jwks(const struct compiler *c, size_t *count)
{
	*count = c->jwks.wanted_count;
	return c->jwks.wanted;
}
