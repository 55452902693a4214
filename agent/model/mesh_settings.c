/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/model/plan.h"

int mesh_settings_init(struct mesh_settings *mesh)
{
	*mesh = (struct mesh_settings){
		.trust_domain = strdup("cluster.local"),
		.cluster_domain = strdup("cluster.local"),
		.root_namespace = strdup("istio-system"),
		.auto_allocate_vips = true,
		.dns_ttl_s = 30,
		.connect_timeout_ms = 10000,
		.workload_cert_ttl_s = 86400,
		.cert_grace_percent = 50,
		.max_connections_per_pod = 65536,
		.helper_drain_ms = 24 * 3600 * 1000,
		.helpers_draining = 4,
	};
	if (!mesh->trust_domain || !mesh->cluster_domain || !mesh->root_namespace) {
		mesh_settings_done(mesh);
		return -ENOMEM;
	}
	return 0;
}

static void texts_free(char **texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(texts[i]);
	free(texts);
}

static char **texts_copy(char *const *texts, size_t count)
{
	char **copy = calloc(count ? count : 1, sizeof(*copy));
	if (!copy)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		copy[i] = strdup(texts[i]);
		if (!copy[i]) {
			texts_free(copy, i);
			return NULL;
		}
	}
	return copy;
}

void trace_provider_done(struct trace_provider *p)
{
	free(p->name);
	free(p->host);
	free(p->path);
	*p = (struct trace_provider){ 0 };
}

int trace_provider_copy(struct trace_provider *to, const struct trace_provider *from)
{
	*to = (struct trace_provider){ .name = strdup(from->name),
				       .host = strdup(from->host),
				       .path = strdup(from->path),
				       .port = from->port,
				       .kind = from->kind };
	if (to->name && to->host && to->path)
		return 0;
	trace_provider_done(to);
	return -ENOMEM;
}

static int trace_providers_copy(struct mesh_settings *to, const struct mesh_settings *from)
{
	to->trace_provider_count = 0;
	to->trace_providers = calloc(from->trace_provider_count + 1, sizeof(*to->trace_providers));
	if (!to->trace_providers)
		return -ENOMEM;
	for (size_t i = 0; i < from->trace_provider_count; i++) {
		if (trace_provider_copy(&to->trace_providers[i], &from->trace_providers[i]) < 0)
			return -ENOMEM;
		to->trace_provider_count++;
	}
	return 0;
}

int mesh_settings_copy(struct mesh_settings *to, const struct mesh_settings *from)
{
	struct mesh_settings copy = *from;

	copy.trust_domain = strdup(from->trust_domain);
	copy.cluster_domain = strdup(from->cluster_domain);
	copy.root_namespace = strdup(from->root_namespace);
	copy.trust_domain_aliases = texts_copy(from->trust_domain_aliases, from->trust_domain_alias_count);
	copy.ca_certificates = texts_copy(from->ca_certificates, from->ca_certificate_count);
	if (!copy.trust_domain_aliases)
		copy.trust_domain_alias_count = 0;
	if (!copy.ca_certificates)
		copy.ca_certificate_count = 0;
	int providers = trace_providers_copy(&copy, from);
	if (providers < 0 || !copy.trust_domain || !copy.cluster_domain || !copy.root_namespace ||
	    !copy.trust_domain_aliases || !copy.ca_certificates) {
		mesh_settings_done(&copy);
		return -ENOMEM;
	}
	*to = copy;
	return 0;
}

void mesh_settings_done(struct mesh_settings *mesh)
{
	free(mesh->trust_domain);
	free(mesh->cluster_domain);
	free(mesh->root_namespace);
	texts_free(mesh->trust_domain_aliases, mesh->trust_domain_alias_count);
	texts_free(mesh->ca_certificates, mesh->ca_certificate_count);
	for (size_t i = 0; i < mesh->trace_provider_count; i++)
		trace_provider_done(&mesh->trace_providers[i]);
	free(mesh->trace_providers);
	*mesh = (struct mesh_settings){ 0 };
}
