/* SPDX-License-Identifier: Apache-2.0 */
/* Rate limits of EnvoyFilters -> a workload's limits. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/compile/envoy_filter.h"

enum { ALL_PPM = 1000000, GLOBAL_TIMEOUT_MS = 20, TOO_MANY_REQUESTS = 429 };

static bool flag_of(const struct node *map, const char *name, bool otherwise)
{
	const struct node *n = envoy_get(map, name);
	return n && n->type == NODE_BOOL ? n->b : otherwise;
}

static const char *text_of(const struct node *map, const char *name)
{
	const struct node *n = envoy_get(map, name);
	return n && n->type == NODE_STRING ? n->text : NULL;
}

/* --- what makes descriptors */

static void matcher_copy(struct taking *t, const struct node *from, struct http_field_match *to)
{
	static const struct {
		const char *old, *now;
		enum http_text_kind kind;
	} kinds[] = { { "exact_match", "exact", HTTP_TEXT_EXACT },
		      { "prefix_match", "prefix", HTTP_TEXT_PREFIX },
		      { "suffix_match", "suffix", HTTP_TEXT_SUFFIX } };
	const struct node *string = envoy_get(from, "string_match");
	const struct node *regex = string ? envoy_get(string, "safe_regex") : envoy_get(from, "safe_regex_match");

	to->name = taking_lower(t, text_of(from, "name"));
	to->invert = flag_of(from, "invert_match", false);
	to->value.kind = HTTP_TEXT_PRESENT;
	to->value.ignore_case = flag_of(string, "ignore_case", false);
	if (regex) {
		to->value.kind = HTTP_TEXT_REGEX;
		to->value.text = taking_text(t, text_of(regex, "regex"));
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && !regex; i++) {
		const char *value = string ? text_of(string, kinds[i].now) : text_of(from, kinds[i].old);
		if (!value)
			continue;
		to->value.kind = kinds[i].kind;
		to->value.text = taking_text(t, value);
		break;
	}
}

static bool is_kind(const struct node *action, const char *kind)
{
	return envoy_get(action, kind) != NULL;
}

static void action_copy(struct taking *t, const struct node *from, struct limit_action *to)
{
	const struct node *what = from->first, *headers = node_get(what, "headers");
	const char *key = text_of(what, "descriptor_key");

	*to = (struct limit_action){ .expect_match = true };
	to->kind = is_kind(from, "request_headers")	? LIMIT_REQUEST_HEADER :
		   is_kind(from, "remote_address")	? LIMIT_REMOTE_ADDRESS :
		   is_kind(from, "generic_key")		? LIMIT_GENERIC_KEY :
		   is_kind(from, "header_value_match")	? LIMIT_HEADER_VALUE_MATCH :
		   is_kind(from, "destination_cluster") ? LIMIT_DESTINATION_CLUSTER :
							  LIMIT_SOURCE_CLUSTER;
	static const char *const keys[] = { [LIMIT_REQUEST_HEADER] = "",
					    [LIMIT_REMOTE_ADDRESS] = "remote_address",
					    [LIMIT_GENERIC_KEY] = "generic_key",
					    [LIMIT_HEADER_VALUE_MATCH] = "header_match",
					    [LIMIT_DESTINATION_CLUSTER] = "destination_cluster",
					    [LIMIT_SOURCE_CLUSTER] = "source_cluster" };
	to->key = taking_text(t, key && *key ? key : keys[to->kind]);
	to->value = taking_text(t, text_of(what, "descriptor_value"));
	to->header = taking_lower(t, text_of(what, "header_name"));
	to->skip_if_absent = flag_of(what, "skip_if_absent", false);
	to->expect_match = flag_of(what, "expect_match", true);
	to->matches = taking_room(t, headers, sizeof(*to->matches));
	for (const struct node *h = to->matches ? FIRST(headers) : NULL; h; h = h->next)
		matcher_copy(t, h, &to->matches[to->match_count++]);
}

/* of: whose requests they are for; NULL: all. */
static void actions_append(struct taking *t, const struct node *list, const struct envoy_patch *of,
			   struct rate_limit *l)
{
	for (const struct node *one = FIRST(list); one && !t->failed; one = one->next) {
		const struct node *actions = node_get(one, "actions");
		struct limit_actions *grown = reallocarray(l->actions, l->action_count + 1, sizeof(*grown));
		t->failed |= !grown;
		if (!grown)
			return;
		l->actions = grown;
		struct limit_actions *to = &grown[l->action_count++];
		*to = (struct limit_actions){ .route = taking_text(t, of ? of->route : NULL),
					      .vhost = of ? taking_vhost(t, of) : NULL,
					      .port = of ? of->port : 0 };
		to->v = taking_room(t, actions, sizeof(*to->v));
		for (const struct node *a = to->v ? FIRST(actions) : NULL; a; a = a->next)
			action_copy(t, a, &to->v[to->n++]);
	}
}

/* --- limits */

struct rate_limit *taking_limit_add(struct taking *t)
{
	struct rate_limit *grown = reallocarray(t->f->limits, t->f->limit_count + 1, sizeof(*grown));
	if (grown)
		t->f->limits = grown;
	struct limit_source *sources = reallocarray(t->sources, t->f->limit_count + 1, sizeof(*sources));
	if (sources)
		t->sources = sources;
	t->failed |= !grown || !sources;
	if (t->failed)
		return NULL;
	sources[t->f->limit_count] = (struct limit_source){ .r = t->r, .index = t->index };
	struct rate_limit *l = &grown[t->f->limit_count++];
	*l = (struct rate_limit){ .status = TOO_MANY_REQUESTS,
				  .enabled = { ALL_PPM },
				  .enforced = { ALL_PPM },
				  .name = str_format("%s[%zu]", t->r->key, t->index),
				  .origin = taking_text(t, t->r->origin) };
	t->failed |= !l->name;
	return l;
}

static bool bucket_copy(const struct node *from, struct token_bucket *to)
{
	uint64_t max = 0, fill = 1;

	if (!from)
		return false;
	envoy_number(envoy_get(from, "max_tokens"), &max);
	if (envoy_get(from, "tokens_per_fill"))
		envoy_number(envoy_get(from, "tokens_per_fill"), &fill);
	envoy_duration_ms(envoy_get(from, "fill_interval"), &to->fill_interval_ms);
	to->max_tokens = (uint32_t)max;
	to->tokens_per_fill = (uint32_t)fill;
	return true;
}

static void descriptors_copy(struct taking *t, const struct node *list, struct rate_limit *l)
{
	l->descriptors = taking_room(t, list, sizeof(*l->descriptors));
	for (const struct node *from = l->descriptors ? FIRST(list) : NULL; from; from = from->next) {
		struct limit_descriptor *to = &l->descriptors[l->descriptor_count++];
		const struct node *entries = node_get(from, "entries");
		bucket_copy(envoy_get(from, "token_bucket"), &to->bucket);
		to->entries = taking_room(t, entries, sizeof(*to->entries));
		for (const struct node *e = to->entries ? FIRST(entries) : NULL; e; e = e->next) {
			struct limit_entry *entry = &to->entries[to->entry_count++];
			const char *value = text_of(e, "value");
			entry->key = taking_text(t, text_of(e, "key"));
			entry->value = taking_text(t, value && *value ? value : NULL);
		}
	}
}

/* {default_value: {numerator, denominator}}; absent is nothing at all, which surprises people. */
static struct http_fraction share_of(struct taking *t, const struct node *config, const char *name)
{
	const struct node *share = envoy_get(config, name), *value = envoy_get(share, "default_value");
	const char *of = text_of(value, "denominator");
	uint64_t numerator = 0;

	if (!share)
		NOTE(t->of->notes, FINDING_WARNING, t->r,
		     "configPatches[%zu]: %s is not set, which is 0 %%, as in Envoy: %s", t->index, name,
		     strstr(name, "enabled") ? "no request is counted" : "nothing is refused");
	envoy_number(node_get(value, "numerator"), &numerator);
	uint64_t each = str_eq(of, "MILLION") ? 1 : str_eq(of, "TEN_THOUSAND") ? 100 : 10000;
	return (struct http_fraction){ numerator > ALL_PPM / each ? ALL_PPM : (uint32_t)(numerator * each) };
}

static void response_copy(struct taking *t, const struct node *list, struct http_header_ops *ops)
{
	ops->set = taking_room(t, list, sizeof(*ops->set));
	ops->add = taking_room(t, list, sizeof(*ops->add));
	for (const struct node *n = ops->set && ops->add ? FIRST(list) : NULL; n; n = n->next) {
		const char *action = text_of(n, "append_action");
		bool set = !flag_of(n, "append", true) || str_eq(action, "OVERWRITE_IF_EXISTS_OR_ADD");
		struct http_header_value *to = set ? &ops->set[ops->set_count++] : &ops->add[ops->add_count++];
		to->name = taking_lower(t, text_of(node_get(n, "header"), "key"));
		to->value = taking_text(t, text_of(node_get(n, "header"), "value"));
	}
}

void taking_local_limit(struct taking *t, const struct envoy_patch *p)
{
	struct rate_limit *l = taking_limit_add(t);
	if (!l)
		return;
	uint32_t status = envoy_status(node_get(node_get(p->config, "status"), "code"));

	l->route = taking_text(t, p->route);
	l->vhost = taking_vhost(t, p);
	l->port = p->port;
	l->per_route = p->per_route;
	l->has_bucket = bucket_copy(envoy_get(p->config, "token_bucket"), &l->bucket);
	l->spare_bucket = !flag_of(p->config, "always_consume_default_token_bucket", true);
	descriptors_copy(t, node_get(p->config, "descriptors"), l);
	/* A filter that only makes room for what routes say has neither. */
	if (l->has_bucket || l->descriptor_count) {
		l->enabled = share_of(t, p->config, "filter_enabled");
		l->enforced = share_of(t, p->config, "filter_enforced");
	}
	l->status = status >= 400 ? status : TOO_MANY_REQUESTS;
	l->grpc_exhausted = flag_of(p->config, "rate_limited_as_resource_exhausted", false);
	l->x_ratelimit_headers = str_eq(text_of(p->config, "enable_x_ratelimit_headers"), "DRAFT_VERSION_03");
	response_copy(t, envoy_get(p->config, "response_headers_to_add"), &l->response);
	actions_append(t, envoy_get(p->config, "rate_limits"), NULL, l);
}

void taking_global_limit(struct taking *t, const struct envoy_patch *p)
{
	const struct node *grpc = envoy_get(envoy_get(p->config, "rate_limit_service"), "grpc_service");
	struct rate_limit *l = taking_limit_add(t);
	uint64_t timeout = GLOBAL_TIMEOUT_MS;
	if (!l)
		return;
	if (envoy_get(p->config, "timeout"))
		envoy_duration_ms(envoy_get(p->config, "timeout"), &timeout);
	l->global = true;
	l->port = p->port;
	l->timeout_ms = timeout < 1 ? 1 : timeout > UINT32_MAX ? UINT32_MAX : (uint32_t)timeout;
	l->domain = taking_text(t, text_of(p->config, "domain"));
	l->cluster = taking_text(t, text_of(envoy_get(grpc, "envoy_grpc"), "cluster_name"));
	l->failure_deny = flag_of(p->config, "failure_mode_deny", false);
	l->grpc_exhausted = flag_of(p->config, "rate_limited_as_resource_exhausted", false);
	l->x_ratelimit_headers = str_eq(text_of(p->config, "enable_x_ratelimit_headers"), "DRAFT_VERSION_03");
}

void taking_route_actions(struct taking *t, const struct envoy_patch *p)
{
	if (p->kind != ENVOY_ROUTE_ACTIONS && !p->per_route)
		return;
	for (size_t i = 0; i < t->f->limit_count && t->sources; i++) {
		struct rate_limit *l = &t->f->limits[i];
		if (!t->sources[i].own_actions && (l->global || l->descriptor_count))
			actions_append(t, p->rate_limits, p, l);
	}
}

void taking_limits_look(const struct taking *t)
{
	for (size_t i = 0; i < t->f->limit_count && t->sources; i++) {
		const struct rate_limit *l = &t->f->limits[i];
		if ((l->global || l->descriptor_count) && !l->action_count)
			NOTE(t->of->notes, FINDING_WARNING, t->sources[i].r,
			     "configPatches[%zu]: nothing makes descriptors of requests (rate_limits of the filter, or "
			     "of a "
			     "route by HTTP_ROUTE or VIRTUAL_HOST): %s",
			     t->sources[i].index,
			     l->global ? "the service is never asked" : "its descriptors match nothing");
	}
}
