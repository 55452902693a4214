/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/http_backend_tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/dirty.h"
#include "agent/compile/http_cluster.h"
#include "agent/compile/http_tls.h"
#include "agent/compile/inventory.h"
#include "agent/compile/rules.h"
#include "agent/config/kinds_gateway_api.h"

/* --- targets */

static const struct resource *target_of(const struct compiler *c, const char *ns, const struct policy_target *t)
{
	if (!*t->group && strcmp(t->kind, "Service") == 0)
		return inventory_get(c, KIND_SERVICE, ns, t->name);
	if (strcmp(t->group, "networking.istio.io") == 0 && strcmp(t->kind, "ServiceEntry") == 0)
		return inventory_get(c, KIND_SERVICE_ENTRY, ns, t->name);
	return NULL;
}

static bool is_target(const struct policy_target *t, const struct service *s)
{
	bool entry = s->kind == SERVICE_ENTRY;

	return strcmp(t->kind, entry ? "ServiceEntry" : "Service") == 0 &&
	       strcmp(t->group, entry ? "networking.istio.io" : "") == 0 && str_eq(t->name, s->name);
}

const struct resource *http_backend_tls(const struct compiler *c, const struct service *s,
					const struct service_port *port)
{
	struct resource_range range = inventory_range(c, KIND_K8S_BACKEND_TLS_POLICY, s->ns);
	const struct resource *whole = NULL;

	for (size_t i = 0; i < range.n; i++) {
		const struct backend_tls_policy_spec *spec = range.v[i]->spec.backend_tls_policy;
		for (size_t k = 0; k < spec->targets.n; k++) {
			const struct policy_target *t = &spec->targets.v[k];
			if (!is_target(t, s))
				continue;
			if (t->section && str_eq(t->section, port->name))
				return range.v[i];
			if (!t->section && !whole)
				whole = range.v[i];
		}
	}
	return whole;
}

/* --- changes */

static int targets_dirty(struct compiler *c, const struct resource *r)
{
	const struct backend_tls_policy_spec *spec = r->spec.backend_tls_policy;
	int rc = 0;

	for (size_t i = 0; !rc && i < spec->targets.n; i++) {
		const struct resource *target = target_of(c, r->ns, &spec->targets.v[i]);
		struct bag_items nodes =
			target ? bag_get(&c->by_resource, &target, sizeof(target)) : (struct bag_items){ 0 };
		for (size_t k = 0; !rc && k < nodes.n; k++)
			rc = dirty_service(c, nodes.v[k]);
	}
	return rc;
}

int http_on_backend_tls(struct compiler *c, const struct resource *old, const struct resource *new)
{
	c->http.generation++;
	if (old && targets_dirty(c, old) < 0)
		return -ENOMEM;
	return new ? targets_dirty(c, new) : 0;
}

/* --- into the cluster */

/* Why a reference has no certificates, also in the words of a policy's status. */
struct why {
	const char *words, *reason;
};

/* The certificates of a reference; NULL, with *why: there are none. */
static const char *roots_of(const struct compiler *c, const char *ns, const struct local_ref *ref, struct why *why)
{
	bool secret = strcmp(ref->kind, "Secret") == 0;
	*why = (struct why){ "is no ConfigMap or Secret", "InvalidKind" };
	if (*ref->group || (!secret && strcmp(ref->kind, "ConfigMap") != 0))
		return NULL;
	const struct resource *r = inventory_get(c, secret ? KIND_SECRET : KIND_CONFIG_MAP, ns, ref->name);
	*why = (struct why){ "does not exist", "InvalidCACertificateRef" };
	if (!r)
		return NULL;
	const char *text = string_map_get(secret ? &r->spec.secret->values : &r->spec.config_map->values, "ca.crt");
	why->words = "has no ca.crt that is PEM of certificates";
	return text && http_tls_has_block(text, "CERTIFICATE") ? text : NULL;
}

/* As the Gateway API has it: those that are there count, and with none nobody is trusted. */
static int roots_set(struct compiler *c, struct http_cluster *out, const struct resource *policy)
{
	const struct backend_tls_validation *v = policy->spec.backend_tls_policy->validation;
	struct sb sb = { 0 };

	if (v->well_known) {
		if (c->http.read_file)
			out->ca_pem = c->http.read_file(c->http.read_arg, COMPILE_SYSTEM_ROOTS);
		return out->ca_pem || (out->ca_pem = strdup("")) ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < v->ca_refs.n; i++) {
		struct why why;
		const char *text = roots_of(c, policy->ns, &v->ca_refs.v[i], &why);
		if (text)
			sb_addf(&sb, "%s\n", text);
	}
	out->ca_pem = sb_take(&sb);
	return out->ca_pem ? 0 : -ENOMEM;
}

int http_backend_tls_set(struct compiler *c, struct http_cluster *out, const struct resource *policy)
{
	const struct backend_tls_validation *v = policy->spec.backend_tls_policy->validation;
	size_t n = v->subject_alt_names.n;

	out->tls = CLUSTER_TLS_SIMPLE;
	out->sni = strdup(v->hostname);
	out->subject_alt_names = calloc(n ? n : 1, sizeof(*out->subject_alt_names));
	if (!out->sni || !out->subject_alt_names || roots_set(c, out, policy) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < (n ? n : 1); i++) {
		const struct backend_alt_name *name = n ? &v->subject_alt_names.v[i] : NULL;
		const char *text = !name ? v->hostname : name->type == BACKEND_SAN_URI ? name->uri : name->hostname;
		out->subject_alt_names[i] = strdup(text);
		if (!out->subject_alt_names[i])
			return -ENOMEM;
		out->subject_alt_name_count++;
	}
	return 0;
}

/* --- what is odd */

static void refs_look(const struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct backend_tls_validation *v = r->spec.backend_tls_policy->validation;
	size_t good = 0;

	for (size_t i = 0; i < v->ca_refs.n; i++) {
		struct why why;
		if (roots_of(c, r->ns, &v->ca_refs.v[i], &why))
			good++;
		else
			NOTE(notes, FINDING_ERROR, r,
			     "ResolvedRefs=False (%s): caCertificateRefs[%zu]: %s %s of namespace %s %s", why.reason, i,
			     v->ca_refs.v[i].kind, v->ca_refs.v[i].name, r->ns, why.words);
	}
	if (v->ca_refs.n && !good)
		NOTE(notes, FINDING_ERROR, r,
		     "Accepted=False (NoValidCACertificate): there is nobody to trust: the connections fail");
}

static bool section_known(const struct service *s, const char *section)
{
	for (size_t i = 0; i < s->port_count; i++)
		if (s->ports[i].proto == IPPROTO_TCP && str_eq(s->ports[i].name, section))
			return true;
	return false;
}

static void port_look(const struct compiler *c, const struct resource *r, const struct service *s,
		      const struct service_port *port, struct notes *notes)
{
	const struct resource *in_force = http_backend_tls(c, s, port);
	struct rule_set rules;
	struct http_rule rule;

	if (in_force != r)
		NOTE(notes, FINDING_WARNING, r,
		     "Accepted=False (Conflicted): is ignored for port %u of %s: %s is for it, too", port->port,
		     s->hostname, in_force ? in_force->key : "another");
	rules_of(c, &(struct rule_caller){ 0 }, s->ns, s->hostname, &rules);
	http_rule_of(&rules, port->port, NULL, &rule);
	if (rule.tls)
		NOTE(notes, FINDING_WARNING, r, "is ignored for port %u of %s: the TLS settings of %s count instead",
		     port->port, s->hostname, rules.v[0]->key);
}

static void target_look(const struct compiler *c, const struct resource *r, const struct policy_target *t,
			struct notes *notes)
{
	const struct resource *target = target_of(c, r->ns, t);
	if (!target) {
		NOTE(notes, FINDING_WARNING, r,
		     "Accepted=False (TargetNotFound): targetRef: there is no %s %s in namespace %s", t->kind, t->name,
		     r->ns);
		return;
	}
	struct bag_items nodes = bag_get(&c->by_resource, &target, sizeof(target));
	for (size_t i = 0; i < nodes.n; i++) {
		const struct service *s = ((const struct service_node *)nodes.v[i])->object;
		if (s && t->section && !section_known(s, t->section))
			NOTE(notes, FINDING_WARNING, r,
			     "Accepted=False (TargetNotFound): targetRef %s: has no port that is named %s", t->name,
			     t->section);
		for (size_t k = 0; s && k < s->port_count; k++)
			if (s->ports[k].proto == IPPROTO_TCP && (!t->section || str_eq(t->section, s->ports[k].name)))
				port_look(c, r, s, &s->ports[k], notes);
	}
}

void http_backend_tls_look(const struct compiler *c, const struct resource *policy, struct notes *notes)
{
	const struct backend_tls_policy_spec *spec = policy->spec.backend_tls_policy;

	refs_look(c, policy, notes);
	for (size_t i = 0; i < spec->targets.n; i++)
		target_look(c, policy, &spec->targets.v[i], notes);
}
