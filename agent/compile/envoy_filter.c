/* SPDX-License-Identifier: Apache-2.0 */
/* EnvoyFilters of a workload -> its limits and scripts: those of the root namespace, then of its own, by priority, then by
 * name, each with its patches in order. What a patch means was found out when the document was read (config/envoy_patch.h),
 * so nothing here is refused. Actions of a route go to all limits that bring none, once all limits are known. And the limit
 * that an annotation of the workload asks for without any EnvoyFilter. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/compile/envoy_filter.h"

static const char annotation[] = "weft.dev/local-rate-limit";

char *taking_text(struct taking *t, const char *from)
{
	char *copy = from ? strdup(from) : NULL;
	t->failed |= from && !copy;
	return copy;
}

char *taking_lower(struct taking *t, const char *from)
{
	char *copy = taking_text(t, from);
	for (char *p = copy; p && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return copy;
}

void *taking_room(struct taking *t, const struct node *list, size_t size)
{
	size_t n = list && list->type == NODE_LIST ? list->count : 0;
	void *p = n ? calloc(n, size) : NULL;
	t->failed |= n && !p;
	return p;
}

char *taking_vhost(struct taking *t, const struct envoy_patch *p)
{
	return t->side == ENVOY_OUTBOUND ? taking_text(t, p->vhost) : NULL;
}

/* --- documents */

static void patch_take(struct taking *t, const struct envoy_patch *p)
{
	if (t->limits_known) {
		taking_route_actions(t, p);
		return;
	}
	if (p->kind == ENVOY_LUA)
		taking_script(t, p);
	else if (p->kind == ENVOY_LOCAL_LIMIT)
		taking_local_limit(t, p);
	else if (p->kind == ENVOY_GLOBAL_LIMIT)
		taking_global_limit(t, p);
	taking_lua_routes(t, p);
}

static bool selects(const struct taking *t)
{
	const struct envoy_filter_spec *spec = t->r->spec.envoy_filter;
	const struct string_map *labels = spec->workload_selector ? &spec->workload_selector->labels : NULL;

	if (spec->target_refs.n) {
		NOTE(t->of->notes, FINDING_INFO, t->r, "targetRefs are about gateways and waypoints: no effect here");
		return false;
	}
	return !labels || !labels->n || labels_selected(labels, t->of->labels, t->of->label_count);
}

static int64_t priority_of(const struct resource *r)
{
	const struct node *priority = r->spec.envoy_filter->priority;
	return priority ? priority->i : 0;
}

/* By name where priorities are the same: files have no age. */
static int by_priority(const void *left, const void *right)
{
	const struct resource *a = *(struct resource *const *)left, *b = *(struct resource *const *)right;
	int64_t first = priority_of(a), second = priority_of(b);
	return first != second ? (first < second ? -1 : 1) : strcmp(a->key, b->key);
}

static void document_take(struct taking *t)
{
	const struct node *n = selects(t) ? FIRST(t->r->spec.envoy_filter->config_patches) : NULL;

	for (t->index = 0; n && !t->failed; n = n->next, t->index++) {
		struct envoy_patch patch;
		char why[200];
		if (envoy_patch_read(n, &patch, why, sizeof(why)) == 0 && (patch.sides & t->side))
			patch_take(t, &patch);
	}
}

static void namespace_take(struct taking *t, const char *ns)
{
	struct resource_range range = inventory_range(t->of->c, KIND_ENVOY_FILTER, ns);
	const struct resource **sorted = range.n ? calloc(range.n, sizeof(struct resource *)) : NULL;

	t->failed |= range.n && !sorted;
	if (!sorted)
		return;
	for (size_t i = 0; i < range.n; i++)
		sorted[i] = range.v[i];
	qsort(sorted, range.n, sizeof(struct resource *), by_priority);
	for (size_t i = 0; i < range.n && !t->failed; i++) {
		t->r = sorted[i];
		document_take(t);
	}
	free(sorted);
}

static void documents_take(struct taking *t)
{
	const char *root = t->of->c->mesh.root_namespace;

	if (!str_eq(root, t->of->ns))
		namespace_take(t, root);
	namespace_take(t, t->of->ns);
}

static int envoy_filters_take(const struct filters_of *of, struct http_filters *f, unsigned int side)
{
	struct taking t = { .of = of, .f = f, .side = side };

	documents_take(&t);
	for (size_t i = 0; i < f->limit_count && !t.failed && t.sources; i++)
		t.sources[i].own_actions = f->limits[i].action_count > 0;
	t.limits_known = true;
	if (f->limit_count && !t.failed)
		documents_take(&t);
	if (!t.failed) {
		taking_limits_look(&t);
		taking_lua_look(&t);
	}
	free(t.sources);
	free(t.lua_sources);
	return t.failed ? -ENOMEM : 0;
}

/* --- the annotation */

/* "100/60s", or with a bucket that holds more than one fill: "1000 burst, 100/60s". */
static bool annotation_read(const char *value, struct token_bucket *to)
{
	char copy[128], *rate = copy, *slash;
	uint64_t burst = 0, fill, ns;

	if (!str_copy(copy, sizeof(copy), value))
		return false;
	char *comma = strchr(copy, ',');
	if (comma) {
		char *word = strstr(copy, " burst");
		if (!word || word + strlen(" burst") != comma)
			return false;
		*word = '\0';
		rate = comma + 1 + strspn(comma + 1, " ");
		if (str_to_u64(copy, UINT32_MAX, &burst) < 0 || !burst)
			return false;
	}
	slash = strchr(rate, '/');
	if (!slash)
		return false;
	*slash = '\0';
	if (str_to_u64(rate, UINT32_MAX, &fill) < 0 || !fill || str_to_duration_ns(slash + 1, &ns) < 0 || ns < 50000000)
		return false;
	*to = (struct token_bucket){ .max_tokens = (uint32_t)(burst ? burst : fill),
				     .tokens_per_fill = (uint32_t)fill,
				     .fill_interval_ms = ns / 1000000 };
	return true;
}

static int annotation_take(const struct filters_of *of, struct http_filters *f)
{
	const char *value = string_map_get(&of->r->annotations, annotation);
	struct taking t = { .of = of, .f = f, .r = of->r };
	struct rate_limit *l = value ? taking_limit_add(&t) : NULL;
	free(t.sources);
	if (!l)
		return t.failed ? -ENOMEM : 0;
	l->has_bucket = true;
	if (!annotation_read(value, &l->bucket)) {
		l->bucket = (struct token_bucket){ .fill_interval_ms = 1000 };
		NOTE(of->notes, FINDING_ERROR, of->r,
		     "%s: \"%s\" is not a limit as in \"100/60s\" or \"1000 burst, 100/60s\" (at least 50ms): all HTTP "
		     "requests are refused until it is",
		     annotation, value);
	}
	return t.failed ? -ENOMEM : 0;
}

void envoy_filter_look(const struct resource *r, struct notes *notes)
{
	const struct node *n = FIRST(r->spec.envoy_filter->config_patches);

	for (size_t i = 0; n; n = n->next, i++) {
		struct envoy_patch patch;
		char why[200];
		if (envoy_patch_read(n, &patch, why, sizeof(why)) == 0 && !patch.sides)
			NOTE(notes, FINDING_WARNING, r,
			     "configPatches[%zu] is for gateways (match.context GATEWAY), and there are none: it has "
			     "no "
			     "effect",
			     i);
	}
}

int envoy_filter_inbound(const struct filters_of *of, struct http_filters *f)
{
	int rc = envoy_filters_take(of, f, ENVOY_INBOUND);
	return rc == 0 && of->r ? annotation_take(of, f) : rc;
}

int envoy_filter_outbound(const struct filters_of *of, struct http_filters *f)
{
	return envoy_filters_take(of, f, ENVOY_OUTBOUND);
}
