/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration resource as it was decoded from one document: what every kind has, and its spec as a C struct
 * (kinds.h). Immutable and reference-counted (atomic: shared between threads); all of its memory is one arena, so
 * every pointer in it lives exactly as long as the resource. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct node;

enum resource_kind {
	/* decoded and in use */
	KIND_NAMESPACE,
	KIND_SERVICE,
	KIND_WORKLOAD_ENTRY,
	KIND_SERVICE_ENTRY,
	KIND_PEER_AUTHENTICATION,
	KIND_AUTHORIZATION_POLICY,
	KIND_DESTINATION_RULE,
	KIND_MESH_CONFIG, /* namespace "", name "mesh" */
	KIND_SECRET,
	KIND_CONFIG_MAP,
	/* decoded and stored */
	KIND_VIRTUAL_SERVICE,
	KIND_GATEWAY, /* Istio's */
	KIND_SIDECAR,
	KIND_REQUEST_AUTHENTICATION,
	KIND_TELEMETRY,
	KIND_ENVOY_FILTER,
	/* recognised and stored with the spec as nodes */
	KIND_K8S_GATEWAY_CLASS,
	KIND_K8S_GATEWAY,
	KIND_K8S_HTTP_ROUTE,
	KIND_K8S_GRPC_ROUTE,
	KIND_K8S_TLS_ROUTE,
	KIND_K8S_TCP_ROUTE,
	KIND_K8S_REFERENCE_GRANT,
	KIND_K8S_BACKEND_TLS_POLICY,
	/* recognised, not used from files */
	KIND_WORKLOAD_GROUP,
	KIND_PROXY_CONFIG,
	KIND_WASM_PLUGIN,
	KIND_SERVICE_ACCOUNT,
	KIND_POD,
	KIND_NODE,
	KIND_ENDPOINTS,
	KIND_ENDPOINT_SLICE,
	KIND_NETWORK_POLICY,
	KIND_DEPLOYMENT,
	KIND_COUNT
};

struct string_list {
	const char **v;
	size_t n;
};

struct string_pair {
	const char *key, *value;
};

struct string_map {
	struct string_pair *v; /* sorted by key */
	size_t n;
};

/* A resource's own or a selector's labels; NULL: no such key. */
const char *string_map_get(const struct string_map *map, const char *key);
/* Every pair of `selector` is in `labels`. An empty selector selects all. */
bool string_map_selects(const struct string_map *selector, const struct string_map *labels);
bool string_list_has(const struct string_list *list, const char *text);

struct resource {
	unsigned int refs;
	enum resource_kind kind;
	const char *api_version; /* as written: "networking.istio.io/v1beta1" */
	const char *ns;		 /* "default" when a namespaced document has none; "" for cluster-wide kinds */
	const char *name;
	const char *key; /* "AuthorizationPolicy/shop/payments", "Namespace/shop", "MeshConfig/mesh" */
	struct string_map labels, annotations;
	uint64_t generation; /* metadata.generation, or 0 */
	uint64_t hash;	     /* hash64() of the document's text */
	const char *file;    /* as the source was told it, without the directory: "12-authorization.yaml" */
	uint32_t line;	     /* of the document's first key */
	const char *origin;  /* "12-authorization.yaml:9" */
	union {
		const void *any;
		const struct service_spec *service;
		const struct workload_entry_spec *workload_entry;
		const struct service_entry_spec *service_entry;
		const struct peer_authentication_spec *peer_authentication;
		const struct authorization_policy_spec *authorization_policy;
		const struct destination_rule_spec *destination_rule;
		const struct mesh_config_spec *mesh_config;
		const struct secret_spec *secret;
		const struct config_map_spec *config_map;
		const struct virtual_service_spec *virtual_service;
		const struct gateway_spec *gateway;
		const struct sidecar_spec *sidecar;
		const struct request_authentication_spec *request_authentication;
		const struct telemetry_spec *telemetry;
		const struct envoy_filter_spec *envoy_filter;
		const struct http_route_spec *http_route;
		const struct grpc_route_spec *grpc_route;
		const struct tls_route_spec *tls_route;
		const struct tcp_route_spec *tcp_route;
		const struct reference_grant_spec *reference_grant;
		const struct backend_tls_policy_spec *backend_tls_policy;
		const struct route_parents *route_parents; /* of any route: its first member */
		const struct node *raw;			   /* kinds without a table; may be NULL */
	} spec; /* never NULL for a kind with a table: an absent spec is an empty one (Namespace has none) */
	struct arena *arena;
	struct resource
		*base; /* set when this is a copy whose document only moved: it owns what the pointers above name */
};

/* "AuthorizationPolicy". Istio's and the Gateway API's Gateway share the word; see kind_key_name. */
const char *resource_kind_name(enum resource_kind kind);
/* The name in keys: as above, but "Gateway.gateway.networking.k8s.io" for the Gateway API's. */
const char *resource_kind_key_name(enum resource_kind kind);
bool resource_kind_is_namespaced(enum resource_kind kind);
/* A kind by what a person types: "authorizationpolicy", "authorizationpolicies", "ap", "svc", "Service".
 * 0 or -ENOENT. */
int resource_kind_parse(const char *text, enum resource_kind *out);

struct resource *resource_ref(struct resource *r);
void resource_unref(struct resource *r); /* NULL is fine */
