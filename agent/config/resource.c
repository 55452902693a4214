/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config/resource.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/str.h"
#include "agent/config/arena.h"
#include "agent/config/schema.h"

#define NETWORKING "networking.istio.io"
#define SECURITY "security.istio.io"
#define GATEWAY_API "gateway.networking.k8s.io"
#define ISTIO_VERSIONS "v1 v1beta1 v1alpha3"

const struct kind_info kind_infos[KIND_COUNT] = {
	[KIND_NAMESPACE] = { KIND_NAMESPACE, "", "Namespace", "namespaces", "ns", true, "v1", NULL, NULL, KIND_IN_USE },
	[KIND_SERVICE] = { KIND_SERVICE, "", "Service", "services", "svc", false, "v1", &schema_service, NULL,
			   KIND_IN_USE },
	[KIND_WORKLOAD_ENTRY] = { KIND_WORKLOAD_ENTRY, NETWORKING, "WorkloadEntry", "workloadentries", "we", false,
				  ISTIO_VERSIONS, &schema_workload_entry, NULL, KIND_IN_USE },
	[KIND_SERVICE_ENTRY] = { KIND_SERVICE_ENTRY, NETWORKING, "ServiceEntry", "serviceentries", "se", false,
				 ISTIO_VERSIONS, &schema_service_entry, NULL, KIND_IN_USE },
	[KIND_PEER_AUTHENTICATION] = { KIND_PEER_AUTHENTICATION, SECURITY, "PeerAuthentication", "peerauthentications",
				       "pa", false, "v1 v1beta1", &schema_peer_authentication, NULL, KIND_IN_USE },
	[KIND_AUTHORIZATION_POLICY] = { KIND_AUTHORIZATION_POLICY, SECURITY, "AuthorizationPolicy",
					"authorizationpolicies", "ap", false, "v1 v1beta1",
					&schema_authorization_policy, NULL, KIND_IN_USE },
	[KIND_DESTINATION_RULE] = { KIND_DESTINATION_RULE, NETWORKING, "DestinationRule", "destinationrules", "dr",
				    false, ISTIO_VERSIONS, &schema_destination_rule, NULL, KIND_IN_USE },
	[KIND_MESH_CONFIG] = { KIND_MESH_CONFIG, "mesh", "MeshConfig", "meshconfigs", "mesh", true, "v1alpha1", NULL,
			       &schema_mesh_config, KIND_IN_USE },
	[KIND_VIRTUAL_SERVICE] = { KIND_VIRTUAL_SERVICE, NETWORKING, "VirtualService", "virtualservices", "vs", false,
				   ISTIO_VERSIONS, &schema_virtual_service, NULL, KIND_IN_USE },
	[KIND_GATEWAY] = { KIND_GATEWAY, NETWORKING, "Gateway", "gateways", "gw", false, ISTIO_VERSIONS,
			   &schema_gateway, NULL, KIND_STORED },
	[KIND_SIDECAR] = { KIND_SIDECAR, NETWORKING, "Sidecar", "sidecars", NULL, false, ISTIO_VERSIONS,
			   &schema_sidecar, NULL, KIND_IN_USE },
	[KIND_REQUEST_AUTHENTICATION] = { KIND_REQUEST_AUTHENTICATION, SECURITY, "RequestAuthentication",
					  "requestauthentications", "ra", false, "v1 v1beta1",
					  &schema_request_authentication, NULL, KIND_IN_USE },
	[KIND_TELEMETRY] = { KIND_TELEMETRY, "telemetry.istio.io", "Telemetry", "telemetries", "telemetry", false,
			     "v1 v1alpha1", &schema_telemetry, NULL, KIND_IN_USE },
	[KIND_ENVOY_FILTER] = { KIND_ENVOY_FILTER, NETWORKING, "EnvoyFilter", "envoyfilters", NULL, false, "v1alpha3",
				&schema_envoy_filter, NULL, KIND_IN_USE },
	[KIND_K8S_GATEWAY_CLASS] = { KIND_K8S_GATEWAY_CLASS, GATEWAY_API, "GatewayClass", "gatewayclasses", "gc", true,
				     "v1 v1beta1", NULL, NULL, KIND_STORED },
	[KIND_K8S_GATEWAY] = { KIND_K8S_GATEWAY, GATEWAY_API, "Gateway", "gateways", "gtw", false, "v1 v1beta1", NULL,
			       NULL, KIND_STORED },
	[KIND_K8S_HTTP_ROUTE] = { KIND_K8S_HTTP_ROUTE, GATEWAY_API, "HTTPRoute", "httproutes", NULL, false,
				  "v1 v1beta1", &schema_http_route, NULL, KIND_IN_USE },
	[KIND_K8S_GRPC_ROUTE] = { KIND_K8S_GRPC_ROUTE, GATEWAY_API, "GRPCRoute", "grpcroutes", NULL, false,
				  "v1 v1alpha2", &schema_grpc_route, NULL, KIND_IN_USE },
	[KIND_K8S_TLS_ROUTE] = { KIND_K8S_TLS_ROUTE, GATEWAY_API, "TLSRoute", "tlsroutes", NULL, false,
				 "v1 v1alpha3 v1alpha2", &schema_tls_route, NULL, KIND_IN_USE },
	[KIND_K8S_TCP_ROUTE] = { KIND_K8S_TCP_ROUTE, GATEWAY_API, "TCPRoute", "tcproutes", NULL, false, "v1alpha2",
				 &schema_tcp_route, NULL, KIND_IN_USE },
	[KIND_K8S_REFERENCE_GRANT] = { KIND_K8S_REFERENCE_GRANT, GATEWAY_API, "ReferenceGrant", "referencegrants",
				       "refgrant", false, "v1 v1beta1 v1alpha2", &schema_reference_grant, NULL,
				       KIND_IN_USE },
	[KIND_K8S_BACKEND_TLS_POLICY] = { KIND_K8S_BACKEND_TLS_POLICY, GATEWAY_API, "BackendTLSPolicy",
					  "backendtlspolicies", "btlspolicy", false, "v1 v1alpha3 v1alpha2",
					  &schema_backend_tls_policy, NULL, KIND_IN_USE },
	[KIND_WORKLOAD_GROUP] = { KIND_WORKLOAD_GROUP, NETWORKING, "WorkloadGroup", "workloadgroups", "wg", false,
				  ISTIO_VERSIONS, NULL, NULL, KIND_NOT_USED },
	[KIND_PROXY_CONFIG] = { KIND_PROXY_CONFIG, NETWORKING, "ProxyConfig", "proxyconfigs", NULL, false, "v1beta1",
				NULL, NULL, KIND_NOT_USED },
	[KIND_WASM_PLUGIN] = { KIND_WASM_PLUGIN, "extensions.istio.io", "WasmPlugin", "wasmplugins", NULL, false,
			       "v1alpha1", NULL, NULL, KIND_NOT_USED },
	[KIND_SERVICE_ACCOUNT] = { KIND_SERVICE_ACCOUNT, "", "ServiceAccount", "serviceaccounts", "sa", false, "v1",
				   NULL, NULL, KIND_NOT_USED },
	[KIND_SECRET] = { KIND_SECRET, "", "Secret", "secrets", NULL, false, "v1", NULL, &schema_secret, KIND_IN_USE },
	[KIND_CONFIG_MAP] = { KIND_CONFIG_MAP, "", "ConfigMap", "configmaps", "cm", false, "v1", NULL,
			      &schema_config_map, KIND_IN_USE },
	[KIND_POD] = { KIND_POD, "", "Pod", "pods", "po", false, "v1", NULL, NULL, KIND_NOT_USED },
	[KIND_NODE] = { KIND_NODE, "", "Node", "nodes", "no", true, "v1", NULL, NULL, KIND_NOT_USED },
	[KIND_ENDPOINTS] = { KIND_ENDPOINTS, "", "Endpoints", "endpoints", "ep", false, "v1", NULL, NULL,
			     KIND_NOT_USED },
	[KIND_ENDPOINT_SLICE] = { KIND_ENDPOINT_SLICE, "discovery.k8s.io", "EndpointSlice", "endpointslices", NULL,
				  false, "v1 v1beta1", NULL, NULL, KIND_NOT_USED },
	[KIND_NETWORK_POLICY] = { KIND_NETWORK_POLICY, "networking.k8s.io", "NetworkPolicy", "networkpolicies",
				  "netpol", false, "v1", NULL, NULL, KIND_NOT_USED },
	[KIND_DEPLOYMENT] = { KIND_DEPLOYMENT, "apps", "Deployment", "deployments", "deploy", false, "v1", NULL, NULL,
			      KIND_NOT_USED },
};

const char *resource_kind_name(enum resource_kind kind)
{
	return kind_infos[kind].name;
}

const char *resource_kind_key_name(enum resource_kind kind)
{
	return kind == KIND_K8S_GATEWAY ? "Gateway." GATEWAY_API : kind_infos[kind].name;
}

bool resource_kind_is_namespaced(enum resource_kind kind)
{
	return !kind_infos[kind].cluster_wide;
}

int resource_kind_parse(const char *text, enum resource_kind *out)
{
	for (int i = 0; i < KIND_COUNT; i++) {
		const struct kind_info *k = &kind_infos[i];
		if (strcasecmp(text, resource_kind_key_name(k->kind)) && strcasecmp(text, k->plural) &&
		    !(k->short_name && !strcasecmp(text, k->short_name)))
			continue;
		*out = k->kind;
		return 0;
	}
	return -ENOENT;
}

struct resource *resource_ref(struct resource *r)
{
	__atomic_add_fetch(&r->refs, 1, __ATOMIC_RELAXED);
	return r;
}

void resource_unref(struct resource *r)
{
	if (!r || __atomic_sub_fetch(&r->refs, 1, __ATOMIC_ACQ_REL))
		return;
	struct resource *base = r->base;
	arena_free(r->arena);
	resource_unref(base); /* never a copy itself: no deeper recursion */
}

const char *string_map_get(const struct string_map *map, const char *key)
{
	size_t low = 0, high = map->n;
	while (low < high) {
		size_t mid = (low + high) / 2;
		int cmp = strcmp(map->v[mid].key, key);
		if (cmp == 0)
			return map->v[mid].value;
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

bool string_map_selects(const struct string_map *selector, const struct string_map *labels)
{
	for (size_t i = 0; i < selector->n; i++)
		if (!str_eq(string_map_get(labels, selector->v[i].key), selector->v[i].value))
			return false;
	return true;
}

bool string_list_has(const struct string_list *list, const char *text)
{
	for (size_t i = 0; i < list->n; i++)
		if (!strcmp(list->v[i], text))
			return true;
	return false;
}
