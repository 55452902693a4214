/* SPDX-License-Identifier: Apache-2.0 */
/* Says which settings that Istio has are decoded here and have no effect at L4, or a narrower one. A warning where less
 * is protected than the document reads; information elsewhere. */
#include "agent/compile/unused.h"

#include <string.h>

#include "agent/compile/build.h"
#include "agent/compile/http.h"
#include "agent/compile/inventory.h"
#include "agent/config/node.h"

static void client_tls_look(const struct resource *r, const struct client_tls *tls, struct notes *notes)
{
	if (!tls)
		return;
	if (tls->mode == CLIENT_TLS_DISABLE)
		NOTE(notes, FINDING_INFO, r,
		     "tls.mode DISABLE has no effect: mutual TLS is used wherever both ends are in the mesh");
}

static void balancer_look(const struct resource *r, const struct load_balancer *lb, struct notes *notes)
{
	if (lb && (lb->warmup || lb->warmup_duration_secs.set))
		NOTE(notes, FINDING_INFO, r,
		     "loadBalancer.warmup is in force on requests; TCP connections to new endpoints get their share at "
		     "once");
}

static void pool_look(const struct resource *r, const struct connection_pool *pool, struct notes *notes)
{
	if (pool && pool->tcp)
		NOTE(notes, FINDING_INFO, r,
		     "connectionPool.tcp is in force on connections by mutual TLS, those to other nodes; what the "
		     "kernel "
		     "passes on directly (on one node, plaintext) has no limits or timeouts of ours");
}

void unused_rule_look(const struct resource *r, struct notes *notes)
{
	const struct traffic_policy *p = r->spec.destination_rule->traffic_policy;
	const char *own = string_map_get(&r->annotations, "weft.dev/load-balancer");

	if (own && strcmp(own, "peak-ewma") != 0)
		NOTE(notes, FINDING_WARNING, r, "weft.dev/load-balancer: \"%s\" is not peak-ewma: it has no effect",
		     own);

	if (!p)
		return;
	if (p->tunnel && p->tunnel->protocol && strcmp(p->tunnel->protocol, "CONNECT") != 0)
		NOTE(notes, FINDING_WARNING, r, "tunnel.protocol %s is not spoken: the proxy is asked by CONNECT",
		     p->tunnel->protocol);
	client_tls_look(r, p->tls, notes);
	balancer_look(r, p->load_balancer, notes);
	pool_look(r, p->connection_pool, notes);
	for (size_t i = 0; i < p->port_level_settings.n; i++) {
		client_tls_look(r, p->port_level_settings.v[i].tls, notes);
		balancer_look(r, p->port_level_settings.v[i].load_balancer, notes);
		pool_look(r, p->port_level_settings.v[i].connection_pool, notes);
	}
}

static void wish_look(const struct resource *r, struct notes *notes)
{
	if (http_wish_of(r) == L7_WISH_UNKNOWN)
		NOTE(notes, FINDING_WARNING, r, "weft.dev/l7 is neither \"disabled\" nor \"sniff\": it has no effect");
}

void unused_service_look(const struct resource *r, struct notes *notes)
{
	const struct service_spec *s = r->spec.service;

	wish_look(r, notes);
	if (s->external_ips.n)
		NOTE(notes, FINDING_INFO, r, "externalIPs are not services' addresses here: clusterIPs are");
}

void unused_service_entry_look(const struct resource *r, struct notes *notes)
{
	const struct service_entry_spec *e = r->spec.service_entry;
	const struct string_list *to = &e->export_to;

	wish_look(r, notes);
	if (e->subject_alt_names.n)
		NOTE(notes, FINDING_INFO, r,
		     "subjectAltNames are looked at where a DestinationRule asks for TLS (SIMPLE, MUTUAL); endpoints "
		     "in the mesh "
		     "are verified by their workloads' identities");
	if (to->n && !(to->n == 1 && to->v[0][0] == '*'))
		NOTE(notes, FINDING_INFO, r,
		     "exportTo decides who resolves the name; its addresses can be called from every namespace");
}

/* Of the older way to say where spans go only `sampling` is read, as the default of all Telemetry resources. */
static void mesh_tracing_look(const struct resource *r, const struct node *tracing, struct notes *notes)
{
	for (const struct node *n = tracing->type == NODE_MAP ? tracing->first : NULL; n; n = n->next)
		if (strcmp(n->key, "sampling") != 0)
			NOTE(notes, FINDING_WARNING, r,
			     "defaultConfig.tracing.%s is not read: name a provider of extensionProviders in "
			     "defaultProviders.tracing or a Telemetry resource",
			     n->key);
}

void unused_mesh_look(const struct resource *r, struct notes *notes)
{
	const struct mesh_config_spec *m = r->spec.mesh_config;

	if (m->enable_auto_mtls.set && !m->enable_auto_mtls.v)
		NOTE(notes, FINDING_WARNING, r,
		     "enableAutoMtls: false has no effect: mutual TLS is used wherever both ends are in the mesh");
	if (m->discovery_selectors)
		NOTE(notes, FINDING_WARNING, r, "discoverySelectors have no effect: all namespaces are looked at");
	for (size_t i = 0; i < m->ca_certificates.n; i++) {
		const struct ca_certificate *ca = &m->ca_certificates.v[i];
		if (ca->spiffe_bundle_url)
			NOTE(notes, FINDING_WARNING, r, "caCertificates[%zu].spiffeBundleUrl is not fetched: use pem",
			     i);
		if (ca->trust_domains.n || ca->cert_signers.n)
			NOTE(notes, FINDING_WARNING, r,
			     "caCertificates[%zu].%s does not limit the root: it is trusted for every trust domain of "
			     "the mesh",
			     i, ca->trust_domains.n ? "trustDomains" : "certSigners");
	}
	if (m->enable_tracing && !m->extension_providers)
		NOTE(notes, FINDING_WARNING, r,
		     "enableTracing: spans go where a Telemetry resource or defaultProviders say, and there are no "
		     "extensionProviders");
	if (node_get(m->default_config, "tracing"))
		mesh_tracing_look(r, node_get(m->default_config, "tracing"), notes);
}
