/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's local and global rate limits: what of them is understood. */
#include "agent/config/envoy_reading.h"

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/regex.h"
#include "agent/base/str.h"
#include "agent/config/node.h"

#include <errno.h>
#include <string.h>

enum { FILL_INTERVAL_MIN_MS = 50, ACTIONS_MAX = 16, RATE_LIMITS_MAX = 32 /* as the helper has room for */ };

static int bucket_check(const struct reading *r, const struct node *bucket, const char *what)
{
	static const char *const known[] = { "max_tokens", "tokens_per_fill", "fill_interval", NULL };
	uint64_t v;
	int rc = envoy_known_only(r, bucket, what, known);
	if (rc < 0)
		return rc;
	if (!envoy_number(envoy_get(bucket, "max_tokens"), &v) || v == 0 || v > UINT32_MAX)
		return envoy_refuse(r, "%s: max_tokens must be a number from 1", what);
	const struct node *fill = envoy_get(bucket, "tokens_per_fill");
	if (fill && (!envoy_number(fill, &v) || v == 0 || v > UINT32_MAX))
		return envoy_refuse(r, "%s: tokens_per_fill must be a number from 1", what);
	if (!envoy_duration_ms(envoy_get(bucket, "fill_interval"), &v) || v < FILL_INTERVAL_MIN_MS)
		return envoy_refuse(r, "%s: fill_interval must be a duration of at least 50ms", what);
	return 0;
}

static int descriptors_check(const struct reading *r, const struct node *list)
{
	static const char *const known[] = { "entries", "token_bucket", NULL };
	static const char *const entry_known[] = { "key", "value", NULL };
	for (const struct node *d = list && list->type == NODE_LIST ? list->first : NULL; d; d = d->next) {
		const struct node *entries = node_get(d, "entries");
		int rc = envoy_known_only(r, d, "descriptors[]", known);
		if (rc == 0)
			rc = bucket_check(r, envoy_get(d, "token_bucket"), "descriptors[].token_bucket");
		if (rc == 0 && (!entries || entries->type != NODE_LIST || !entries->count))
			rc = envoy_refuse(r, "descriptors[]: entries is missing");
		for (const struct node *e = rc == 0 ? entries->first : NULL; e && rc == 0; e = e->next) {
			rc = envoy_known_only(r, e, "descriptors[].entries[]", entry_known);
			if (rc == 0 && !node_get_text(e, "key"))
				rc = envoy_refuse(r, "descriptors[].entries[]: key is missing");
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int regex_check(const struct reading *r, const struct node *safe_regex, const char *what)
{
	const char *text = node_get_text(safe_regex, "regex");
	struct err err = ERR_INIT;
	struct regex *regex = NULL;
	if (!text)
		return envoy_refuse(r, "%s: regex is missing", what);
	if (regex_new(text, false, &regex, &err) < 0)
		return envoy_refuse(r, "%s: %.120s", what, err.text);
	regex_free(regex);
	return 0;
}

static int header_check(const struct reading *r, const struct node *header)
{
	static const char *const known[] = { "name",	     "exact_match",   "prefix_match",
					     "suffix_match", "present_match", "safe_regex_match",
					     "string_match", "invert_match",  NULL };
	static const char *const text_known[] = { "exact", "prefix", "suffix", "safe_regex", "ignore_case", NULL };
	static const char what[] = "header_value_match.headers[]";
	const struct node *text = envoy_get(header, "string_match");
	const struct node *regex = text ? envoy_get(text, "safe_regex") : envoy_get(header, "safe_regex_match");
	const struct node *present = envoy_get(header, "present_match");
	int rc = envoy_known_only(r, header, what, known);
	if (rc == 0 && text)
		rc = envoy_known_only(r, text, "header_value_match.headers[].string_match", text_known);
	if (rc == 0 && !node_get_text(header, "name"))
		rc = envoy_refuse(r, "%s: name is missing", what);
	if (rc == 0 && present && (present->type != NODE_BOOL || !present->b))
		rc = envoy_refuse(r, "%s: present_match other than true is not supported: use invert_match", what);
	return rc == 0 && regex ? regex_check(r, regex, what) : rc;
}

/* What each kind of action may and must say. */
static int action_check(const struct reading *r, const struct node *action)
{
	static const struct {
		const char *kind, *known[6], *needed[2];
	} kinds[] = {
		{ "request_headers",
		  { "header_name", "descriptor_key", "skip_if_absent" },
		  { "header_name", "descriptor_key" } },
		{ "generic_key", { "descriptor_key", "descriptor_value" }, { "descriptor_value" } },
		{ "header_value_match",
		  { "descriptor_key", "descriptor_value", "expect_match", "headers" },
		  { "descriptor_value" } },
		{ "remote_address", { NULL }, { NULL } },
		{ "destination_cluster", { NULL }, { NULL } },
		{ "source_cluster", { NULL }, { NULL } },
	};
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!envoy_key_is(action->key, kinds[i].kind))
			continue;
		int rc = envoy_known_only(r, action, kinds[i].kind, kinds[i].known);
		for (size_t k = 0; k < ARRAY_SIZE(kinds[i].needed) && kinds[i].needed[k] && rc == 0; k++) {
			const struct node *n = envoy_get(action, kinds[i].needed[k]);
			if (!n || n->type != NODE_STRING || !*n->text)
				rc = envoy_refuse(r, "%s: %s is missing", kinds[i].kind, kinds[i].needed[k]);
		}
		const struct node *headers = node_get(action, "headers");
		if (rc == 0 && str_starts(kinds[i].kind, "header_value") &&
		    (!headers || headers->type != NODE_LIST || !headers->count))
			rc = envoy_refuse(r, "%s: headers is missing", kinds[i].kind);
		for (const struct node *h = rc == 0 && headers ? headers->first : NULL; h && rc == 0; h = h->next)
			rc = header_check(r, h);
		return rc;
	}
	return 0;
}

int envoy_actions_check(const struct reading *r, const struct node *list)
{
	static const char *const known[] = { "actions", "stage", NULL };
	static const char *const kinds[] = {
		"request_headers",     "remote_address", "generic_key", "header_value_match",
		"destination_cluster", "source_cluster", NULL
	};
	if (list && list->type != NODE_LIST)
		return envoy_refuse(r, "rate_limits is not a list");
	if (list && list->count > RATE_LIMITS_MAX)
		return envoy_refuse(r, "rate_limits: more than %d are not supported", RATE_LIMITS_MAX);
	for (const struct node *one = list ? list->first : NULL; one; one = one->next) {
		const struct node *actions = node_get(one, "actions");
		uint64_t stage = 0;
		int rc = envoy_known_only(r, one, "rate_limits[]", known);
		if (rc == 0 && node_get(one, "stage") && (!envoy_number(node_get(one, "stage"), &stage) || stage))
			rc = envoy_refuse(r, "rate_limits[]: stages other than 0 are not supported");
		if (rc == 0 && (!actions || actions->type != NODE_LIST || !actions->count))
			rc = envoy_refuse(r, "rate_limits[]: actions is missing");
		if (rc == 0 && actions->count > ACTIONS_MAX)
			rc = envoy_refuse(r, "rate_limits[]: more than %d actions are not supported", ACTIONS_MAX);
		for (const struct node *a = rc == 0 ? actions->first : NULL; a && rc == 0; a = a->next) {
			rc = envoy_known_only(r, a, "rate_limits[].actions[]", kinds);
			if (rc == 0 && (a->count != 1 || !a->first || a->first->type != NODE_MAP))
				rc = envoy_refuse(r, "rate_limits[].actions[] must have one action each");
			if (rc == 0)
				rc = action_check(r, a->first);
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Of refusals. */
static int response_check(const struct reading *r, const struct node *config)
{
	static const char *const known[] = { "header", "append", "append_action", "keep_empty_value", NULL };
	static const char *const header_known[] = { "key", "value", NULL };
	static const char *const status_known[] = { "code", NULL };
	const struct node *list = envoy_get(config, "response_headers_to_add"), *status = node_get(config, "status");
	int rc = status ? envoy_known_only(r, status, "status", status_known) : 0;
	if (rc == 0 && status && !envoy_status(node_get(status, "code")))
		rc = envoy_refuse(r, "status.code is neither a number nor a name of an HTTP status that is known here");
	if (rc == 0 && list && list->type != NODE_LIST)
		rc = envoy_refuse(r, "response_headers_to_add is not a list");
	for (const struct node *n = rc == 0 && list ? list->first : NULL; n && rc == 0; n = n->next) {
		const struct node *header = node_get(n, "header");
		const char *value = node_get_text(header, "value");
		rc = envoy_known_only(r, n, "response_headers_to_add[]", known);
		if (rc == 0)
			rc = envoy_known_only(r, header, "response_headers_to_add[].header", header_known);
		if (rc == 0 && (!node_get_text(header, "key") || !value))
			rc = envoy_refuse(r, "response_headers_to_add[]: header needs key and value, as text");
		if (rc == 0 && strchr(value, '%'))
			rc = envoy_refuse(r, "response_headers_to_add[]: %%operators%% are not supported");
	}
	return rc;
}

int envoy_local_limit_check(const struct reading *r, const struct node *config)
{
	static const char *const known[] = { "@type",
					     "stat_prefix",
					     "token_bucket",
					     "filter_enabled",
					     "filter_enforced",
					     "descriptors",
					     "status",
					     "response_headers_to_add",
					     "rate_limits",
					     "enable_x_ratelimit_headers",
					     "stage",
					     "always_consume_default_token_bucket",
					     "rate_limited_as_resource_exhausted",
					     "local_rate_limit_per_downstream_connection",
					     NULL };
	int rc = envoy_known_only(r, config, "typed_config", known);
	const struct node *bucket = envoy_get(config, "token_bucket");
	const struct node *each = envoy_get(config, "local_rate_limit_per_downstream_connection");
	if (rc == 0 && each && each->type == NODE_BOOL && each->b)
		rc = envoy_refuse(r, "local_rate_limit_per_downstream_connection is not supported");
	if (rc == 0 && bucket)
		rc = bucket_check(r, bucket, "token_bucket");
	if (rc == 0)
		rc = descriptors_check(r, node_get(config, "descriptors"));
	if (rc == 0)
		rc = response_check(r, config);
	return rc == 0 ? envoy_actions_check(r, envoy_get(config, "rate_limits")) : rc;
}

int envoy_global_limit_check(const struct reading *r, const struct node *config)
{
	static const char *const known[] = { "@type",
					     "domain",
					     "stage",
					     "request_type",
					     "timeout",
					     "failure_mode_deny",
					     "rate_limited_as_resource_exhausted",
					     "rate_limit_service",
					     "enable_x_ratelimit_headers",
					     "stat_prefix",
					     NULL };
	const struct node *service = envoy_get(config, "rate_limit_service");
	const struct node *grpc = envoy_get(service, "grpc_service");
	const struct node *envoy = envoy_get(grpc, "envoy_grpc");
	int rc = envoy_known_only(r, config, "typed_config", known);
	if (rc == 0 && !node_get_text(config, "domain"))
		rc = envoy_refuse(r, "typed_config: domain is missing");
	if (rc == 0 && !node_get_text(envoy, "cluster_name") && !node_get_text(envoy, "clusterName"))
		rc = envoy_refuse(
			r, "rate_limit_service needs grpc_service.envoy_grpc.cluster_name (outbound|PORT||HOST)");
	return rc;
}
