/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/build.h"
#include "agent/config/node.h"

static int text_replace(char **to, const char *text)
{
	if (!text)
		return 0;
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

static int texts_add(char ***list, size_t *n, const char *text)
{
	char **grown = reallocarray(*list, *n + 1, sizeof(**list));
	if (!grown)
		return -ENOMEM;
	*list = grown;
	grown[*n] = strdup(text);
	if (!grown[*n])
		return -ENOMEM;
	(*n)++;
	return 0;
}

static uint32_t clamp_u32(uint64_t v)
{
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static void certificates_apply(const struct weft_certificates *from, struct mesh_settings *to)
{
	if (from->ttl.set)
		to->workload_cert_ttl_s = clamp_u32(from->ttl.ms / 1000);
	if (from->grace_percent)
		to->cert_grace_percent = from->grace_percent;
	if (from->grace_period.set && to->workload_cert_ttl_s) {
		uint64_t percent = from->grace_period.ms / 10 / to->workload_cert_ttl_s;
		to->cert_grace_percent = percent < 1 ? 1 : percent > 99 ? 99 : (uint32_t)percent;
	}
	to->rsa_keys = from->key_type == WEFT_KEY_RSA_2048;
}

static int weft_apply(const struct weft_settings *from, struct mesh_settings *to)
{
	to->same_node = from->same_node == WEFT_SAME_NODE_MTLS ? SAME_NODE_MTLS : SAME_NODE_ATTEST;
	certificates_apply(from->certificates, to);
	to->auto_allocate_vips = from->dns->auto_allocate;
	if (from->dns->ttl.set)
		to->dns_ttl_s = clamp_u32(from->dns->ttl.ms / 1000);
	to->helper_threads = from->helper->threads;
	if (from->helper->max_connections_per_pod)
		to->max_connections_per_pod = from->helper->max_connections_per_pod;
	if (from->helper->drain_timeout.set)
		to->helper_drain_ms = clamp_u32(from->helper->drain_timeout.ms);
	if (from->helper->draining)
		to->helpers_draining = from->helper->draining;
	to->map_services = from->maps->services;
	to->map_endpoints = from->maps->endpoints;
	to->map_workloads = from->maps->workloads;
	to->map_connections = from->maps->connections;
	to->map_flows = from->maps->flows;
	return text_replace(&to->cluster_domain, from->dns->cluster_domain);
}

static int trace_provider_add(struct mesh_settings *to, const struct node *provider)
{
	const struct node *otel = node_get(provider, "opentelemetry"), *zipkin = node_get(provider, "zipkin");
	const struct node *als = node_get(provider, "envoyOtelAls");
	const struct node *of = otel   ? otel :
				zipkin ? zipkin :
					 als,
			  *http = node_get(otel, "http"), *port = node_get(of, "port");
	const char *host = node_get_text(of, "service"), *path = node_get_text(http ? http : zipkin, "path");
	uint64_t number = port && port->type == NODE_INT && port->i > 0 ? (uint64_t)port->i : 0;

	/* Also "namespace/host". */
	if (host && strchr(host, '/'))
		host = strchr(host, '/') + 1;
	if (!host || !number || number > 65535 || !node_get_text(provider, "name"))
		return 0;
	struct trace_provider *more = reallocarray(to->trace_providers, to->trace_provider_count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	to->trace_providers = more;
	const struct trace_provider like = {
		.name = (char *)(uintptr_t)node_get_text(provider, "name"),
		.host = (char *)(uintptr_t)host,
		.path = (char *)(uintptr_t)(path   ? path :
					    zipkin ? "/api/v2/spans" :
						     "/v1/traces"),
		.port = (uint16_t)number,
		.kind = zipkin ? TRACE_ZIPKIN :
			http   ? TRACE_OTLP_HTTP :
			!otel  ? TRACE_OTLP_LOGS :
				 TRACE_OTLP_GRPC,
	};
	int rc = trace_provider_copy(&more[to->trace_provider_count], &like);
	to->trace_provider_count += rc == 0;
	return rc;
}

int mesh_build(const struct mesh_config_spec *spec, struct mesh_settings *out)
{
	struct mesh_settings mesh;
	if (mesh_settings_init(&mesh) < 0)
		return -ENOMEM;
	if (!spec) {
		*out = mesh;
		return 0;
	}

	mesh.outbound = spec->outbound_traffic_policy->mode == OUTBOUND_MODE_REGISTRY_ONLY ? OUTBOUND_REGISTRY_ONLY :
											     OUTBOUND_ALLOW_ANY;
	if (spec->connect_timeout.set)
		mesh.connect_timeout_ms = clamp_u32(spec->connect_timeout.ms);
	int rc = weft_apply(spec->weft, &mesh);
	if (!rc)
		rc = text_replace(&mesh.trust_domain, spec->trust_domain);
	if (!rc)
		rc = text_replace(&mesh.root_namespace, spec->root_namespace);
	for (size_t i = 0; !rc && i < spec->trust_domain_aliases.n; i++)
		rc = texts_add(&mesh.trust_domain_aliases, &mesh.trust_domain_alias_count,
			       spec->trust_domain_aliases.v[i]);
	for (size_t i = 0; !rc && i < spec->ca_certificates.n; i++)
		if (spec->ca_certificates.v[i].pem)
			rc = texts_add(&mesh.ca_certificates, &mesh.ca_certificate_count,
				       spec->ca_certificates.v[i].pem);
	const struct node *providers = spec->extension_providers;
	for (const struct node *p = providers && providers->type == NODE_LIST ? providers->first : NULL; !rc && p;
	     p = p->next)
		rc = trace_provider_add(&mesh, p);
	if (rc < 0) {
		mesh_settings_done(&mesh);
		return rc;
	}
	*out = mesh;
	return 0;
}
