/* SPDX-License-Identifier: Apache-2.0 */
/* agent/model/http.h and l7.h. */
#include "agent/link/message.h"
#include "agent/link/shape.h"

#include <errno.h>

#include "agent/model/l7.h"
#include "agent/model/service.h"
#include "agent/model/workload.h"

/* --- addresses, labels, ports --- */

static const struct shape_field addr_port_fields[] = {
	SHAPE_ADDR(addr_port, addr),
	SHAPE_U16(addr_port, port),
};
const struct shape shape_addr_port = { SHAPE_OF(addr_port) };

static const struct shape_field cidr_fields[] = {
	SHAPE_ADDR(cidr, addr),
	SHAPE_NUMBER(cidr, bits, 128),
};
const struct shape shape_cidr = { SHAPE_OF(cidr) };

static const struct shape_field label_fields[] = {
	SHAPE_NEEDED(label, key),
	SHAPE_NEEDED(label, value),
};
const struct shape shape_label = { SHAPE_OF(label) };

static const struct shape_field inbound_port_fields[] = {
	SHAPE_U16(inbound_port, port),
	SHAPE_NUMBER(inbound_port, app, APP_UNKNOWN),
	SHAPE_BOOL(inbound_port, sni),
	SHAPE_BOOL(inbound_port, helper),
	SHAPE_NUMBER(inbound_port, target, INBOUND_LOOPBACK6),
	SHAPE_U16(inbound_port, target_port),
	SHAPE_U32(inbound_port, max_connections),
	SHAPE_U32(inbound_port, max_pending),
	SHAPE_U32(inbound_port, max_requests),
	SHAPE_U32(inbound_port, max_requests_per_connection),
	SHAPE_U32(inbound_port, idle_ms),
};
const struct shape shape_inbound_port = { SHAPE_OF(inbound_port) };

/* --- matching --- */

static int text_check(const void *model)
{
	const struct http_text *t = model;
	return t->text || t->kind == HTTP_TEXT_PRESENT ? 0 : -EINVAL;
}

static const struct shape_field http_text_fields[] = {
	SHAPE_NUMBER(http_text, kind, HTTP_TEXT_PATH_PREFIX),
	SHAPE_BOOL(http_text, ignore_case),
	SHAPE_TEXT(http_text, text),
};
static const struct shape shape_http_text = { SHAPE_OF(http_text), .check = text_check };

static const struct shape_field http_field_match_fields[] = {
	SHAPE_NEEDED(http_field_match, name),
	SHAPE_STRUCT(http_field_match, value, &shape_http_text),
	SHAPE_BOOL(http_field_match, invert),
};
const struct shape shape_http_field_match = { SHAPE_OF(http_field_match) };

static const struct shape_field http_match_fields[] = {
	SHAPE_TEXT(http_match, name),
	SHAPE_POINTER(http_match, path, &shape_http_text),
	SHAPE_POINTER(http_match, scheme, &shape_http_text),
	SHAPE_POINTER(http_match, method, &shape_http_text),
	SHAPE_POINTER(http_match, authority, &shape_http_text),
	SHAPE_LIST(http_match, headers, header_count, &shape_http_field_match),
	SHAPE_LIST(http_match, params, param_count, &shape_http_field_match),
	SHAPE_U16(http_match, port),
	SHAPE_TEXT(http_match, source_namespace),
	SHAPE_LIST(http_match, source_labels, source_label_count, &shape_label),
};
static const struct shape shape_http_match = { SHAPE_OF(http_match) };

/* --- actions --- */

static const struct shape_field http_header_value_fields[] = {
	SHAPE_NEEDED(http_header_value, name),
	SHAPE_NEEDED(http_header_value, value),
};
static const struct shape shape_http_header_value = { SHAPE_OF(http_header_value) };

static const struct shape_field http_header_ops_fields[] = {
	SHAPE_LIST(http_header_ops, set, set_count, &shape_http_header_value),
	SHAPE_LIST(http_header_ops, add, add_count, &shape_http_header_value),
	SHAPE_TEXTS(http_header_ops, remove, remove_count),
};
const struct shape shape_http_header_ops = { SHAPE_OF(http_header_ops) };

static const struct shape_field http_destination_fields[] = {
	SHAPE_NEEDED(http_destination, cluster),
	SHAPE_U32(http_destination, weight),
	SHAPE_STRUCT(http_destination, request, &shape_http_header_ops),
	SHAPE_STRUCT(http_destination, response, &shape_http_header_ops),
	SHAPE_TEXT(http_destination, host_rewrite),
};
const struct shape shape_http_destination = { SHAPE_OF(http_destination) };

static int rewrite_check(const void *model)
{
	const struct http_rewrite *r = model;
	return !r->path_regex || r->path_substitution ? 0 : -EINVAL;
}

static const struct shape_field http_rewrite_fields[] = {
	SHAPE_TEXT(http_rewrite, path_prefix), SHAPE_TEXT(http_rewrite, path_full),
	SHAPE_TEXT(http_rewrite, path_regex),  SHAPE_TEXT(http_rewrite, path_substitution),
	SHAPE_TEXT(http_rewrite, authority),
};
static const struct shape shape_http_rewrite = { SHAPE_OF(http_rewrite), .check = rewrite_check };

static const struct shape_field http_redirect_fields[] = {
	SHAPE_TEXT(http_redirect, scheme),	  SHAPE_TEXT(http_redirect, authority),
	SHAPE_TEXT(http_redirect, path_full),	  SHAPE_TEXT(http_redirect, path_prefix),
	SHAPE_U16(http_redirect, port),		  SHAPE_BOOL(http_redirect, keep_port),
	SHAPE_NUMBER(http_redirect, status, 999), SHAPE_BOOL(http_redirect, default_port),
};
static const struct shape shape_http_redirect = { SHAPE_OF(http_redirect) };

static const struct shape_field http_direct_response_fields[] = {
	SHAPE_NUMBER(http_direct_response, status, 999),
	SHAPE_BYTES(http_direct_response, body, body_len),
	SHAPE_TEXT(http_direct_response, content_type),
};
static const struct shape shape_http_direct_response = { SHAPE_OF(http_direct_response) };

static const struct shape_field http_fraction_fields[] = {
	SHAPE_NUMBER(http_fraction, ppm, 1000000),
};
const struct shape shape_http_fraction = { SHAPE_OF(http_fraction) };

static const struct shape_field http_fault_fields[] = {
	SHAPE_U32(http_fault, delay_ms),      SHAPE_STRUCT(http_fault, delay_share, &shape_http_fraction),
	SHAPE_BOOL(http_fault, abort),	      SHAPE_NUMBER(http_fault, abort_status, 999),
	SHAPE_SIGNED(http_fault, abort_grpc), SHAPE_STRUCT(http_fault, abort_share, &shape_http_fraction),
};
static const struct shape shape_http_fault = { SHAPE_OF(http_fault) };

static const struct shape_field http_mirror_fields[] = {
	SHAPE_NEEDED(http_mirror, cluster),
	SHAPE_STRUCT(http_mirror, share, &shape_http_fraction),
};
static const struct shape shape_http_mirror = { SHAPE_OF(http_mirror) };

static const struct shape_field http_cors_fields[] = {
	SHAPE_LIST(http_cors, origins, origin_count, &shape_http_text),
	SHAPE_TEXT(http_cors, methods),
	SHAPE_TEXT(http_cors, headers),
	SHAPE_TEXT(http_cors, expose),
	SHAPE_U32(http_cors, max_age_s),
	SHAPE_BOOL(http_cors, has_max_age),
	SHAPE_BOOL(http_cors, credentials),
	SHAPE_BOOL(http_cors, forward_unmatched_preflights),
};
static const struct shape shape_http_cors = { SHAPE_OF(http_cors) };

static const struct shape_field http_retry_fields[] = {
	SHAPE_U32(http_retry, attempts),     SHAPE_U32(http_retry, per_try_timeout_ms),
	SHAPE_U32(http_retry, on),	     SHAPE_NUMBERS(http_retry, statuses, status_count),
	SHAPE_U32(http_retry, backoff_ms),   SHAPE_U32(http_retry, backoff_max_ms),
	SHAPE_BOOL(http_retry, other_hosts), SHAPE_BOOL(http_retry, remote_localities),
};
static const struct shape shape_http_retry = { SHAPE_OF(http_retry) };

/* --- routes --- */

static bool weights_fit(const struct http_destination *v, size_t count, uint32_t total)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += v[i].weight;
	return sum == total;
}

static int route_check(const void *model)
{
	const struct http_route *r = model;
	if (!weights_fit(r->destinations, r->destination_count, r->total_weight))
		return -EINVAL;
	return (uint64_t)r->total_weight + r->invalid_weight <= UINT32_MAX ? 0 : -EINVAL;
}

static const struct shape_field http_route_fields[] = {
	SHAPE_TEXT(http_route, name),
	SHAPE_TEXT(http_route, origin),
	SHAPE_TEXT(http_route, owner),
	SHAPE_LIST(http_route, matches, match_count, &shape_http_match),
	SHAPE_POINTER(http_route, redirect, &shape_http_redirect),
	SHAPE_POINTER(http_route, direct, &shape_http_direct_response),
	SHAPE_LIST(http_route, destinations, destination_count, &shape_http_destination),
	SHAPE_U32(http_route, total_weight),
	SHAPE_BOOL(http_route, invalid_backend),
	SHAPE_U32(http_route, invalid_weight),
	SHAPE_POINTER(http_route, rewrite, &shape_http_rewrite),
	SHAPE_STRUCT(http_route, request, &shape_http_header_ops),
	SHAPE_STRUCT(http_route, response, &shape_http_header_ops),
	SHAPE_POINTER(http_route, fault, &shape_http_fault),
	SHAPE_LIST(http_route, mirrors, mirror_count, &shape_http_mirror),
	SHAPE_POINTER(http_route, cors, &shape_http_cors),
	SHAPE_STRUCT(http_route, retry, &shape_http_retry),
	SHAPE_U32(http_route, timeout_ms),
	SHAPE_TEXT(http_route, session_name),
	SHAPE_BOOL(http_route, session_header),
	SHAPE_BOOL(http_route, session_max_age),
	SHAPE_U32(http_route, session_absolute_s),
	SHAPE_U32(http_route, session_idle_s),
};
static const struct shape shape_http_route = { SHAPE_OF(http_route), .check = route_check };

static void *vhost_make(void)
{
	return http_vhost_new();
}

static const struct shape_field http_vhost_fields[] = {
	SHAPE_NEEDED(http_vhost, name),
	SHAPE_TEXT(http_vhost, host),
	SHAPE_LIST(http_vhost, routes, route_count, &shape_http_route),
	SHAPE_BOOL(http_vhost, include_attempt_count),
};
static const struct shape shape_http_vhost = { SHAPE_OF(http_vhost), .make = vhost_make };

static int l4_check(const void *model)
{
	const struct l4_route *r = model;
	return weights_fit(r->clusters, r->cluster_count, r->total_weight) ? 0 : -EINVAL;
}

static const struct shape_field l4_route_fields[] = {
	SHAPE_TEXTS(l4_route, sni_hosts, sni_host_count),
	SHAPE_LIST(l4_route, destinations, destination_count, &shape_cidr),
	SHAPE_LIST(l4_route, clusters, cluster_count, &shape_http_destination),
	SHAPE_U32(l4_route, total_weight),
	SHAPE_TEXT(l4_route, origin),
};
static const struct shape shape_l4_route = { SHAPE_OF(l4_route), .check = l4_check };

static const struct shape_field l7_target_fields[] = {
	SHAPE_NUMBER(l7_target, mode, L7_TCP),
	SHAPE_TEXT(l7_target, service),
	SHAPE_POINTER(l7_target, vhost, &shape_http_vhost),
	SHAPE_LIST(l7_target, l4, l4_count, &shape_l4_route),
	SHAPE_TEXT(l7_target, default_cluster),
	SHAPE_BOOL(l7_target, registry_only),
	SHAPE_BOOL(l7_target, by_name),
};
const struct shape shape_l7_target = { SHAPE_OF(l7_target) };

int message_target_encode(const struct l7_target *target, Weft__Link__L7Target **out)
{
	return shape_encode(&shape_l7_target, target, (ProtobufCMessage **)out);
}

int message_vhost_decode(const Weft__Link__HttpVhost *from, struct http_vhost **out)
{
	struct http_vhost *vhost = http_vhost_new();
	if (!vhost)
		return -ENOMEM;
	int rc = shape_decode(&shape_http_vhost, &from->base, vhost);
	if (rc == 0)
		rc = http_vhost_seal(vhost, NULL);
	if (rc < 0) {
		http_vhost_unref(vhost);
		return rc;
	}
	*out = vhost;
	return 0;
}

int message_target_decode(const Weft__Link__L7Target *from, struct l7_target **out)
{
	struct l7_target *target = l7_target_new();
	if (!target)
		return -ENOMEM;
	int rc = shape_decode(&shape_l7_target, &from->base, target);
	if (rc == 0 && target->vhost)
		rc = http_vhost_seal(target->vhost, NULL);
	if (rc < 0) {
		l7_target_unref(target);
		return rc;
	}
	l7_target_seal(target);
	*out = target;
	return 0;
}
