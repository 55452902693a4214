/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of PeerAuthentication and AuthorizationPolicy, and what holds between their fields. */
#include "agent/config/kinds.h"

#include <string.h>

#include "agent/base/str.h"
#include "agent/config/decode.h"
#include "agent/config/node.h"
#include "agent/config/schema.h"

static const struct field selector_fields[] = {
	FIELD(selector, match_labels, "matchLabels", STRING_MAP, .key_check = text_check_label_key,
	      .check = text_check_label_value, .doc = "All of them must be on the workload."),
};
const struct schema schema_selector = SCHEMA(selector, selector_fields, .name = "WorkloadSelector",
					     .doc = "Workloads by label; empty: all of the namespace.");

static const struct field target_ref_fields[] = {
	FIELD(target_ref, group, "group", STRING, .doc = "API group of the target; empty: core."),
	FIELD(target_ref, kind, "kind", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Gateway, Service or ServiceEntry."),
	FIELD(target_ref, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_name,
	      .doc = "Name of the target."),
	FIELD(target_ref, ns, "namespace", STRING, .check = text_check_dns_label, .doc = "Must be the policy's own."),
};
const struct schema schema_target_ref = SCHEMA(target_ref, target_ref_fields, .name = "PolicyTargetReference");

/* --- PeerAuthentication */

static const struct words mtls_modes = WORDS({ "UNSET", PEER_MTLS_UNSET }, { "DISABLE", PEER_MTLS_DISABLE },
					     { "PERMISSIVE", PEER_MTLS_PERMISSIVE }, { "STRICT", PEER_MTLS_STRICT });

static const struct field peer_mtls_fields[] = {
	FIELD(peer_mtls, mode, "mode", ENUM, .words = &mtls_modes, .def = "UNSET",
	      .doc = "What peers may speak; UNSET: as the parent says."),
};
static const struct schema schema_peer_mtls = SCHEMA(peer_mtls, peer_mtls_fields, .name = "MutualTLS");

static const struct field port_mtls_key = FIELD(port_level_mtls, port, NULL, U16);
static const struct field port_mtls_fields[] = {
	FIELD(port_level_mtls, mode, "mode", ENUM, .words = &mtls_modes, .def = "UNSET", .doc = "As in mtls."),
};
static const struct schema schema_port_mtls =
	SCHEMA(port_level_mtls, port_mtls_fields, .name = "portLevelMtls", .key = &port_mtls_key);

static const struct field peer_authentication_fields[] = {
	FIELD(peer_authentication_spec, selector, "selector", OBJECT, .of = &schema_selector,
	      .doc = "Which workloads."),
	FIELD(peer_authentication_spec, mtls, "mtls", OBJECT, .of = &schema_peer_mtls, .doc = "The mode."),
	FIELD(peer_authentication_spec, port_level_mtls, "portLevelMtls", MAP, .of = &schema_port_mtls,
	      .doc = "The mode for single ports of the workload (not of the service)."),
};

static void peer_authentication_validate(struct decode *d, const struct path *path, const struct node *node,
					 void *object)
{
	struct peer_authentication_spec *pa = object;
	if (pa->port_level_mtls.n && (!pa->selector || !pa->selector->match_labels.n))
		decode_error(d, path, "portLevelMtls", node_get(node, "portLevelMtls"),
			     "needs a selector with matchLabels");
	for (size_t i = 0; i < pa->port_level_mtls.n && i < 1000; i++)
		for (size_t j = 0; j < i; j++)
			if (pa->port_level_mtls.v[i].port == pa->port_level_mtls.v[j].port)
				decode_error(d, path, "portLevelMtls", node_get(node, "portLevelMtls"),
					     "port %u is there twice", pa->port_level_mtls.v[i].port);
}

const struct schema schema_peer_authentication =
	SCHEMA(peer_authentication_spec, peer_authentication_fields, .name = "PeerAuthentication",
	       .validate = peer_authentication_validate, .strict = true,
	       .doc = "Whether workloads take plaintext, mutual TLS, or both.");

/* --- AuthorizationPolicy */

static const struct words authz_actions =
	WORDS({ "ALLOW", AUTHZ_ALLOW }, { "DENY", AUTHZ_DENY }, { "AUDIT", AUTHZ_AUDIT }, { "CUSTOM", AUTHZ_CUSTOM });

static const char *check_principal(const char *text)
{
	if (!*text)
		return "is empty";
	return str_starts(text, "spiffe://") ? "has \"spiffe://\" in front; write it without" : NULL;
}

/* "{*}" and "{**}" stand for whole path segments; a plain "*" may only be first or last. */
static const char *check_path(const char *text)
{
	if (!*text)
		return "is empty";
	if (!strchr(text, '{') && !strchr(text, '}'))
		return NULL;
	for (const char *p = text; *p; p++) {
		if (*p == '}' || (*p == '*'))
			return "mixes \"*\" or \"}\" with a template; only {*} and {**} are known";
		if (*p != '{')
			continue;
		size_t len = str_starts(p, "{*}") ? 3 : str_starts(p, "{**}") ? 4 : 0;
		if (!len || p == text || p[-1] != '/' || (p[len] && p[len] != '/'))
			return "has a template that is not {*} or {**} as a whole segment";
		if (len == 4 && strstr(p + len, "{**}"))
			return "has {**} twice";
		p += len - 1;
	}
	return NULL;
}

#define NAMES(st, member, json, ck, text)                                                                              \
	FIELD(st, member, json, STRING_LIST, .flags = FIELD_NOT_EMPTY, .check = ck, .doc = text)
#define RANGES(st, member, json, text) FIELD(st, member, json, CIDR_LIST, .flags = FIELD_NOT_EMPTY, .doc = text)

static const struct field source_fields[] = {
	NAMES(authz_source, principals, "principals", check_principal, "Peers: trustDomain/ns/x/sa/y."),
	NAMES(authz_source, not_principals, "notPrincipals", check_principal, "None of these peers."),
	NAMES(authz_source, request_principals, "requestPrincipals", text_check_not_empty, "JWT issuer/subject."),
	NAMES(authz_source, not_request_principals, "notRequestPrincipals", text_check_not_empty, "None of these."),
	NAMES(authz_source, namespaces, "namespaces", text_check_not_empty, "Namespaces of peers."),
	NAMES(authz_source, not_namespaces, "notNamespaces", text_check_not_empty, "None of these."),
	NAMES(authz_source, service_accounts, "serviceAccounts", text_check_not_empty, "namespace/name, or name."),
	NAMES(authz_source, not_service_accounts, "notServiceAccounts", text_check_not_empty, "None of these."),
	RANGES(authz_source, ip_blocks, "ipBlocks", "Source addresses of the connection."),
	RANGES(authz_source, not_ip_blocks, "notIpBlocks", "None of these."),
	RANGES(authz_source, remote_ip_blocks, "remoteIpBlocks", "Client addresses as X-Forwarded-For or PROXY tell."),
	RANGES(authz_source, not_remote_ip_blocks, "notRemoteIpBlocks", "None of these."),
};

static void source_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct authz_source *s = object;
	if (!node->count)
		decode_error(d, path, NULL, node, "is empty; name principals, namespaces, ipBlocks or others");
	if ((s->service_accounts.n || s->not_service_accounts.n) &&
	    (s->principals.n || s->not_principals.n || s->namespaces.n || s->not_namespaces.n))
		decode_error(d, path, "serviceAccounts", node, "cannot be together with principals or namespaces");
}

static const struct schema schema_source =
	SCHEMA(authz_source, source_fields, .name = "Source", .validate = source_validate);

static const struct field operation_fields[] = {
	NAMES(authz_operation, hosts, "hosts", text_check_not_empty, "Hosts of HTTP requests."),
	NAMES(authz_operation, not_hosts, "notHosts", text_check_not_empty, "None of these."),
	NAMES(authz_operation, ports, "ports", text_check_port, "Ports of the workload."),
	NAMES(authz_operation, not_ports, "notPorts", text_check_port, "None of these."),
	NAMES(authz_operation, methods, "methods", text_check_not_empty, "HTTP methods; POST for gRPC."),
	NAMES(authz_operation, not_methods, "notMethods", text_check_not_empty, "None of these."),
	NAMES(authz_operation, paths, "paths", check_path, "HTTP paths; /package.service/method for gRPC."),
	NAMES(authz_operation, not_paths, "notPaths", check_path, "None of these."),
};

static void operation_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	(void)object;
	if (!node->count)
		decode_error(d, path, NULL, node, "is empty; name ports, methods, paths or hosts");
}

static const struct schema schema_operation =
	SCHEMA(authz_operation, operation_fields, .name = "Operation", .validate = operation_validate);

static const struct field from_fields[] = {
	FIELD(authz_from, source, "source", OBJECT, .of = &schema_source, .flags = FIELD_REQUIRED,
	      .doc = "All that is named must hold."),
};
static const struct schema schema_from = SCHEMA(authz_from, from_fields, .name = "Rule.From");

static const struct field to_fields[] = {
	FIELD(authz_to, operation, "operation", OBJECT, .of = &schema_operation, .flags = FIELD_REQUIRED,
	      .doc = "All that is named must hold."),
};
static const struct schema schema_to = SCHEMA(authz_to, to_fields, .name = "Rule.To");

static const struct field condition_fields[] = {
	FIELD(authz_condition, key, "key", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "An attribute, like source.ip."),
	NAMES(authz_condition, values, "values", text_check_not_empty, "One of these."),
	NAMES(authz_condition, not_values, "notValues", text_check_not_empty, "None of these."),
};

enum condition_values { CONDITION_TEXT, CONDITION_ADDRESS, CONDITION_PORT };

static const struct condition_key {
	const char *name; /* a final "[" takes an index */
	enum condition_values values;
} condition_keys[] = {
	{ "source.ip", CONDITION_ADDRESS },	      { "remote.ip", CONDITION_ADDRESS },
	{ "source.namespace", CONDITION_TEXT },	      { "source.principal", CONDITION_TEXT },
	{ "source.serviceAccount", CONDITION_TEXT },  { "request.headers[", CONDITION_TEXT },
	{ "request.auth.principal", CONDITION_TEXT }, { "request.auth.audiences", CONDITION_TEXT },
	{ "request.auth.presenter", CONDITION_TEXT }, { "request.auth.claims[", CONDITION_TEXT },
	{ "destination.ip", CONDITION_ADDRESS },      { "destination.port", CONDITION_PORT },
	{ "connection.sni", CONDITION_TEXT },	      { "experimental.envoy.filters.", CONDITION_TEXT },
};

static const struct condition_key *condition_key_find(const char *key)
{
	for (size_t i = 0; i < sizeof(condition_keys) / sizeof(condition_keys[0]); i++) {
		const struct condition_key *k = &condition_keys[i];
		size_t len = strlen(k->name);
		char last = k->name[len - 1];
		if (last == '[' ? str_starts(key, k->name) && str_ends(key, "]") && strlen(key) > len + 1 :
		    last == '.' ? str_starts(key, k->name) && key[len] :
				  !strcmp(key, k->name))
			return k;
	}
	return NULL;
}

static void condition_values_validate(struct decode *d, const struct path *path, const struct node *node,
				      const char *member, const struct condition_key *k,
				      const struct string_list *values)
{
	const struct path list = { .parent = path, .name = member };
	struct cidr ignored;
	for (size_t i = 0; i < values->n; i++) {
		const struct path at = { .parent = &list, .index = i };
		const char *why = k->values == CONDITION_PORT ? text_check_port(values->v[i]) : NULL;
		if (k->values == CONDITION_ADDRESS && cidr_parse(values->v[i], &ignored) < 0)
			why = "is not an IP address or range (like 10.0.0.0/8)";
		if (why)
			decode_error(d, &at, NULL, node_get(node, member), "\"%.60s\" %s", values->v[i], why);
	}
}

static void condition_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct authz_condition *c = object;
	const struct condition_key *k = condition_key_find(c->key);
	if (!k) {
		decode_error(d, path, "key", node_get(node, "key"),
			     "\"%.60s\" is not an attribute (like source.ip, destination.port, request.headers[name])",
			     c->key);
		return;
	}
	if (!c->values.n && !c->not_values.n)
		decode_error(d, path, NULL, node, "needs values or notValues");
	condition_values_validate(d, path, node, "values", k, &c->values);
	condition_values_validate(d, path, node, "notValues", k, &c->not_values);
}

static const struct schema schema_condition =
	SCHEMA(authz_condition, condition_fields, .name = "Condition", .validate = condition_validate);

static const struct field rule_fields[] = {
	FIELD(authz_rule, line_offset, NULL, LINE),
	FIELD(authz_rule, from, "from", LIST, .of = &schema_from, .flags = FIELD_NOT_EMPTY,
	      .doc = "Sources, any of which; absent: any."),
	FIELD(authz_rule, to, "to", LIST, .of = &schema_to, .flags = FIELD_NOT_EMPTY,
	      .doc = "Operations, any of which; absent: any."),
	FIELD(authz_rule, when, "when", LIST, .of = &schema_condition, .flags = FIELD_NOT_EMPTY,
	      .doc = "Conditions, all of which."),
};

static void rule_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	struct authz_rule *rule = object;
	(void)d;
	(void)node;
	rule->index = (uint32_t)path->index;
}

static const struct schema schema_rule = SCHEMA(authz_rule, rule_fields, .name = "Rule", .validate = rule_validate);

static const struct field provider_fields[] = {
	FIELD(authz_provider, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "One of the mesh's extensionProviders."),
};
static const struct schema schema_provider = SCHEMA(authz_provider, provider_fields, .name = "ExtensionProvider");

static const struct field authorization_policy_fields[] = {
	FIELD(authorization_policy_spec, selector, "selector", OBJECT, .of = &schema_selector, .group = 1,
	      .doc = "Which workloads; absent: all of the namespace, or of the mesh in the root namespace."),
	FIELD(authorization_policy_spec, target_ref, "targetRef", OBJECT, .of = &schema_target_ref, .group = 1,
	      .doc = "A gateway or service instead of workloads."),
	FIELD(authorization_policy_spec, target_refs, "targetRefs", LIST, .of = &schema_target_ref, .group = 1,
	      .doc = "Several of them."),
	FIELD(authorization_policy_spec, action, "action", ENUM, .words = &authz_actions, .def = "ALLOW",
	      .doc = "What a matching rule does. CUSTOM and DENY come before ALLOW."),
	FIELD(authorization_policy_spec, rules, "rules", LIST, .of = &schema_rule,
	      .doc = "Any of them matches. None: ALLOW refuses everything; an empty rule matches everything."),
	FIELD(authorization_policy_spec, provider, "provider", OBJECT, .of = &schema_provider,
	      .doc = "Who decides when the action is CUSTOM."),
};

static void authorization_policy_validate(struct decode *d, const struct path *path, const struct node *node,
					  void *object)
{
	struct authorization_policy_spec *ap = object;
	if (ap->action == AUTHZ_CUSTOM && !ap->provider)
		decode_error(d, path, "provider", node, "is required when the action is CUSTOM");
	if (ap->action != AUTHZ_CUSTOM && ap->provider)
		decode_error(d, path, "provider", node_get(node, "provider"), "needs action: CUSTOM");
	if (ap->action != AUTHZ_ALLOW && !ap->rules.n)
		decode_warn(d, path, NULL, node,
			    "has no rules, so it never matches; write \"rules: [{}]\" to match everything");
}

const struct schema schema_authorization_policy =
	SCHEMA(authorization_policy_spec, authorization_policy_fields, .name = "AuthorizationPolicy",
	       .validate = authorization_policy_validate, .strict = true, .doc = "Who may do what with a workload.");
