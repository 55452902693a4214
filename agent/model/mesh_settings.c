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
	if (!copy.trust_domain || !copy.cluster_domain || !copy.root_namespace || !copy.trust_domain_aliases ||
	    !copy.ca_certificates) {
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
	*mesh = (struct mesh_settings){ 0 };
}
