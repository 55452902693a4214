/* SPDX-License-Identifier: Apache-2.0 */
/* Lists: resources as written, and workloads, services and policies as compiled. */
#include "agent/control/request.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>
#include <microhttpd.h>

#include "agent/base/err.h"
#include "agent/base/str.h"
#include "agent/control/backend.h"
#include "agent/control/http_words.h"
#include "agent/control/json.h"
#include "agent/control/objects.h"
#include "agent/model/plan.h"
#include "agent/source/store.h"

static json_t *map_json(const struct string_map *map)
{
	json_t *o = json_object();

	for (size_t i = 0; i < map->n; i++)
		json_set_text(o, map->v[i].key, map->v[i].value);
	return o;
}

static json_t *resource_json(struct request *rq, const struct resource *r, bool with_text)
{
	const struct control_backend *b = request_backend(rq);
	json_t *o = json_object();

	json_set_text(o, "kind", resource_kind_name(r->kind));
	json_set_text(o, "namespace", r->ns && *r->ns ? r->ns : NULL);
	json_set_text(o, "name", r->name);
	json_set_text(o, "key", r->key);
	json_set_text(o, "api_version", r->api_version);
	json_set_text(o, "origin", r->origin);
	json_set(o, "labels", map_json(&r->labels));
	if (!with_text)
		return o;
	if (r->kind != KIND_SECRET) /* kubectl keeps the values in one of them */
		json_set(o, "annotations", map_json(&r->annotations));
	struct sb text = { 0 };
	struct err err = ERR_INIT;
	if (b->resource_text && b->resource_text(r->key, &text, &err, b->arg) == 0 && text.p)
		json_set_text(o, "text", text.p);
	sb_done(&text);
	return o;
}

static const struct store *request_store(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	const struct store *store = b->store ? b->store(b->arg) : NULL;

	if (!store)
		reply_error(rq, MHD_HTTP_SERVICE_UNAVAILABLE, "no configuration has been read yet");
	return store;
}

static const char *nearest_kind(const char *word)
{
	const char *best = NULL;
	unsigned int best_distance = 4;

	for (int kind = 0; kind < KIND_COUNT; kind++) {
		const char *name = resource_kind_name((enum resource_kind)kind);
		char lower[64];
		size_t n = 0;
		for (; name[n] && n + 1 < sizeof(lower); n++)
			lower[n] = (char)(name[n] >= 'A' && name[n] <= 'Z' ? name[n] - 'A' + 'a' : name[n]);
		lower[n] = 0;
		unsigned int distance = str_distance(word, lower, 4);
		if (distance < best_distance) {
			best_distance = distance;
			best = name;
		}
	}
	return best;
}

void handle_resources(struct request *rq)
{
	const struct store *store = request_store(rq);
	const char *word = request_capture(rq, 0), *ns = request_capture(rq, 1), *name = request_capture(rq, 2);
	enum resource_kind kind;
	if (!store)
		return;
	if (resource_kind_parse(word, &kind) < 0) {
		const char *near = nearest_kind(word);
		reply_error(rq, MHD_HTTP_NOT_FOUND, "\"%.60s\" is not a kind of resource%s%s%s", word,
			    near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
		return;
	}
	if (ns && !name && !resource_kind_is_namespaced(kind)) {
		name = ns;
		ns = "";
	}
	if (!ns)
		ns = request_query(rq, "namespace");
	if (name) {
		const struct resource *r = store_get(store, kind, ns ? ns : "", name);
		if (r)
			reply_json(rq, resource_json(rq, r, true));
		else
			reply_error(rq, MHD_HTTP_NOT_FOUND, "there is no %s %s%s%s in force", resource_kind_name(kind),
				    ns ? ns : "", ns && *ns ? "/" : "", name);
		return;
	}
	json_t *items = json_array();
	bool with_text = request_query_true(rq, "text");
	for (const struct resource *r = NULL; (r = store_next(store, kind, r));)
		if (!ns || str_eq(r->ns, ns))
			json_add(items, resource_json(rq, r, with_text));
	reply_json(rq, json_of_items(items));
}

const char *workload_path_text(const struct plan *plan, const struct workload *w, uint8_t proto)
{
	if (proto != IPPROTO_TCP)
		return "plaintext";
	if (!w->enrolled)
		return w->tunnel == TUNNEL_HBONE ? "hbone" : "plaintext";
	if (workload_is_local(w))
		return plan->mesh.same_node == SAME_NODE_MTLS ? "hbone" : "attested";
	return w->tunnel == TUNNEL_HBONE ? "hbone" : "plaintext";
}

json_t *workload_json(struct request *rq, const struct plan *plan, const struct workload *w)
{
	const struct control_backend *b = request_backend(rq);
	json_t *o = json_object(), *addrs = json_array(), *labels = json_object();

	for (size_t i = 0; i < w->addr_count; i++)
		json_add(addrs, json_of_addr(&w->addrs[i]));
	for (size_t i = 0; i < w->label_count; i++)
		json_set_text(labels, w->labels[i].key, w->labels[i].value);
	json_set_text(o, "uid", w->uid);
	json_set_text(o, "namespace", w->ns);
	json_set_text(o, "name", w->name);
	json_set_text(o, "identity", w->identity->uri);
	json_set_text(o, "node", w->node);
	json_set_bool(o, "local", workload_is_local(w));
	json_set_bool(o, "enrolled", w->enrolled);
	json_set_text(o, "reached_by", workload_path_text(plan, w, IPPROTO_TCP));
	json_set(o, "addresses", addrs);
	json_set_text_if(o, "locality", w->locality);
	json_set_text_if(o, "place", w->place_name);
	json_set_u64(o, "weight", w->weight);
	json_set(o, "labels", labels);
	if (!workload_is_local(w) || !b->pod)
		return o;
	struct control_pod pod = { 0 };
	b->pod(w, &pod, b->arg);
	json_set_text(o, "state",
		      pod.error	   ? "failed" :
		      !w->enrolled ? "not in the mesh" :
		      pod.ready	   ? "ready" :
		      pod.enrolled ? "starting" :
				     "waiting");
	json_set_text_if(o, "error", pod.error);
	return o;
}

void handle_workloads(struct request *rq)
{
	const struct plan *plan = request_plan(rq);
	const char *ns = request_capture(rq, 0), *name = request_capture(rq, 1);
	if (!plan)
		return;
	if (name) {
		char uid[600];
		snprintf(uid, sizeof(uid), "%s/%s", ns, name);
		const struct workload *w = plan_workload_by_uid(plan, uid);
		if (w)
			reply_json(rq, workload_json(rq, plan, w));
		else
			reply_error(rq, MHD_HTTP_NOT_FOUND, "there is no workload %s", uid);
		return;
	}
	ns = request_query(rq, "namespace");
	bool local = request_query_true(rq, "local");
	json_t *items = json_array();
	for (size_t i = 0; i < plan->workload_count; i++) {
		const struct workload *w = plan->workloads[i];
		if ((!ns || str_eq(w->ns, ns)) && (!local || workload_is_local(w)))
			json_add(items, workload_json(rq, plan, w));
	}
	reply_json(rq, json_of_items(items));
}

static json_t *share_json(size_t slots, size_t of)
{
	return of ? json_real((double)slots / (double)of) : json_null();
}

json_t *endpoint_json(const struct plan *plan, const struct service_port *port, size_t at,
		      const struct addr_port *chosen)
{
	const struct endpoint *e = &port->endpoints[at];
	struct addr_port where = { e->addr, e->port };
	json_t *o = json_object();
	size_t slots = 0, slots6 = 0;

	for (size_t i = 0; i < port->slot_count; i++)
		slots += port->slots[i] == at;
	for (size_t i = 0; i < port->slot6_count; i++)
		slots6 += port->slots6[i] == at;
	json_set(o, "address", json_of_addr_port(&where));
	json_set_text(o, "workload", e->workload ? e->workload->uid : NULL);
	json_set_text(o, "node", e->workload ? e->workload->node : NULL);
	json_set_text(o, "reached_by", e->workload ? workload_path_text(plan, e->workload, port->proto) : "plaintext");
	json_set_u64(o, "weight", e->weight);
	json_set_u64(o, "priority", e->priority);
	json_set_bool(o, "healthy", e->healthy);
	/* Of callers by an IPv4 and by an IPv6 address; null: the service has none of that family. */
	json_set(o, "share", share_json(slots, port->slot_count));
	json_set(o, "share6", share_json(slots6, port->slot6_count));
	if (chosen)
		json_set_bool(o, "chosen", addr_port_eq(&where, chosen));
	return o;
}

static json_t *port_json(const struct plan *plan, const struct service_port *port, bool endpoints)
{
	json_t *o = json_object();
	size_t usable = 0;

	for (size_t i = 0; i < port->endpoint_count; i++)
		usable += port->endpoints[i].healthy;
	json_set_text_if(o, "name", port->name);
	json_set_u64(o, "port", port->port);
	json_set_text(o, "protocol", text_of_proto(port->proto));
	json_set_text(o, "app_protocol", text_of_app(port->app));
	if (port->l7 != L7_NONE)
		json_set_text(o, "http", text_of_l7_mode((enum l7_mode)port->l7));
	json_set_u64(o, "endpoint_count", port->endpoint_count);
	json_set_u64(o, "healthy_count", usable);
	if (!endpoints)
		return o;
	json_t *list = json_array();
	for (size_t i = 0; i < port->endpoint_count; i++)
		json_add(list, endpoint_json(plan, port, i, NULL));
	json_set(o, "endpoints", list);
	return o;
}

json_t *service_json(const struct plan *plan, const struct service *s, bool endpoints)
{
	json_t *o = json_object(), *vips = json_array(), *ports = json_array();
	char buf[CIDR_TEXT_MAX];

	for (size_t i = 0; i < s->vip_count; i++) {
		bool single = s->vips[i].bits == 128;
		json_add(vips, single ? json_of_addr(&s->vips[i].addr) : json_string(cidr_text(&s->vips[i], buf)));
	}
	for (size_t i = 0; i < s->port_count; i++)
		json_add(ports, port_json(plan, &s->ports[i], endpoints));
	json_set_text(o, "namespace", s->ns);
	json_set_text(o, "name", s->name);
	json_set_text(o, "hostname", s->hostname);
	json_set_text(o, "kind", text_of_service_kind(s->kind));
	json_set(o, "vips", vips);
	json_set(o, "ports", ports);
	json_set_text(o, "load_balancing", text_of_lb(s->lb));
	if (s->affinity_timeout_s)
		json_set_u64(o, "affinity_timeout_s", s->affinity_timeout_s);
	json_set_bool(o, "external", s->external);
	json_set_text(o, "origin", s->origin);
	return o;
}

void handle_services(struct request *rq)
{
	const struct plan *plan = request_plan(rq);
	const char *ns = request_capture(rq, 0), *name = request_capture(rq, 1);
	if (!plan)
		return;
	bool one = name != NULL;
	if (!one)
		ns = request_query(rq, "namespace");
	json_t *items = json_array();
	for (size_t i = 0; i < plan->service_count; i++) {
		const struct service *s = plan->services[i];
		if (ns && !str_eq(s->ns, ns))
			continue;
		if (!one || str_eq(s->name, name) || str_eq(s->hostname, name))
			json_add(items, service_json(plan, s, one));
	}
	if (one && !json_array_size(items)) {
		json_decref(items);
		reply_error(rq, MHD_HTTP_NOT_FOUND, "there is no service %s/%s", ns, name);
		return;
	}
	reply_json(rq, json_of_items(items));
}

json_t *policy_rule_json(const struct policy_rule *rule)
{
	json_t *o = json_object();

	json_set_text(o, "action", text_of_action(rule->action));
	json_set_text(o, "name", rule->name);
	json_set_text(o, "origin", rule->origin);
	json_set_u64(o, "rule", rule->index);
	json_set_bool(o, "dry_run", rule->dry_run);
	return o;
}

static json_t *policy_json(const struct workload *w)
{
	const struct policy *p = w->policy;
	json_t *o = json_object(), *ports = json_array(), *rules = json_array();
	char id[32];

	snprintf(id, sizeof(id), "%016llx", (unsigned long long)p->id);
	for (size_t i = 0; i < p->port_mtls_count; i++) {
		json_t *port = json_object();
		json_set_u64(port, "port", p->port_mtls[i].port);
		json_set_text(port, "mode", text_of_mtls(p->port_mtls[i].mode));
		json_add(ports, port);
	}
	for (size_t i = 0; i < p->rule_count; i++)
		json_add(rules, policy_rule_json(&p->rules[i]));
	json_set_text(o, "workload", w->uid);
	json_set_text(o, "id", id);
	json_set_text(o, "mtls", text_of_mtls(p->mtls));
	json_set_text(o, "mtls_origin", p->mtls_origin);
	json_set(o, "port_mtls", ports);
	json_set_bool(o, "default_allow", !p->has_allow);
	json_set_text_if(o, "allow_policies", p->allow_names);
	json_set(o, "rules", rules);
	return o;
}

void handle_policies(struct request *rq)
{
	const struct plan *plan = request_plan(rq);
	const char *ns = request_capture(rq, 0), *name = request_capture(rq, 1);
	if (!plan)
		return;
	bool one = name != NULL;
	if (!one)
		ns = request_query(rq, "namespace");
	json_t *items = json_array();
	for (size_t i = 0; i < plan->workload_count; i++) {
		const struct workload *w = plan->workloads[i];
		if (w->policy && (!ns || str_eq(w->ns, ns)) && (!one || str_eq(w->name, name)))
			json_add(items, policy_json(w));
	}
	if (one && !json_array_size(items)) {
		json_decref(items);
		reply_error(rq, MHD_HTTP_NOT_FOUND,
			    "there is no policy of %s/%s here; policies are compiled for the enrolled workloads of "
			    "this node",
			    ns, name);
		return;
	}
	reply_json(rq, json_of_items(items));
}
