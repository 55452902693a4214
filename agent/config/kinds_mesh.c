/* SPDX-License-Identifier: Apache-2.0 */
/* Table of the MeshConfig: Istio's names that mean something here, those that are known and mean nothing, and Weft's own
 * below `weft:`. */
#include "agent/config/kinds.h"

#include <string.h>

#include "agent/base/addr.h"
#include "agent/config/decode.h"
#include "agent/config/node.h"
#include "agent/config/providers.h"
#include "agent/config/schema.h"

static const struct words outbound_modes =
	WORDS({ "ALLOW_ANY", OUTBOUND_MODE_ALLOW_ANY }, { "REGISTRY_ONLY", OUTBOUND_MODE_REGISTRY_ONLY });
static const struct words encodings = WORDS({ "TEXT", ACCESS_LOG_TEXT }, { "JSON", ACCESS_LOG_JSON });
static const struct words same_nodes = WORDS({ "attest", WEFT_SAME_NODE_ATTEST }, { "mtls", WEFT_SAME_NODE_MTLS });
static const struct words key_types = WORDS({ "ECDSA-P256", WEFT_KEY_ECDSA_P256 }, { "RSA-2048", WEFT_KEY_RSA_2048 });

static const struct field outbound_fields[] = {
	FIELD(outbound_traffic_policy, mode, "mode", ENUM, .words = &outbound_modes, .def = "ALLOW_ANY",
	      .doc = "REGISTRY_ONLY refuses what no Service or ServiceEntry names."),
};
static const struct schema schema_outbound =
	SCHEMA(outbound_traffic_policy, outbound_fields, .name = "OutboundTrafficPolicy");

static const struct field ca_fields[] = {
	FIELD(ca_certificate, pem, "pem", STRING, .group = 1, .check = text_check_not_empty,
	      .doc = "A root to trust, in PEM."),
	FIELD(ca_certificate, spiffe_bundle_url, "spiffeBundleUrl", STRING, .group = 1, .check = text_check_url,
	      .doc = "Where to fetch roots."),
	FIELD(ca_certificate, trust_domains, "trustDomains", STRING_LIST, .check = text_check_spiffe_domain,
	      .doc = "Whose roots they are."),
	FIELD(ca_certificate, cert_signers, "certSigners", STRING_LIST, .doc = "Kubernetes signers."),
};

static void ca_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct ca_certificate *ca = object;
	if (!ca->pem && !ca->spiffe_bundle_url)
		decode_error(d, path, NULL, node, "needs pem or spiffeBundleUrl");
	if (ca->pem && !strstr(ca->pem, "-----BEGIN CERTIFICATE-----"))
		decode_error(d, path, "pem", node_get(node, "pem"), "has no BEGIN CERTIFICATE line");
}

static const struct schema schema_ca =
	SCHEMA(ca_certificate, ca_fields, .name = "CertificateData", .validate = ca_validate);

/* --- weft: */

static const struct field dns_fields[] = {
	FIELD(weft_dns, auto_allocate, "autoAllocate", BOOL, .def = "true",
	      .doc = "ServiceEntries without addresses get one."),
	FIELD(weft_dns, ttl, "ttl", OPT_MS, .min = 1000, .def = "30s", .doc = "Of answers."),
	FIELD(weft_dns, cluster_domain, "clusterDomain", STRING, .check = text_check_name, .def = "cluster.local",
	      .doc = "Suffix of services' names."),
};
static const struct schema schema_dns = SCHEMA(weft_dns, dns_fields, .name = "weft.dns");

static const struct field certificate_fields[] = {
	FIELD(weft_certificates, ttl, "ttl", OPT_MS, .min = 60000, .def = "24h",
	      .doc = "Life of a workload's certificate."),
	FIELD(weft_certificates, grace_period, "gracePeriod", OPT_MS, .min = 1000, .group = 1,
	      .doc = "Renew when less than this is left."),
	FIELD(weft_certificates, grace_percent, "gracePercent", U32, .min = 1, .max = 99, .def = "50", .group = 1,
	      .doc = "The same, of the life."),
	FIELD(weft_certificates, key_type, "keyType", ENUM, .words = &key_types, .def = "ECDSA-P256",
	      .doc = "Keys of workloads."),
};

static void certificates_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct weft_certificates *c = object;
	uint64_t ttl_ms = c->ttl.set ? c->ttl.ms : 24 * 3600 * 1000ull;
	if (c->grace_period.set && c->grace_period.ms >= ttl_ms)
		decode_error(d, path, "gracePeriod", node_get(node, "gracePeriod"), "is not shorter than the ttl");
}

static const struct schema schema_certificates =
	SCHEMA(weft_certificates, certificate_fields, .name = "weft.certificates", .validate = certificates_validate);

static const struct field helper_fields[] = {
	FIELD(weft_helper, threads, "threads", U32, .min = 0, .max = 256, .doc = "0: one a processor, at most 4."),
	FIELD(weft_helper, max_connections_per_pod, "maxConnectionsPerPod", U32, .min = 1, .max = 10000000,
	      .def = "65536", .doc = "More are refused."),
	FIELD(weft_helper, drain_timeout, "drainTimeout", OPT_MS, .min = 1000, .max = 4000000000, .def = "24h",
	      .doc = "After an upgrade the old process carries its connections on for as long."),
	FIELD(weft_helper, draining, "draining", U32, .min = 1, .max = 7, .def = "4",
	      .doc = "Old processes at once; beyond, the oldest ends."),
};
static const struct schema schema_helper = SCHEMA(weft_helper, helper_fields, .name = "weft.helper");

#define MAP_SIZE(member, json, text) FIELD(weft_maps, member, json, U32, .min = 0, .max = 100000000, .doc = text)
static const struct field map_fields[] = {
	MAP_SIZE(services, "services", "First size of the kernel's service map; it grows."),
	MAP_SIZE(endpoints, "endpoints", "Of the endpoint map."),
	MAP_SIZE(workloads, "workloads", "Of the workload map."),
	MAP_SIZE(connections, "connections", "Of the connection maps; fixed."),
	MAP_SIZE(flows, "flows", "Of the flow counters; fixed."),
};
static const struct schema schema_maps = SCHEMA(weft_maps, map_fields, .name = "weft.maps");

static const struct field weft_fields[] = {
	FIELD(weft_settings, same_node, "sameNode", ENUM, .words = &same_nodes, .def = "attest",
	      .doc = "Between pods of one node: attested by the kernel, or mutual TLS."),
	FIELD(weft_settings, dns, "dns", OBJECT, .of = &schema_dns, .flags = FIELD_ALWAYS, .doc = "Names."),
	FIELD(weft_settings, certificates, "certificates", OBJECT, .of = &schema_certificates, .flags = FIELD_ALWAYS,
	      .doc = "Workloads' certificates."),
	FIELD(weft_settings, helper, "helper", OBJECT, .of = &schema_helper, .flags = FIELD_ALWAYS,
	      .doc = "The process that carries TLS and HTTP."),
	FIELD(weft_settings, maps, "maps", OBJECT, .of = &schema_maps, .flags = FIELD_ALWAYS,
	      .doc = "Sizes in the kernel."),
};
static const struct schema schema_weft = SCHEMA(weft_settings, weft_fields, .name = "weft");

#define WITHOUT_USE(json) FIELD_IGNORED(json, "Known from Istio; nothing in this mesh needs it.")

static const struct words normalizations =
	WORDS({ "DEFAULT", MESH_NORMALIZE_DEFAULT }, { "NONE", MESH_NORMALIZE_NONE }, { "BASE", MESH_NORMALIZE_BASE },
	      { "MERGE_SLASHES", MESH_NORMALIZE_MERGE_SLASHES },
	      { "DECODE_AND_MERGE_SLASHES", MESH_NORMALIZE_DECODE_AND_MERGE_SLASHES });
static const struct field path_normalization_fields[] = {
	FIELD(mesh_path_normalization, normalization, "normalization", ENUM, .words = &normalizations, .def = "DEFAULT",
	      .doc = "DEFAULT is BASE."),
};
static const struct schema schema_path_normalization =
	SCHEMA(mesh_path_normalization, path_normalization_fields, .name = "ProxyPathNormalization", .strict = true);

static const struct words h2_upgrades =
	WORDS({ "DO_NOT_UPGRADE", H2_UPGRADE_DO_NOT_UPGRADE }, { "UPGRADE", H2_UPGRADE_UPGRADE });

static const struct field mesh_config_fields[] = {
	FIELD(mesh_config_spec, trust_domain, "trustDomain", STRING, .check = text_check_spiffe_domain,
	      .def = "cluster.local", .doc = "First part of identities."),
	FIELD(mesh_config_spec, trust_domain_aliases, "trustDomainAliases", STRING_LIST,
	      .check = text_check_spiffe_domain, .doc = "Further names of it."),
	FIELD(mesh_config_spec, root_namespace, "rootNamespace", STRING, .check = text_check_dns_label,
	      .def = "istio-system", .doc = "Policies in it hold for the mesh."),
	FIELD(mesh_config_spec, outbound_traffic_policy, "outboundTrafficPolicy", OBJECT, .of = &schema_outbound,
	      .flags = FIELD_ALWAYS, .doc = "What pods may reach."),
	FIELD(mesh_config_spec, connect_timeout, "connectTimeout", OPT_MS, .min = 1, .def = "10s",
	      .doc = "For TCP's handshake."),
	FIELD(mesh_config_spec, tcp_keepalive, "tcpKeepalive", OBJECT, .of = &schema_tcp_keepalive,
	      .doc = "SO_KEEPALIVE."),
	FIELD(mesh_config_spec, locality_lb_setting, "localityLbSetting", OBJECT, .of = &schema_locality_lb_setting,
	      .doc = "For all services."),
	FIELD(mesh_config_spec, enable_auto_mtls, "enableAutoMtls", OPT_BOOL, .def = "true",
	      .doc = "Mutual TLS where the peer can."),
	FIELD(mesh_config_spec, ca_certificates, "caCertificates", LIST, .of = &schema_ca,
	      .doc = "Further roots to trust."),
	FIELD(mesh_config_spec, default_service_export_to, "defaultServiceExportTo", STRING_LIST,
	      .check = text_check_export_to, .doc = "exportTo of services that say nothing."),
	FIELD(mesh_config_spec, default_virtual_service_export_to, "defaultVirtualServiceExportTo", STRING_LIST,
	      .check = text_check_export_to, .doc = "The same for VirtualServices."),
	FIELD(mesh_config_spec, default_destination_rule_export_to, "defaultDestinationRuleExportTo", STRING_LIST,
	      .check = text_check_export_to, .doc = "The same for DestinationRules."),
	FIELD(mesh_config_spec, access_log_file, "accessLogFile", STRING, .doc = "Path, or /dev/stdout; empty: off."),
	FIELD(mesh_config_spec, access_log_format, "accessLogFormat", STRING, .doc = "Envoy's format string, or JSON."),
	FIELD(mesh_config_spec, access_log_encoding, "accessLogEncoding", ENUM, .words = &encodings, .def = "TEXT",
	      .doc = "Of the access log."),
	FIELD(mesh_config_spec, enable_tracing, "enableTracing", BOOL, .doc = "Spans."),
	FIELD(mesh_config_spec, path_normalization, "pathNormalization", OBJECT, .of = &schema_path_normalization,
	      .doc = "Of paths, before they are compared."),
	FIELD(mesh_config_spec, h2_upgrade_policy, "h2UpgradePolicy", ENUM, .words = &h2_upgrades,
	      .flags = FIELD_UNUSED, .def = "DO_NOT_UPGRADE",
	      .doc = "Without effect: applications get what their ports say, and tunnels are shared anyway."),
	FIELD(mesh_config_spec, default_http_retry_policy, "defaultHttpRetryPolicy", OBJECT, .of = &schema_vs_retry,
	      .doc = "Of routes that say nothing."),
	FIELD(mesh_config_spec, default_config, "defaultConfig", ANY, .any = NODE_MAP,
	      .doc = "ProxyConfig: proxyHeaders, gatewayTopology.numTrustedProxies, tracing.sampling, proxyMetadata."),
	FIELD(mesh_config_spec, extension_providers, "extensionProviders", ANY, .any = NODE_LIST,
	      .doc = "Tracing, logging, authorisation services."),
	FIELD(mesh_config_spec, default_providers, "defaultProviders", ANY, .any = NODE_MAP,
	      .doc = "Which of them are used when nothing is said."),
	FIELD(mesh_config_spec, discovery_selectors, "discoverySelectors", ANY, .any = NODE_LIST,
	      .doc = "Namespaces that are looked at."),
	FIELD(mesh_config_spec, weft, "weft", OBJECT, .of = &schema_weft, .flags = FIELD_ALWAYS,
	      .doc = "What Istio has no name for."),
	WITHOUT_USE("proxyListenPort"),
	WITHOUT_USE("proxyInboundListenPort"),
	WITHOUT_USE("proxyHttpPort"),
	WITHOUT_USE("ingressClass"),
	WITHOUT_USE("ingressService"),
	WITHOUT_USE("ingressControllerMode"),
	WITHOUT_USE("ingressSelector"),
	WITHOUT_USE("disableEnvoyListenerLog"),
	WITHOUT_USE("enableEnvoyAccessLogService"),
	WITHOUT_USE("enablePrometheusMerge"),
	WITHOUT_USE("inboundClusterStatName"),
	WITHOUT_USE("outboundClusterStatName"),
	WITHOUT_USE("inboundTrafficPolicy"),
	WITHOUT_USE("configSources"),
	WITHOUT_USE("certificates"),
	WITHOUT_USE("protocolDetectionTimeout"),
	WITHOUT_USE("dnsRefreshRate"),
	WITHOUT_USE("meshMTLS"),
	WITHOUT_USE("tlsDefaults"),
	WITHOUT_USE("serviceSettings"),
	WITHOUT_USE("verifyCertificateAtClient"),
	WITHOUT_USE("hboneIdleTimeout"),
	WITHOUT_USE("serviceScopeConfigs"),
};

static void mesh_config_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	providers_validate(d, path, node, object);
}

const struct schema schema_mesh_config = SCHEMA(mesh_config_spec, mesh_config_fields, .name = "MeshConfig",
						.validate = mesh_config_validate, .doc = "Settings of the whole mesh.");
