/* SPDX-License-Identifier: Apache-2.0 */
/* agent/model/policy.h. */
#include "agent/link/message.h"
#include "agent/link/shape.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/mem.h"
#include "agent/model/policy.h"

/* A list of conditions is a struct of its own in the model. */
#define CONDITIONS(T, f, kind_, shape_)                                                                                \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_##kind_, .max = SHAPE_COUNT_MAX, .of = (shape_),                        \
		.offset = offsetof(struct T, f.v), .count_offset = offsetof(struct T, f.n),                            \
		.size = sizeof(((struct T *)0)->f.v)                                                                   \
	}
#define STRINGS(T, f) CONDITIONS(T, f, LIST, &shape_match_string)
#define PATHS(T, f) CONDITIONS(T, f, LIST, &shape_match_path)
#define CIDRS(T, f) CONDITIONS(T, f, LIST, &shape_cidr)
#define PORTS(T, f) CONDITIONS(T, f, NUMBERS, NULL)

static const struct shape_field match_string_fields[] = {
	SHAPE_NUMBER(match_string, kind, MATCH_PRESENT),
	SHAPE_TEXT(match_string, text),
};
static const struct shape shape_match_string = { SHAPE_OF(match_string) };

static const struct shape_field match_path_fields[] = {
	SHAPE_NUMBER(match_string, kind, MATCH_TEMPLATE),
	SHAPE_TEXT(match_string, text),
};
static const struct shape shape_match_path = { .message = &weft__link__match_string__descriptor,
					       .size = sizeof(struct match_string),
					       .fields = match_path_fields,
					       .field_count = sizeof(match_path_fields) / sizeof(*match_path_fields) };

static const struct shape_field policy_match_fields[] = {
	STRINGS(policy_match, principals),
	STRINGS(policy_match, not_principals),
	STRINGS(policy_match, namespaces),
	STRINGS(policy_match, not_namespaces),
	STRINGS(policy_match, service_accounts),
	STRINGS(policy_match, not_service_accounts),
	CIDRS(policy_match, ip_blocks),
	CIDRS(policy_match, not_ip_blocks),
	CIDRS(policy_match, remote_ip_blocks),
	CIDRS(policy_match, not_remote_ip_blocks),
	CIDRS(policy_match, destination_ips),
	CIDRS(policy_match, not_destination_ips),
	PORTS(policy_match, ports),
	PORTS(policy_match, not_ports),
	SHAPE_BOOL(policy_match, has_http),
	STRINGS(policy_match, request_principals),
	STRINGS(policy_match, not_request_principals),
	STRINGS(policy_match, hosts),
	STRINGS(policy_match, not_hosts),
	STRINGS(policy_match, methods),
	STRINGS(policy_match, not_methods),
	PATHS(policy_match, paths),
	PATHS(policy_match, not_paths),
};
static const struct shape shape_policy_match = { SHAPE_OF(policy_match) };

/* What a condition looks at without a path would be a crash, not a condition. */
static int condition_check(const void *model)
{
	const struct policy_condition *c = model;
	bool ok = c->attribute == POLICY_HEADER ? c->path_count == 1 :
		  c->attribute == POLICY_CLAIM	? c->path_count > 0 :
						  c->path_count == 0;
	return ok ? 0 : -EINVAL;
}

static const struct shape_field policy_condition_fields[] = {
	SHAPE_NUMBER(policy_condition, attribute, POLICY_SNI),
	SHAPE_TEXTS(policy_condition, path, path_count),
	STRINGS(policy_condition, values),
	STRINGS(policy_condition, not_values),
};
static const struct shape shape_policy_condition = { SHAPE_OF(policy_condition), .check = condition_check };

static const struct shape_field policy_rule_fields[] = {
	SHAPE_NUMBER(policy_rule, action, POLICY_CUSTOM),
	SHAPE_TEXT(policy_rule, name),
	SHAPE_TEXT(policy_rule, origin),
	SHAPE_U32(policy_rule, index),
	SHAPE_BOOL(policy_rule, dry_run),
	SHAPE_LIST(policy_rule, matches, match_count, &shape_policy_match),
	SHAPE_LIST(policy_rule, when, when_count, &shape_policy_condition),
	SHAPE_TEXT(policy_rule, provider),
};
static const struct shape shape_policy_rule = { SHAPE_OF(policy_rule) };

static const struct shape_field port_mtls_fields[] = {
	SHAPE_U16(port_mtls, port),
	SHAPE_NUMBER(port_mtls, mode, MTLS_DISABLE),
};
static const struct shape shape_port_mtls = { SHAPE_OF(port_mtls) };

static const struct shape_field policy_fields[] = {
	SHAPE_NUMBER(policy, id, UINT64_MAX),
	SHAPE_NUMBER(policy, mtls, MTLS_DISABLE),
	SHAPE_TEXT(policy, mtls_origin),
	SHAPE_LIST(policy, port_mtls, port_mtls_count, &shape_port_mtls),
	SHAPE_LIST(policy, rules, rule_count, &shape_policy_rule),
	SHAPE_BOOL(policy, has_allow),
	SHAPE_TEXT(policy, allow_names),
};
static const struct shape shape_policy = { SHAPE_OF(policy) };

int message_policy_encode(const struct policy *policy, Weft__Link__Policy **out)
{
	return shape_encode(&shape_policy, policy, (ProtobufCMessage **)out);
}

int message_policy_decode(const Weft__Link__Policy *from, struct policy **out)
{
	struct policy *policy = policy_new();
	if (!policy)
		return -ENOMEM;
	int rc = shape_decode(&shape_policy, &from->base, policy);
	if (rc < 0) {
		policy_unref(policy);
		return rc;
	}
	for (size_t i = 0; i < policy->rule_count; i++) {
		char **provider = &policy->rules[i].provider;
		if (*provider && !**provider) /* the message can't say that there is none */
			free(TAKE(*provider));
	}
	*out = policy;
	return 0;
}
