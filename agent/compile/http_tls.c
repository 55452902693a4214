/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates of TLS to servers outside of the mesh. Secrets are looked for as Istio does: in the rule's namespace (a
 * sidecar's rule with credentialName is of the caller's own, and nobody should name Secrets of others), roots in the Secret
 * NAME-cacert before NAME, keys of the Opaque form before those of kubernetes.io/tls. */
#include "agent/compile/http_tls.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/http_backend_tls.h"
#include "agent/compile/http_cluster.h"
#include "agent/compile/inventory.h"
#include "agent/config/kinds.h"

/* --- texts of a Secret */

/* Borrowed from resources; NULL: there is none, or none that is whole. */
struct material {
	const char *ca, *crl, *chain, *key;
	char problem[512]; /* the first; "": none */
};

static void __attribute__((format(printf, 2, 3))) problem_say(struct material *m, const char *format, ...)
{
	va_list args;

	if (m->problem[0])
		return;
	va_start(args, format);
	vsnprintf(m->problem, sizeof(m->problem), format, args);
	va_end(args);
}

bool http_tls_has_block(const char *text, const char *what)
{
	for (const char *at = text; (at = strstr(at, "-----BEGIN ")); at++) {
		const char *name = at + strlen("-----BEGIN "), *end = strstr(name, "-----");
		size_t len = strlen(what);
		if (end && (size_t)(end - name) >= len && memcmp(end - len, what, len) == 0)
			return true;
	}
	return false;
}

static const char *value_of(const struct resource *secret, const char *key)
{
	const char *text = string_map_get(&secret->spec.secret->values, key);

	return text && *text ? text : NULL;
}

/* *out stays NULL when the value is no such thing. */
static void value_take(struct material *m, const struct resource *secret, const char *key, const char *block,
		       const char **out)
{
	const char *text = value_of(secret, key);

	if (text && http_tls_has_block(text, block))
		*out = text;
	else
		problem_say(m, "%s (%s): %s is no PEM of a %s", secret->key, secret->origin, key, block);
}

static void roots_find(struct material *m, const struct resource *secret)
{
	bool opaque = value_of(secret, "cacert");

	if (!opaque && !value_of(secret, "ca.crt")) {
		problem_say(m, "%s (%s) has no certificates to trust: neither cacert nor ca.crt", secret->key,
			    secret->origin);
		return;
	}
	value_take(m, secret, opaque ? "cacert" : "ca.crt", "CERTIFICATE", &m->ca);
	const char *crl = opaque ? "crl" : "ca.crl";
	if (!value_of(secret, crl))
		return;
	value_take(m, secret, crl, "CRL", &m->crl);
	if (!m->crl)
		m->ca = NULL; /* whom it revokes is not known */
}

static void own_find(struct material *m, const struct resource *secret)
{
	bool opaque = value_of(secret, "cert") && value_of(secret, "key");

	if (!opaque && !(value_of(secret, "tls.crt") && value_of(secret, "tls.key"))) {
		problem_say(m, "%s (%s) has no certificate of our own: neither cert and key nor tls.crt and tls.key",
			    secret->key, secret->origin);
		return;
	}
	value_take(m, secret, opaque ? "cert" : "tls.crt", "CERTIFICATE", &m->chain);
	value_take(m, secret, opaque ? "key" : "tls.key", "PRIVATE KEY", &m->key);
}

static void material_find(const struct compiler *c, const char *ns, const struct client_tls *tls, struct material *m)
{
	char name[256];
	const struct resource *own = inventory_get(c, KIND_SECRET, ns, tls->credential_name), *roots = NULL;
	int len = snprintf(name, sizeof(name), "%s-cacert", tls->credential_name);

	*m = (struct material){ 0 };
	if (len > 0 && (size_t)len < sizeof(name))
		roots = inventory_get(c, KIND_SECRET, ns, name);
	if (tls->mode == CLIENT_TLS_MUTUAL && own)
		own_find(m, own);
	if (!tls->insecure_skip_verify.v && (roots || own))
		roots_find(m, roots ? roots : own);
	if (!own && (tls->mode == CLIENT_TLS_MUTUAL || (!roots && !tls->insecure_skip_verify.v)))
		problem_say(m, "there is no Secret %s in namespace %s", tls->credential_name, ns);
}

/* --- into the cluster */

static int text_set(char **out, const char *text)
{
	*out = strdup(text ? text : "");
	return *out ? 0 : -ENOMEM;
}

/* A file that can't be read is as an empty one. */
static int file_set(struct compiler *c, char **out, const char *path)
{
	if (!path)
		return 0;
	if (c->http.read_file)
		*out = c->http.read_file(c->http.read_arg, path);
	return *out ? 0 : text_set(out, NULL);
}

static int secret_set(struct compiler *c, struct http_cluster *out, const char *ns, const struct client_tls *tls)
{
	struct material m;

	material_find(c, ns, tls, &m);
	if (!out->insecure && text_set(&out->ca_pem, m.ca) < 0)
		return -ENOMEM;
	if (!out->insecure && m.crl && text_set(&out->crl_pem, m.crl) < 0)
		return -ENOMEM;
	if (out->tls == CLUSTER_TLS_MUTUAL &&
	    (text_set(&out->chain_pem, m.chain) < 0 || text_set(&out->key_pem, m.key) < 0))
		return -ENOMEM;
	return 0;
}

static int files_set(struct compiler *c, struct http_cluster *out, const struct client_tls *tls)
{
	const char *ca = tls->ca_certificates ? tls->ca_certificates : out->insecure ? NULL : COMPILE_SYSTEM_ROOTS;

	if (file_set(c, &out->ca_pem, ca) < 0 || file_set(c, &out->crl_pem, tls->ca_crl) < 0)
		return -ENOMEM;
	if (out->tls == CLUSTER_TLS_MUTUAL && (file_set(c, &out->chain_pem, tls->client_certificate) < 0 ||
					       file_set(c, &out->key_pem, tls->private_key) < 0))
		return -ENOMEM;
	return 0;
}

static int names_set(struct http_cluster *out, const struct string_list *names)
{
	if (!names->n)
		return 0;
	out->subject_alt_names = calloc(names->n, sizeof(*out->subject_alt_names));
	if (!out->subject_alt_names)
		return -ENOMEM;
	for (size_t i = 0; i < names->n; i++) {
		out->subject_alt_names[i] = strdup(names->v[i]);
		if (!out->subject_alt_names[i])
			return -ENOMEM;
		out->subject_alt_name_count++;
	}
	return 0;
}

static const struct resource *entry_of(const struct compiler *c, const struct http_cluster *out,
				       const struct service *s)
{
	const struct http_scope anybody = { .c = c };
	const struct service_node *node = http_service_find(&anybody, s->hostname, out->port);

	return node && node->resource->kind == KIND_SERVICE_ENTRY ? node->resource : NULL;
}

int http_tls_set(struct compiler *c, struct http_cluster *out, const struct service *s, const struct service_port *port,
		 const struct http_rule *rule)
{
	static const enum cluster_tls modes[] = {
		[CLIENT_TLS_DISABLE] = CLUSTER_TLS_DISABLE,
		[CLIENT_TLS_SIMPLE] = CLUSTER_TLS_SIMPLE,
		[CLIENT_TLS_MUTUAL] = CLUSTER_TLS_MUTUAL,
		[CLIENT_TLS_ISTIO_MUTUAL] = CLUSTER_TLS_ISTIO_MUTUAL,
	};
	const struct client_tls *tls = rule->tls;

	if (!tls) {
		const struct resource *policy = http_backend_tls(c, s, port);
		return policy ? http_backend_tls_set(c, out, policy) : 0;
	}
	out->tls = modes[tls->mode];
	out->insecure = tls->insecure_skip_verify.set && tls->insecure_skip_verify.v;
	if (tls->sni && !(out->sni = strdup(tls->sni)))
		return -ENOMEM;
	if (out->tls != CLUSTER_TLS_SIMPLE && out->tls != CLUSTER_TLS_MUTUAL)
		return names_set(out, &tls->subject_alt_names);
	int rc = tls->credential_name ? secret_set(c, out, rule->set->v[0]->ns, tls) : files_set(c, out, tls);
	if (rc < 0)
		return rc;
	const struct resource *entry = tls->subject_alt_names.n ? NULL : entry_of(c, out, s);
	return names_set(out, entry ? &entry->spec.service_entry->subject_alt_names : &tls->subject_alt_names);
}

/* --- what is missing */

static void file_look(const struct compiler *c, const struct resource *rule, const char *what, const char *path,
		      struct notes *notes)
{
	if (!path || !c->http.read_file)
		return;
	char *text = c->http.read_file(c->http.read_arg, path);
	if (!text)
		NOTE(notes, FINDING_ERROR, rule, "tls.%s: %s can't be read: the connections fail", what, path);
	free(text);
}

static void tls_look(const struct compiler *c, const struct resource *rule, const struct client_tls *tls,
		     struct notes *notes)
{
	struct material m;

	if (!tls || (tls->mode != CLIENT_TLS_SIMPLE && tls->mode != CLIENT_TLS_MUTUAL))
		return;
	if (!tls->credential_name) {
		file_look(c, rule, "caCertificates", tls->ca_certificates, notes);
		file_look(c, rule, "caCrl", tls->ca_crl, notes);
		file_look(c, rule, "clientCertificate", tls->client_certificate, notes);
		file_look(c, rule, "privateKey", tls->private_key, notes);
		return;
	}
	material_find(c, rule->ns, tls, &m);
	if (m.problem[0])
		NOTE(notes, FINDING_ERROR, rule, "tls.credentialName: %s: the connections fail", m.problem);
}

static void policy_look(const struct compiler *c, const struct resource *rule, const struct traffic_policy *p,
			struct notes *notes)
{
	if (!p)
		return;
	tls_look(c, rule, p->tls, notes);
	for (size_t i = 0; i < p->port_level_settings.n; i++)
		tls_look(c, rule, p->port_level_settings.v[i].tls, notes);
}

void http_tls_look(const struct compiler *c, const struct resource *rule, struct notes *notes)
{
	const struct destination_rule_spec *spec = rule->spec.destination_rule;

	policy_look(c, rule, spec->traffic_policy, notes);
	for (size_t i = 0; i < spec->subsets.n; i++)
		policy_look(c, rule, spec->subsets.v[i].traffic_policy, notes);
}
