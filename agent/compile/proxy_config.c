/* SPDX-License-Identifier: Apache-2.0 */
/* ProxyConfig -> what a workload's helper writes into headers and believes of them: the MeshConfig's defaultConfig, then the
 * workload's annotation proxy.istio.io/config, which is YAML as text and counts field by field. What can't be honoured is
 * said. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/filters.h"
#include "agent/config/arena.h"
#include "agent/config/node.h"
#include "agent/config/yaml.h"

static const char annotation[] = "proxy.istio.io/config";

enum { TRUSTED_MAX = 1000, TEXT_MAX = 64 << 10, SERVER_MAX = 256 };

struct reading {
	struct proxy_settings *to;
	const struct resource *r; /* the document that says it */
	struct notes *notes;
};

/* A bool of a map: its value, or `now` when nothing is said. */
static bool bool_of(const struct reading *rd, const struct node *map, const char *of, const char *key, bool now)
{
	const struct node *n = node_get(map, key);

	if (!n || n->type == NODE_NULL)
		return now;
	if (n->type == NODE_BOOL)
		return n->b;
	NOTE(rd->notes, FINDING_ERROR, rd->r, "%s%s%s is %s where true or false belongs: it has no effect", of,
	     *of ? "." : "", key, node_type_name(n->type));
	return now;
}

static void disabled_of(const struct reading *rd, const struct node *headers, const char *key, bool *disabled)
{
	*disabled = bool_of(rd, node_get(headers, key), key, "disabled", *disabled);
}

/* The peer is known by its URI; there is no certificate of an attested peer. */
static void cert_details(const struct reading *rd, const struct node *headers)
{
	static const char *const others[] = { "cert", "chain", "dns" };
	const struct node *details = node_get(headers, "setCurrentClientCertDetails");

	rd->to->no_cert_uri = !bool_of(rd, details, "setCurrentClientCertDetails", "uri", !rd->to->no_cert_uri);
	rd->to->no_cert_subject =
		!bool_of(rd, details, "setCurrentClientCertDetails", "subject", !rd->to->no_cert_subject);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (bool_of(rd, details, "setCurrentClientCertDetails", others[i], false))
			NOTE(rd->notes, FINDING_WARNING, rd->r,
			     "proxyHeaders.setCurrentClientCertDetails.%s has no effect: x-forwarded-client-cert says "
			     "By, Hash, Subject and URI (By and URI of peers on the same node, which are attested by "
			     "the "
			     "kernel and have no certificate)",
			     others[i]);
}

static void client_cert(const struct reading *rd, const struct node *headers)
{
	static const struct {
		const char *text;
		enum proxy_client_cert mode;
	} modes[] = {
		{ "SANITIZE", PROXY_CERT_SANITIZE },
		{ "FORWARD_ONLY", PROXY_CERT_FORWARD },
		{ "APPEND_FORWARD", PROXY_CERT_APPEND },
		{ "SANITIZE_SET", PROXY_CERT_SET },
		{ "ALWAYS_FORWARD_ONLY", PROXY_CERT_ALWAYS_FORWARD },
	};
	const char *text = node_get_text(headers, "forwardedClientCert");

	if (!text && !node_get(headers, "forwardedClientCert"))
		return;
	if (text && strcmp(text, "UNDEFINED") == 0)
		return;
	for (size_t i = 0; text && i < ARRAY_SIZE(modes); i++) {
		if (strcmp(text, modes[i].text) != 0)
			continue;
		rd->to->client_cert = modes[i].mode;
		rd->to->client_cert_asked = true;
		return;
	}
	/* What was meant is not known; nobody is believed then. */
	rd->to->client_cert = PROXY_CERT_SANITIZE;
	rd->to->client_cert_asked = true;
	NOTE(rd->notes, FINDING_ERROR, rd->r,
	     "proxyHeaders.forwardedClientCert is not UNDEFINED, SANITIZE, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET "
	     "or "
	     "ALWAYS_FORWARD_ONLY: x-forwarded-client-cert is removed from all requests");
}

static int server_of(const struct reading *rd, const struct node *headers)
{
	const struct node *server = node_get(headers, "server");
	const char *value = node_get_text(server, "value");
	bool disabled = bool_of(rd, server, "server", "disabled", false);

	if (disabled || (value && !*value)) {
		free(rd->to->server);
		rd->to->server = NULL;
	} else if (value) {
		for (const char *p = value; *p; p++)
			if ((unsigned char)*p < ' ' || *p == 0x7f || p - value >= SERVER_MAX) {
				NOTE(rd->notes, FINDING_ERROR, rd->r,
				     "proxyHeaders.server.value can't be a header's value: it has no effect");
				return 0;
			}
		char *copy = strdup(value);
		if (!copy)
			return -ENOMEM;
		free(rd->to->server);
		rd->to->server = copy;
	}
	return 0;
}

static void unknown_look(const struct reading *rd, const struct node *headers)
{
	static const struct {
		const char *key, *why;
	} others[] = {
		{ "metadataExchangeHeaders", "no such headers are ever written" },
		{ "xForwardedHost", "x-forwarded-host is as the application sent it" },
		{ "xForwardedPort", "x-forwarded-port is as the application sent it" },
	};
	static const char *const known[] = {
		"forwardedClientCert", "setCurrentClientCertDetails", "requestId", "server", "attemptCount",
		"envoyDebugHeaders",   "preserveHttp1HeaderCase"
	};

	for (const struct node *n = headers && headers->type == NODE_MAP ? headers->first : NULL; n; n = n->next) {
		const char *why = "it is not known";
		bool found = false;
		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			found |= strcmp(n->key, known[i]) == 0;
		for (size_t i = 0; i < ARRAY_SIZE(others); i++)
			if (strcmp(n->key, others[i].key) == 0)
				why = others[i].why;
		if (!found)
			NOTE(rd->notes, FINDING_WARNING, rd->r, "proxyHeaders.%s has no effect: %s", n->key, why);
	}
}

static void topology(const struct reading *rd, const struct node *t)
{
	const struct node *n = node_get(t, "numTrustedProxies");

	if (n && (n->type != NODE_INT || n->i < 0 || n->i > TRUSTED_MAX))
		NOTE(rd->notes, FINDING_ERROR, rd->r,
		     "gatewayTopology.numTrustedProxies is not a number of at most %d: it has no effect", TRUSTED_MAX);
	else if (n)
		rd->to->trusted_proxies = (uint32_t)n->i;
	if (node_get(t, "forwardClientCertDetails"))
		NOTE(rd->notes, FINDING_INFO, rd->r,
		     "gatewayTopology.forwardClientCertDetails is for gateways, as in Istio: of workloads "
		     "proxyHeaders.forwardedClientCert says it");
	if (node_get(t, "proxyProtocol"))
		NOTE(rd->notes, FINDING_WARNING, rd->r,
		     "gatewayTopology.proxyProtocol has no effect: PROXY headers are not read from callers");
}

static int config_read(const struct reading *rd, const struct node *config)
{
	const struct node *headers = node_get(config, "proxyHeaders");
	struct proxy_settings *to = rd->to;

	to->preserve_case = bool_of(rd, headers, "proxyHeaders", "preserveHttp1HeaderCase", to->preserve_case);
	disabled_of(rd, headers, "attemptCount", &to->no_attempt_count);
	disabled_of(rd, headers, "requestId", &to->no_request_id);
	disabled_of(rd, headers, "envoyDebugHeaders", &to->no_envoy_headers);
	client_cert(rd, headers);
	cert_details(rd, headers);
	unknown_look(rd, headers);
	topology(rd, node_get(config, "gatewayTopology"));
	return server_of(rd, headers);
}

/* The rest of a ProxyConfig is about Envoy processes, of which there are none. */
static void annotation_look(const struct reading *rd, const struct node *config)
{
	for (const struct node *n = config->first; n; n = n->next)
		if (strcmp(n->key, "proxyHeaders") != 0 && strcmp(n->key, "gatewayTopology") != 0)
			NOTE(rd->notes, FINDING_INFO, rd->r,
			     "%s: %s has no effect on one workload: proxyHeaders and gatewayTopology have", annotation,
			     n->key);
}

static int annotation_read(const struct reading *rd, const char *text)
{
	struct err err = ERR_INIT;
	struct node *n = NULL;
	uint32_t line;
	struct arena *arena = arena_new(4096);
	int rc = !arena			 ? -ENOMEM :
		 strlen(text) > TEXT_MAX ? err_set(&err, -EINVAL, "it is longer than %d bytes", TEXT_MAX) :
					   yaml_parse(arena, text, strlen(text), 1, &n, &line, &err);

	if (rc == 0 && n && n->type != NODE_MAP)
		rc = err_set(&err, -EINVAL, "it is %s where a map belongs", node_type_name(n->type));
	if (rc == 0 && n) {
		annotation_look(rd, n);
		rc = config_read(rd, n);
	}
	if (rc < 0 && rc != -ENOMEM) {
		NOTE(rd->notes, FINDING_ERROR, rd->r, "%s can't be read (%s): it has no effect", annotation, err.text);
		rc = 0;
	}
	arena_free(arena);
	return rc;
}

int proxy_config_add(const struct filters_of *of, struct http_filters *f)
{
	const struct mesh_config_spec *mesh = of->c->mesh_config;
	const char *text = of->r ? string_map_get(&of->r->annotations, annotation) : NULL;
	struct reading rd = { .to = &f->proxy };
	int rc = mesh ? config_read(&rd, mesh->default_config) : 0;

	rd.r = of->r;
	rd.notes = of->notes;
	return rc == 0 && text ? annotation_read(&rd, text) : rc;
}

int proxy_config_outbound(const struct filters_of *of, struct http_filters *f)
{
	const struct filters_of quiet = { of->c, of->ns, of->labels, of->label_count, of->policy, NULL, of->r };

	return proxy_config_add(&quiet, f); /* said of the other direction */
}

int proxy_config_look(const struct resource *r, struct notes *notes)
{
	struct proxy_settings none = { 0 };
	const struct reading rd = { .to = &none, .r = r, .notes = notes };
	int rc = config_read(&rd, r->spec.mesh_config->default_config);

	proxy_settings_done(&none);
	return rc;
}
