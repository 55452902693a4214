/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of RequestAuthentication, Gateway, Sidecar and EnvoyFilter, and what holds between their fields. */
#include "agent/config/envoy_patch.h"
#include "agent/config/kinds_http.h"

#include <string.h>

#include "agent/base/addr.h"
#include "agent/base/str.h"
#include "agent/config/decode.h"
#include "agent/config/node.h"
#include "agent/config/schema.h"

/* --- RequestAuthentication */

static const struct field jwt_header_fields[] = {
	FIELD(jwt_header, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Header."),
	FIELD(jwt_header, prefix, "prefix", STRING, .doc = "What stands before the token."),
};
static const struct schema schema_jwt_header = SCHEMA(jwt_header, jwt_header_fields, .name = "JWTHeader");

static const struct field claim_fields[] = {
	FIELD(claim_to_header, header, "header", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Header to set."),
	FIELD(claim_to_header, claim, "claim", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Claim to take."),
};
static const struct schema schema_claim = SCHEMA(claim_to_header, claim_fields, .name = "ClaimToHeader");

static const struct field jwt_rule_fields[] = {
	FIELD(jwt_rule_spec, issuer, "issuer", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Who issued it."),
	FIELD(jwt_rule_spec, audiences, "audiences", STRING_LIST, .check = text_check_not_empty,
	      .doc = "For whom, any of which."),
	FIELD(jwt_rule_spec, jwks_uri, "jwksUri", STRING, .group = 1, .check = text_check_url,
	      .doc = "Where the keys are."),
	FIELD(jwt_rule_spec, jwks, "jwks", STRING, .group = 1, .check = text_check_not_empty,
	      .doc = "The keys themselves."),
	FIELD(jwt_rule_spec, from_headers, "fromHeaders", LIST, .of = &schema_jwt_header,
	      .doc = "Headers with a token."),
	FIELD(jwt_rule_spec, from_params, "fromParams", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Query parameters with a token."),
	FIELD(jwt_rule_spec, from_cookies, "fromCookies", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Cookies with a token."),
	FIELD(jwt_rule_spec, output_payload_to_header, "outputPayloadToHeader", STRING,
	      .doc = "Header for the whole payload."),
	FIELD(jwt_rule_spec, forward_original_token, "forwardOriginalToken", BOOL, .doc = "The token goes on."),
	FIELD(jwt_rule_spec, output_claim_to_headers, "outputClaimToHeaders", LIST, .of = &schema_claim,
	      .doc = "Headers for claims."),
	FIELD(jwt_rule_spec, timeout, "timeout", OPT_MS, .min = 1, .def = "5s", .doc = "For fetching the keys."),
	FIELD(jwt_rule_spec, space_delimited_claims, "spaceDelimitedClaims", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Claims that are lists with blanks."),
};
static const struct schema schema_jwt_rule = SCHEMA(jwt_rule_spec, jwt_rule_fields, .name = "JWTRule");

static const struct field request_authentication_fields[] = {
	FIELD(request_authentication_spec, selector, "selector", OBJECT, .of = &schema_selector, .group = 1,
	      .doc = "Which workloads."),
	FIELD(request_authentication_spec, target_ref, "targetRef", OBJECT, .of = &schema_target_ref, .group = 1,
	      .doc = "A gateway or service instead."),
	FIELD(request_authentication_spec, target_refs, "targetRefs", LIST, .of = &schema_target_ref, .group = 1,
	      .doc = "Several of them."),
	FIELD(request_authentication_spec, jwt_rules, "jwtRules", LIST, .of = &schema_jwt_rule,
	      .doc = "Tokens that are accepted; a bad one is refused."),
};
const struct schema schema_request_authentication =
	SCHEMA(request_authentication_spec, request_authentication_fields, .name = "RequestAuthentication",
	       .strict = true, .doc = "Which JSON Web Tokens are valid.");

/* --- Gateway */

static const struct words server_tls_modes =
	WORDS({ "PASSTHROUGH", SERVER_TLS_PASSTHROUGH }, { "SIMPLE", SERVER_TLS_SIMPLE },
	      { "MUTUAL", SERVER_TLS_MUTUAL }, { "AUTO_PASSTHROUGH", SERVER_TLS_AUTO_PASSTHROUGH },
	      { "ISTIO_MUTUAL", SERVER_TLS_ISTIO_MUTUAL }, { "OPTIONAL_MUTUAL", SERVER_TLS_OPTIONAL_MUTUAL });
static const struct words tls_versions =
	WORDS({ "TLS_AUTO", TLS_VERSION_AUTO }, { "TLSV1_0", TLS_VERSION_1_0 }, { "TLSV1_1", TLS_VERSION_1_1 },
	      { "TLSV1_2", TLS_VERSION_1_2 }, { "TLSV1_3", TLS_VERSION_1_3 });

static const struct field server_tls_fields[] = {
	FIELD(server_tls, https_redirect, "httpsRedirect", BOOL, .doc = "Plain requests are sent to https."),
	FIELD(server_tls, mode, "mode", ENUM, .words = &server_tls_modes, .def = "PASSTHROUGH", .doc = "Who ends TLS."),
	FIELD(server_tls, server_certificate, "serverCertificate", STRING, .doc = "File."),
	FIELD(server_tls, private_key, "privateKey", STRING, .doc = "File."),
	FIELD(server_tls, ca_certificates, "caCertificates", STRING, .doc = "File, to verify clients."),
	FIELD(server_tls, ca_crl, "caCrl", STRING, .doc = "File of revoked certificates."),
	FIELD(server_tls, credential_name, "credentialName", STRING, .group = 1, .doc = "Secret instead of files."),
	FIELD(server_tls, credential_names, "credentialNames", STRING_LIST, .group = 1, .doc = "Several Secrets."),
	FIELD(server_tls, subject_alt_names, "subjectAltNames", STRING_LIST, .doc = "Names that clients must have."),
	FIELD(server_tls, verify_certificate_spki, "verifyCertificateSpki", STRING_LIST,
	      .doc = "Keys that clients must have."),
	FIELD(server_tls, verify_certificate_hash, "verifyCertificateHash", STRING_LIST,
	      .doc = "Certificates that clients must have."),
	FIELD(server_tls, cipher_suites, "cipherSuites", STRING_LIST, .doc = "For TLS 1.2."),
	FIELD(server_tls, min_protocol_version, "minProtocolVersion", ENUM, .words = &tls_versions, .def = "TLS_AUTO",
	      .doc = "Oldest version; default TLS 1.2."),
	FIELD(server_tls, max_protocol_version, "maxProtocolVersion", ENUM, .words = &tls_versions, .def = "TLS_AUTO",
	      .doc = "Newest version."),
};

static void server_tls_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct server_tls *t = object;
	bool ends =
		t->mode == SERVER_TLS_SIMPLE || t->mode == SERVER_TLS_MUTUAL || t->mode == SERVER_TLS_OPTIONAL_MUTUAL;
	bool named = t->credential_name || t->credential_names.n;
	if (ends && !named && (!t->server_certificate || !t->private_key))
		decode_error(d, path, NULL, node, "needs credentialName, or serverCertificate and privateKey");
	if (t->mode == SERVER_TLS_MUTUAL && !named && !t->ca_certificates)
		decode_error(d, path, "caCertificates", node, "is required when the mode is MUTUAL");
}

static const struct schema schema_server_tls =
	SCHEMA(server_tls, server_tls_fields, .name = "ServerTLSSettings", .validate = server_tls_validate);

static const char *check_protocol(const char *text)
{
	static const char *const known[] = { "HTTP",  "HTTPS", "GRPC", "GRPC-WEB", "HTTP2",
					     "MONGO", "TCP",   "TLS",  "UDP",	   "HBONE" };
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(text, known[i]))
			return NULL;
	return "is not one of HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS";
}

static const struct field gateway_port_fields[] = {
	FIELD(gateway_port, number, "number", U16, .flags = FIELD_REQUIRED, .min = 1, .max = 65535, .doc = "Port."),
	FIELD(gateway_port, protocol, "protocol", STRING, .check = check_protocol, .def = "TCP",
	      .doc = "What is spoken there."),
	FIELD(gateway_port, name, "name", STRING, .check = text_check_not_empty, .doc = "Its name."),
	FIELD(gateway_port, target_port, "targetPort", U16, .min = 1, .max = 65535, .doc = "Old; without effect."),
};
static const struct schema schema_gateway_port = SCHEMA(gateway_port, gateway_port_fields, .name = "Port");

/* [namespace/]host */
static const char *check_server_host(const char *text)
{
	return strchr(text, '/') ? text_check_egress_host(text) : text_check_host(text);
}

static const struct field server_fields[] = {
	FIELD(gateway_server, port, "port", OBJECT, .of = &schema_gateway_port, .flags = FIELD_REQUIRED,
	      .doc = "Where it listens."),
	FIELD(gateway_server, bind, "bind", STRING, .doc = "Address to listen at."),
	FIELD(gateway_server, hosts, "hosts", STRING_LIST, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY,
	      .check = check_server_host, .doc = "[namespace/]host that is served."),
	FIELD(gateway_server, tls, "tls", OBJECT, .of = &schema_server_tls, .doc = "TLS with clients."),
	FIELD(gateway_server, default_endpoint, "defaultEndpoint", STRING, .doc = "Old; without effect."),
	FIELD(gateway_server, name, "name", STRING, .doc = "Its name."),
};

static void server_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct gateway_server *s = object;
	bool secure = !strcmp(s->port->protocol, "HTTPS") || !strcmp(s->port->protocol, "TLS");
	if (secure && !s->tls)
		decode_error(d, path, "tls", node, "is required for protocol %s", s->port->protocol);
	if (s->tls && s->tls->https_redirect && strcmp(s->port->protocol, "HTTP"))
		decode_error(d, path, "tls", node_get(node, "tls"), "httpsRedirect needs protocol HTTP");
}

static const struct schema schema_server =
	SCHEMA(gateway_server, server_fields, .name = "Server", .validate = server_validate);

static const struct field gateway_fields[] = {
	FIELD(gateway_spec, servers, "servers", LIST, .of = &schema_server, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY,
	      .doc = "Ports and hosts that are served."),
	FIELD(gateway_spec, selector, "selector", STRING_MAP, .key_check = text_check_label_key,
	      .check = text_check_label_value, .doc = "Labels of the workloads that serve them."),
};
const struct schema schema_gateway =
	SCHEMA(gateway_spec, gateway_fields, .name = "Gateway", .doc = "What is served at the mesh's edge.");

/* --- Sidecar */

static const struct words sidecar_outbound_modes =
	WORDS({ "ALLOW_ANY", OUTBOUND_MODE_ALLOW_ANY }, { "REGISTRY_ONLY", OUTBOUND_MODE_REGISTRY_ONLY });
static const struct field egress_port_fields[] = {
	FIELD(port_selector, number, "number", U16, .flags = FIELD_REQUIRED, .min = 1, .max = 65535,
	      .doc = "Port of the service."),
};
static const struct schema schema_egress_port = SCHEMA(port_selector, egress_port_fields, .name = "PortSelector");
static const struct field egress_proxy_fields[] = {
	FIELD(destination, host, "host", STRING, .flags = FIELD_REQUIRED, .check = text_check_fqdn_host,
	      .doc = "The service."),
	FIELD(destination, subset, "subset", STRING, .check = text_check_name,
	      .doc = "A subset of its DestinationRule."),
	FIELD(destination, port, "port", OBJECT, .of = &schema_egress_port,
	      .doc = "Its port; needed when it has several."),
};
static const struct schema schema_egress_proxy = SCHEMA(destination, egress_proxy_fields, .name = "Destination");

static const struct field sidecar_outbound_fields[] = {
	FIELD(outbound_traffic_policy, mode, "mode", ENUM, .words = &sidecar_outbound_modes, .def = "ALLOW_ANY",
	      .doc = "As in the MeshConfig."),
	FIELD(outbound_traffic_policy, egress_proxy, "egressProxy", OBJECT, .of = &schema_egress_proxy,
	      .doc = "A service that calls to what is not known go to."),
};

static void sidecar_outbound_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct outbound_traffic_policy *o = object;
	if (o->egress_proxy && o->mode != OUTBOUND_MODE_ALLOW_ANY)
		decode_error(d, path, "egressProxy", node_get(node, "egressProxy"), "needs mode ALLOW_ANY");
}

static const struct schema schema_sidecar_outbound =
	SCHEMA(outbound_traffic_policy, sidecar_outbound_fields, .name = "OutboundTrafficPolicy",
	       .validate = sidecar_outbound_validate);

static const struct field egress_fields[] = {
	FIELD(sidecar_egress, port, "port", OBJECT, .of = &schema_gateway_port, .doc = "Only this port."),
	FIELD(sidecar_egress, bind, "bind", STRING, .doc = "Address or unix socket."),
	FIELD(sidecar_egress, capture_mode, "captureMode", STRING, .doc = "DEFAULT, IPTABLES or NONE."),
	FIELD(sidecar_egress, hosts, "hosts", STRING_LIST, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY,
	      .check = text_check_egress_host, .doc = "namespace/host that is seen."),
};
static const struct schema schema_egress = SCHEMA(sidecar_egress, egress_fields, .name = "IstioEgressListener");

static const struct field ingress_fields[] = {
	FIELD(sidecar_ingress, port, "port", OBJECT, .of = &schema_gateway_port, .flags = FIELD_REQUIRED,
	      .doc = "Where it listens."),
	FIELD(sidecar_ingress, bind, "bind", STRING, .doc = "Address."),
	FIELD(sidecar_ingress, capture_mode, "captureMode", STRING, .doc = "DEFAULT, IPTABLES or NONE."),
	FIELD(sidecar_ingress, default_endpoint, "defaultEndpoint", STRING,
	      .doc = "Where the application listens: 127.0.0.1:PORT, or 0.0.0.0:PORT for the pod's own address."),
	FIELD(sidecar_ingress, tls, "tls", OBJECT, .of = &schema_server_tls,
	      .doc = "TLS with callers outside of the mesh."),
	FIELD(sidecar_ingress, connection_pool, "connectionPool", OBJECT, .of = &schema_connection_pool,
	      .doc = "Instead of inboundConnectionPool, for this port."),
};

static void ingress_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct sidecar_ingress *i = object;
	const struct node *at = node_get(node, "defaultEndpoint");
	struct addr_port to;

	if (i->bind && str_starts(i->bind, "unix:"))
		decode_error(d, path, "bind", node_get(node, "bind"),
			     "callers come over the network: give an address, or none");
	if (!i->default_endpoint)
		return;
	if (str_starts(i->default_endpoint, "unix:"))
		decode_error(d, path, "defaultEndpoint", at,
			     "a unix socket is in the application's own file system, out of the mesh's reach; let it "
			     "listen on "
			     "127.0.0.1:PORT");
	else if (addr_port_parse(i->default_endpoint, &to) < 0 || !to.port ||
		 !(addr_is_loopback(&to.addr) || addr_is_zero(&to.addr)))
		decode_error(d, path, "defaultEndpoint", at,
			     "\"%.60s\" is none of 127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT, [::]:PORT",
			     i->default_endpoint);
}

static const struct schema schema_ingress =
	SCHEMA(sidecar_ingress, ingress_fields, .name = "IstioIngressListener", .validate = ingress_validate);

static const struct field sidecar_fields[] = {
	FIELD(sidecar_spec, workload_selector, "workloadSelector", OBJECT, .of = &schema_workload_selector,
	      .doc = "Which workloads; absent: all of the namespace."),
	FIELD(sidecar_spec, ingress, "ingress", LIST, .of = &schema_ingress, .doc = "What is taken."),
	FIELD(sidecar_spec, egress, "egress", LIST, .of = &schema_egress, .doc = "What is seen."),
	FIELD(sidecar_spec, outbound_traffic_policy, "outboundTrafficPolicy", OBJECT, .of = &schema_sidecar_outbound,
	      .doc = "What is not seen."),
	FIELD(sidecar_spec, inbound_connection_pool, "inboundConnectionPool", OBJECT, .of = &schema_connection_pool,
	      .doc = "What the workloads' applications take at once."),
};
const struct schema schema_sidecar = SCHEMA(sidecar_spec, sidecar_fields, .name = "Sidecar",
					    .doc = "What the workloads of a namespace see and take.");

/* --- EnvoyFilter */

/* Never half of one: a document with a patch that is not understood is refused, and what was in force stays. */
static void envoy_filter_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct path list = { .parent = path, .name = "configPatches" };
	const struct node *patches = node_get(node, "configPatches");
	const struct envoy_filter_spec *spec = object;
	const struct node *priority = spec->priority;
	size_t index = 0;
	if (priority && (priority->i < INT32_MIN || priority->i > INT32_MAX))
		decode_error(d, path, "priority", priority, "is not a number of 32 bits");
	for (const struct node *p = patches && patches->type == NODE_LIST ? patches->first : NULL; p;
	     p = p->next, index++) {
		const struct path at = { .parent = &list, .index = index };
		struct envoy_patch ignored;
		char why[200];
		if (envoy_patch_read(p, &ignored, why, sizeof(why)) < 0)
			decode_error(d, &at, NULL, p, "%s; the EnvoyFilter is not applied", why);
	}
}

static const struct field envoy_filter_fields[] = {
	FIELD(envoy_filter_spec, workload_selector, "workloadSelector", OBJECT, .of = &schema_workload_selector,
	      .doc = "Which workloads."),
	FIELD(envoy_filter_spec, target_refs, "targetRefs", LIST, .of = &schema_target_ref,
	      .doc = "Gateways or services instead."),
	FIELD(envoy_filter_spec, config_patches, "configPatches", ANY, .any = NODE_LIST,
	      .doc = "Lua and local rate limits are understood."),
	FIELD(envoy_filter_spec, priority, "priority", ANY, .any = NODE_INT,
	      .doc = "Lower ones first; 0 when absent. Those of the root namespace are before the others in any case."),
};
const struct schema schema_envoy_filter =
	SCHEMA(envoy_filter_spec, envoy_filter_fields, .name = "EnvoyFilter", .validate = envoy_filter_validate,
	       .doc = "Lua scripts and local rate limits.");
