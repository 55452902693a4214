/* SPDX-License-Identifier: Apache-2.0 */
/* agent/model/filters.h and telemetry.h: what a pod's description has of them. */
#include "agent/link/message.h"
#include "agent/link/shape.h"

#include <errno.h>

#include "agent/model/filters.h"
#include "agent/model/telemetry.h"

/* --- RequestAuthentication --- */

static const struct shape_field jwt_location_fields[] = {
	SHAPE_NEEDED(jwt_location, name),
	SHAPE_TEXT(jwt_location, prefix),
};
static const struct shape shape_jwt_location = { SHAPE_OF(jwt_location) };

static const struct shape_field jwt_claim_header_fields[] = {
	SHAPE_NEEDED(jwt_claim_header, header),
	SHAPE_NEEDED(jwt_claim_header, claim),
};
static const struct shape shape_jwt_claim_header = { SHAPE_OF(jwt_claim_header) };

static const struct shape_field jwt_rule_fields[] = {
	SHAPE_NEEDED(jwt_rule, issuer),
	SHAPE_TEXTS(jwt_rule, audiences, audience_count),
	SHAPE_TEXT(jwt_rule, jwks),
	SHAPE_TEXT(jwt_rule, jwks_uri),
	SHAPE_BOOL(jwt_rule, jwks_inline),
	SHAPE_LIST(jwt_rule, headers, header_count, &shape_jwt_location),
	SHAPE_LIST(jwt_rule, params, param_count, &shape_jwt_location),
	SHAPE_LIST(jwt_rule, cookies, cookie_count, &shape_jwt_location),
	SHAPE_BOOL(jwt_rule, forward),
	SHAPE_TEXT(jwt_rule, output_payload_header),
	SHAPE_LIST(jwt_rule, output_claims, output_claim_count, &shape_jwt_claim_header),
	SHAPE_TEXTS(jwt_rule, space_delimited_claims, space_delimited_claim_count),
	SHAPE_TEXT(jwt_rule, origin),
	SHAPE_U32(jwt_rule, jwks_timeout_ms),
};
static const struct shape shape_jwt_rule = { SHAPE_OF(jwt_rule) };

/* --- rate limits --- */

static const struct shape_field token_bucket_fields[] = {
	SHAPE_U32(token_bucket, max_tokens),
	SHAPE_U32(token_bucket, tokens_per_fill),
	SHAPE_NUMBER(token_bucket, fill_interval_ms, UINT64_MAX),
};
static const struct shape shape_token_bucket = { SHAPE_OF(token_bucket) };

static const struct shape_field limit_entry_fields[] = {
	SHAPE_NEEDED(limit_entry, key),
	SHAPE_TEXT(limit_entry, value),
};
static const struct shape shape_limit_entry = { SHAPE_OF(limit_entry) };

static const struct shape_field limit_descriptor_fields[] = {
	SHAPE_LIST(limit_descriptor, entries, entry_count, &shape_limit_entry),
	SHAPE_STRUCT(limit_descriptor, bucket, &shape_token_bucket),
};
static const struct shape shape_limit_descriptor = { SHAPE_OF(limit_descriptor) };

static const struct shape_field limit_action_fields[] = {
	SHAPE_NUMBER(limit_action, kind, LIMIT_METHOD),
	SHAPE_TEXT(limit_action, key),
	SHAPE_TEXT(limit_action, value),
	SHAPE_TEXT(limit_action, header),
	SHAPE_BOOL(limit_action, skip_if_absent),
	SHAPE_LIST(limit_action, matches, match_count, &shape_http_field_match),
	SHAPE_BOOL(limit_action, expect_match),
};

/* What an action of its kind can't do without. */
static int action_check(const void *model)
{
	const struct limit_action *a = model;
	switch (a->kind) {
	case LIMIT_REQUEST_HEADER:
		return a->key && a->header ? 0 : -EINVAL;
	case LIMIT_GENERIC_KEY:
	case LIMIT_HEADER_VALUE_MATCH:
		return a->value ? 0 : -EINVAL;
	default:
		return 0;
	}
}

static const struct shape shape_limit_action = { SHAPE_OF(limit_action), .check = action_check };

static const struct shape_field limit_actions_fields[] = {
	SHAPE_LIST(limit_actions, v, n, &shape_limit_action),
	SHAPE_TEXT(limit_actions, route),
	SHAPE_U16(limit_actions, port),
	SHAPE_TEXT(limit_actions, vhost),
};
static const struct shape shape_limit_actions = { SHAPE_OF(limit_actions) };

static const struct shape_field rate_limit_fields[] = {
	SHAPE_TEXT(rate_limit, name),
	SHAPE_TEXT(rate_limit, origin),
	SHAPE_TEXT(rate_limit, route),
	SHAPE_U16(rate_limit, port),
	SHAPE_BOOL(rate_limit, global),
	SHAPE_STRUCT(rate_limit, bucket, &shape_token_bucket),
	SHAPE_BOOL(rate_limit, has_bucket),
	SHAPE_LIST(rate_limit, descriptors, descriptor_count, &shape_limit_descriptor),
	SHAPE_STRUCT(rate_limit, enabled, &shape_http_fraction),
	SHAPE_STRUCT(rate_limit, enforced, &shape_http_fraction),
	SHAPE_NUMBER(rate_limit, status, 999),
	SHAPE_STRUCT(rate_limit, response, &shape_http_header_ops),
	SHAPE_BOOL(rate_limit, x_ratelimit_headers),
	SHAPE_TEXT(rate_limit, cluster),
	SHAPE_TEXT(rate_limit, domain),
	SHAPE_U32(rate_limit, timeout_ms),
	SHAPE_BOOL(rate_limit, failure_deny),
	SHAPE_LIST(rate_limit, actions, action_count, &shape_limit_actions),
	SHAPE_BOOL(rate_limit, per_route),
	SHAPE_BOOL(rate_limit, grpc_exhausted),
	SHAPE_BOOL(rate_limit, spare_bucket),
	SHAPE_TEXT(rate_limit, vhost),
};

static int limit_check(const void *model)
{
	const struct rate_limit *l = model;
	return !l->global || (l->cluster && l->domain) ? 0 : -EINVAL;
}

static const struct shape shape_rate_limit = { SHAPE_OF(rate_limit), .check = limit_check };

/* --- Lua, CUSTOM authorisation --- */

static const struct shape_field lua_source_fields[] = {
	SHAPE_NEEDED(lua_source, name),
	SHAPE_NEEDED(lua_source, code),
};
static const struct shape shape_lua_source = { SHAPE_OF(lua_source) };

static const struct shape_field lua_script_fields[] = {
	SHAPE_TEXT(lua_script, name),	SHAPE_TEXT(lua_script, origin),
	SHAPE_TEXT(lua_script, code),	SHAPE_U16(lua_script, port),
	SHAPE_TEXT(lua_script, filter), SHAPE_LIST(lua_script, sources, source_count, &shape_lua_source),
	SHAPE_BOOL(lua_script, early),
};
static const struct shape shape_lua_script = { SHAPE_OF(lua_script) };

static const struct shape_field lua_route_fields[] = {
	SHAPE_NEEDED(lua_route, filter), SHAPE_TEXT(lua_route, origin),	  SHAPE_TEXT(lua_route, route),
	SHAPE_U16(lua_route, port),	 SHAPE_BOOL(lua_route, replaces), SHAPE_BOOL(lua_route, disabled),
	SHAPE_TEXT(lua_route, source),	 SHAPE_TEXT(lua_route, code),	  SHAPE_TEXT(lua_route, context),
	SHAPE_TEXT(lua_route, metadata), SHAPE_TEXT(lua_route, vhost),
};
static const struct shape shape_lua_route = { SHAPE_OF(lua_route) };

static const struct shape_field ext_authz_fields[] = {
	SHAPE_NEEDED(ext_authz, provider),
	SHAPE_BOOL(ext_authz, grpc),
	SHAPE_TEXT(ext_authz, cluster),
	SHAPE_TEXT(ext_authz, path_prefix),
	SHAPE_U32(ext_authz, timeout_ms),
	SHAPE_BOOL(ext_authz, fail_open),
	SHAPE_NUMBER(ext_authz, status_on_error, 999),
	SHAPE_TEXTS(ext_authz, include_request_headers, include_request_header_count),
	SHAPE_TEXTS(ext_authz, upstream_headers, upstream_header_count),
	SHAPE_TEXTS(ext_authz, downstream_on_deny, downstream_on_deny_count),
	SHAPE_TEXTS(ext_authz, downstream_on_allow, downstream_on_allow_count),
	SHAPE_STRUCT(ext_authz, additional, &shape_http_header_ops),
	SHAPE_U32(ext_authz, max_body_bytes),
	SHAPE_BOOL(ext_authz, allow_partial),
	SHAPE_BOOL(ext_authz, pack_as_bytes),
};
static const struct shape shape_ext_authz = { SHAPE_OF(ext_authz) };

static const struct shape_field proxy_settings_fields[] = {
	SHAPE_BOOL(proxy_settings, preserve_case),
	SHAPE_BOOL(proxy_settings, no_attempt_count),
	SHAPE_BOOL(proxy_settings, no_request_id),
	SHAPE_BOOL(proxy_settings, no_envoy_headers),
	SHAPE_BOOL(proxy_settings, client_cert_asked),
	SHAPE_BOOL(proxy_settings, no_cert_uri),
	SHAPE_TEXT(proxy_settings, server),
	SHAPE_NUMBER(proxy_settings, client_cert, PROXY_CERT_ALWAYS_FORWARD),
	SHAPE_U32(proxy_settings, trusted_proxies),
	SHAPE_BOOL(proxy_settings, no_cert_subject),
};
static const struct shape shape_proxy_settings = { SHAPE_OF(proxy_settings) };

static const struct shape_field http_filters_fields[] = {
	SHAPE_LIST(http_filters, jwt, jwt_count, &shape_jwt_rule),
	SHAPE_LIST(http_filters, limits, limit_count, &shape_rate_limit),
	SHAPE_LIST(http_filters, scripts, script_count, &shape_lua_script),
	SHAPE_LIST(http_filters, ext_authz, ext_authz_count, &shape_ext_authz),
	SHAPE_NUMBER(http_filters, normalization, PATH_DECODE_AND_MERGE_SLASHES),
	SHAPE_LIST(http_filters, lua_routes, lua_route_count, &shape_lua_route),
	SHAPE_STRUCT(http_filters, proxy, &shape_proxy_settings),
};
const struct shape shape_http_filters = { SHAPE_OF(http_filters) };

int message_filters_encode(const struct http_filters *filters, Weft__Link__HttpFilters **out)
{
	return shape_encode(&shape_http_filters, filters, (ProtobufCMessage **)out);
}

int message_filters_decode(const Weft__Link__HttpFilters *from, struct http_filters **out)
{
	struct http_filters *filters = http_filters_new();
	if (!filters)
		return -ENOMEM;
	int rc = shape_decode(&shape_http_filters, &from->base, filters);
	if (rc < 0) {
		http_filters_unref(filters);
		return rc;
	}
	http_filters_seal(filters);
	*out = filters;
	return 0;
}

/* --- telemetry --- */

static const struct shape_field tag_override_fields[] = {
	SHAPE_NEEDED(tag_override, tag),
	SHAPE_BOOL(tag_override, remove),
	SHAPE_TEXT(tag_override, value),
};
static const struct shape shape_tag_override = { SHAPE_OF(tag_override) };

static const struct shape_field metric_override_fields[] = {
	SHAPE_BOOL(metric_override, disabled),
	SHAPE_LIST(metric_override, tags, tag_count, &shape_tag_override),
};
static const struct shape shape_metric_override = { SHAPE_OF(metric_override) };

static const struct shape_field custom_tag_fields[] = {
	SHAPE_NEEDED(custom_tag, name),
	SHAPE_NUMBER(custom_tag, kind, TAG_FORMATTER),
	SHAPE_NEEDED(custom_tag, value),
	SHAPE_TEXT(custom_tag, default_value),
};
static const struct shape shape_custom_tag = { SHAPE_OF(custom_tag) };

static const struct shape_field access_log_fields[] = {
	SHAPE_TEXT(access_log, provider), SHAPE_NEEDED(access_log, path), SHAPE_BOOL(access_log, json),
	SHAPE_TEXT(access_log, format),	  SHAPE_TEXT(access_log, filter),
};
static const struct shape shape_access_log = { SHAPE_OF(access_log) };

static const struct shape_field tracing_fields[] = {
	SHAPE_TEXT(tracing, provider),
	SHAPE_NUMBER(tracing, sampling_ppm, 1000000),
	SHAPE_BOOL(tracing, client),
	SHAPE_BOOL(tracing, server),
	SHAPE_LIST(tracing, tags, tag_count, &shape_custom_tag),
	SHAPE_BOOL(tracing, no_istio_tags),
	SHAPE_BOOL(tracing, no_propagation),
};
static const struct shape shape_tracing = { SHAPE_OF(tracing) };

#define OVERRIDES(reporter, text)                                                                                      \
	{                                                                                                              \
		.name = text, .kind = SHAPE_KIND_ARRAY, .offset = offsetof(struct telemetry, overrides[reporter]),     \
		.max = REQUEST_METRIC_COUNT, .of = &shape_metric_override                                              \
	}
#define LOGS(reporter, text)                                                                                           \
	{                                                                                                              \
		.name = text, .kind = SHAPE_KIND_LIST, .offset = offsetof(struct telemetry, logs[reporter]),           \
		.count_offset = offsetof(struct telemetry, log_count[reporter]), .max = SHAPE_COUNT_MAX,               \
		.of = &shape_access_log                                                                                \
	}
#define TRACING(reporter, text)                                                                                        \
	{                                                                                                              \
		.name = text, .kind = SHAPE_KIND_STRUCT, .offset = offsetof(struct telemetry, tracing[reporter]),      \
		.of = &shape_tracing                                                                                   \
	}

static const struct shape_field telemetry_fields[] = {
	SHAPE_BOOL(telemetry, metrics),
	OVERRIDES(REPORTER_CLIENT, "client_overrides"),
	OVERRIDES(REPORTER_SERVER, "server_overrides"),
	LOGS(REPORTER_CLIENT, "client_logs"),
	LOGS(REPORTER_SERVER, "server_logs"),
	TRACING(REPORTER_CLIENT, "client_tracing"),
	TRACING(REPORTER_SERVER, "server_tracing"),
	SHAPE_BOOL(telemetry, server),
};
const struct shape shape_telemetry = { SHAPE_OF(telemetry) };

int message_telemetry_encode(const struct telemetry *telemetry, Weft__Link__Telemetry **out)
{
	return shape_encode(&shape_telemetry, telemetry, (ProtobufCMessage **)out);
}

int message_telemetry_decode(const Weft__Link__Telemetry *from, struct telemetry **out)
{
	struct telemetry *telemetry = telemetry_new();
	if (!telemetry)
		return -ENOMEM;
	int rc = shape_decode(&shape_telemetry, &from->base, telemetry);
	if (rc < 0) {
		telemetry_unref(telemetry);
		return rc;
	}
	telemetry_seal(telemetry);
	*out = telemetry;
	return 0;
}
