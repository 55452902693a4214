/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a connection, told from three places, in this order: the kernel's live tables (outbound choice and
 * SYN verdict), policy_eval() over the compiled policy (what the helper runs; also names the rule), and the plan where
 * neither can be asked because the other end is not on this node. What was not asked is said, not guessed. */
#include "agent/control/request.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/err.h"
#include "agent/base/str.h"
#include "agent/control/backend.h"
#include "agent/control/json.h"
#include "agent/control/locate.h"
#include "agent/control/objects.h"
#include "agent/model/l7.h"
#include "agent/model/plan.h"

struct explain {
	struct request *rq;
	const struct plan *plan;
	struct located_source source;
	struct located_destination to;

	bool asked_kernel; /* outbound is the live tables' answer */
	struct explain_outbound outbound;
	bool has_chosen;
	struct addr_port chosen;	    /* endpoint */
	const struct workload *destination; /* that has the endpoint; NULL: outside the mesh */
	const char *path;		    /* "attested", "hbone", "http", "direct", "plaintext", "refused" */
	bool authenticated;
	enum drop_reason inbound_reason;
	bool inbound_known;
	bool any_unknown; /* whether it is refused depends on whom it says that it calls */
	bool by_helper;	  /* outbound is what the helper will say */
	json_t *notes;
};

static void note(struct explain *x, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct explain *x, const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_t *value = json_string(text);
	if (value)
		json_add(x->notes, value);
}

static const char *node_of(const struct workload *w)
{
	return w && w->node ? w->node : "an unknown node";
}

static bool same_node(const struct workload *a, const struct workload *b)
{
	if (workload_is_local(a) && workload_is_local(b))
		return true;
	return a->node && str_eq(a->node, b->node);
}

static void ask_outbound(struct explain *x)
{
	const struct control_backend *b = request_backend(x->rq);
	const struct workload *w = x->source.workload;
	struct err err = ERR_INIT;

	if (!w || !w->enrolled)
		return;
	if (!workload_is_local(w)) {
		note(x,
		     "The source runs on %s: its kernel was not asked; which endpoint it picks is shown from the "
		     "configuration. "
		     "Ask meshctl there.",
		     node_of(w));
		return;
	}
	if (!b->explain_outbound)
		return;
	int rc = b->explain_outbound(w, &x->to.asked, x->to.proto, &x->outbound, &err, b->arg);
	if (rc < 0)
		note(x, "The kernel's tables could not be asked (%s); shown from the configuration.", err.text);
	else
		x->asked_kernel = true;
}

/* A service that REGISTRY_ONLY forbids, or without endpoints, when the kernel was not asked. */
static void outbound_from_plan(struct explain *x)
{
	const struct service_port *port = x->to.port;
	bool v6 = !addr_is_v4(&x->to.asked.addr);
	/* A headless service has no schedule: its callers choose among its endpoints' own addresses. */
	bool headless = x->to.service && x->to.service->kind == SERVICE_HEADLESS;
	bool as_asked = port && port->lb == LB_PASSTHROUGH; /* to the address that the caller has */
	size_t slots = !port	? 0 :
		       as_asked ? 1 :
		       headless ? port->endpoint_count :
		       v6	? port->slot6_count :
				  port->slot_count;

	x->outbound = (struct explain_outbound){ .path = PATH_DIRECT };
	if (x->to.any) {
		x->outbound.chosen = x->to.asked;
	} else if (x->to.service && !slots) {
		x->outbound.path = PATH_DENY;
		x->outbound.reason = port ? DROP_NO_ENDPOINT : DROP_NOT_IN_REGISTRY;
	} else if (as_asked) {
		x->outbound.chosen = x->to.asked;
		if (port->original_port)
			x->outbound.chosen.port = port->original_port;
	} else if (port) {
		const struct endpoint *e = &port->endpoints[headless ? 0 : v6 ? port->slots6[0] : port->slots[0]];
		x->outbound.chosen = headless ? x->to.asked : (struct addr_port){ e->addr, e->port };
	} else {
		x->outbound.chosen = x->to.asked;
		if (!x->to.workload && x->source.workload &&
		    x->source.workload->outbound_policy == OUTBOUND_REGISTRY_ONLY) {
			x->outbound.path = PATH_DENY;
			x->outbound.reason = DROP_NOT_IN_REGISTRY;
		}
	}
}

static const char *path_from_plan(const struct explain *x)
{
	const struct workload *s = x->source.workload, *d = x->destination;

	if (!s || !s->enrolled || x->to.proto != IPPROTO_TCP)
		return "plaintext";
	if (!d || !d->enrolled)
		return d && d->tunnel == TUNNEL_HBONE ? "hbone" : "direct";
	if (same_node(s, d) && x->plan->mesh.same_node == SAME_NODE_ATTEST)
		return "attested";
	return same_node(s, d) || d->tunnel == TUNNEL_HBONE ? "hbone" : "plaintext";
}

/* Nothing is known of the address: the host of requests, and the server name of TLS, say whom the connection calls. */
static void tell_any(struct explain *x)
{
	const struct control_backend *b = request_backend(x->rq);
	const char *host = *x->to.host ? x->to.host : NULL, *source = x->source.workload->uid;
	struct l7_target *t = NULL;

	if (!b->target || b->target(x->source.workload, &x->to.asked, host, &t, b->arg) < 0) {
		note(x, "Whom it calls, the host of its requests, or the server name of its TLS, tells.");
		return;
	}
	bool as_asked = !x->to.port || x->to.port->lb == LB_PASSTHROUGH;
	const char *to = t->default_cluster ? t->default_cluster : "nowhere: REGISTRY_ONLY";
	if (!host)
		note(x,
		     "Whom it calls, the host of its requests, or the server name of its TLS, tells; what names nobody "
		     "that is known goes to %s. Ask with the name: meshctl explain %s HOST:%u.",
		     to, source, x->to.asked.port);
	else if (t->service || t->default_cluster)
		note(x, "By the server name %s, or requests with that host, it goes to %s%s.", host, to,
		     as_asked ? ", at the address that is called" : "");
	else
		note(x,
		     "No entry that the source sees has %s at port %u: requests with that host are answered with 502, "
		     "TLS "
		     "with that server name is reset.",
		     host, x->to.asked.port);
	if (host && t->mode != L7_TCP)
		note(x, "What happens to a request: meshctl explain %s http://%s:%u/PATH.", source, host,
		     x->to.asked.port);
	x->any_unknown = !host && !t->default_cluster;
	if (host && !t->default_cluster && !t->vhost) {
		x->by_helper = true;
		x->path = "refused";
		x->outbound.path = PATH_DENY;
		x->outbound.reason = t->registry_only ? DROP_NOT_IN_REGISTRY : DROP_UNKNOWN_DESTINATION;
	}
	l7_target_unref(t);
}

static void settle_path(struct explain *x)
{
	/* The HTTP engine chooses for each request: shown is one of those that it has. */
	bool http = x->asked_kernel && x->outbound.path == PATH_HELPER_L7;
	if (!x->asked_kernel || http)
		outbound_from_plan(x);
	if (http && x->outbound.path == PATH_DENY) {
		note(x, "The service has no endpoint: unless a route leads elsewhere, requests are answered with 503.");
		x->path = "http";
		x->outbound.path = PATH_HELPER_L7;
		return;
	}
	if (http)
		x->outbound.path = PATH_HELPER_L7;
	if (x->outbound.path == PATH_DENY) {
		x->path = "refused";
		return;
	}
	x->chosen = x->outbound.chosen.port ? x->outbound.chosen : x->to.asked;
	x->has_chosen = true;
	x->destination = plan_workload_by_addr(x->plan, &x->chosen.addr);
	const struct workload *s = x->source.workload;
	if (!x->asked_kernel) {
		x->path = path_from_plan(x);
		http = s && s->enrolled && x->to.port && x->to.port->l7 != L7_NONE;
	} else if (x->outbound.path == PATH_HELPER_L4) {
		x->path = "hbone";
	} else if (!http) {
		const struct workload *d = x->destination;
		bool attested = d && d->enrolled && workload_is_local(d) && x->to.proto == IPPROTO_TCP;
		x->path = attested ? "attested" : "direct";
	}
	x->authenticated =
		http ? s && x->destination && !str_eq(path_from_plan(x), "plaintext") && x->destination->enrolled :
		       str_eq(x->path, "hbone") || str_eq(x->path, "attested");
	if (!http)
		return;
	x->path = "http";
	if (x->to.any) {
		tell_any(x);
		return;
	}
	note(x,
	     "Its requests are routed and balanced one by one. What happens to one: meshctl explain %s "
	     "http://HOST/PATH.",
	     s ? s->uid : "SOURCE");
}

/* Rules on requests, at a port where requests are seen: who may connect is not who may ask ("by_request"). Rules on TLS
 * server names, without one of which the connection is refused ("by_name"). NULL: neither, the verdict stands. */
static const char *judged_later(const struct policy *p, const struct workload *d, const struct located_destination *to,
				uint16_t port, enum drop_reason reason)
{
	if (to->proto != IPPROTO_TCP || !policy_needs_http(p) || reason == DROP_MTLS_REQUIRED)
		return NULL;
	bool http = d->l7_other_ports || (to->port && to->port->l7 != L7_NONE && to->port->l7 != L7_TCP);
	for (size_t i = 0; i < d->l7_port_count; i++) { /* of workloads of this node alone */
		uint8_t app = d->l7_ports[i].app;
		if (d->l7_ports[i].port == port)
			http = app == APP_HTTP || app == APP_HTTP2 || app == APP_GRPC || app == APP_UNKNOWN;
	}
	if (http)
		return "by_request";
	return reason != DROP_NONE && policy_needs_sni(p, port) ? "by_name" : NULL;
}

static void verdict_json(json_t *o, const struct policy *p, const struct policy_verdict *v, enum drop_reason reason)
{
	json_set_bool(o, "allowed", reason == DROP_NONE);
	json_set_text(o, "reason", reason == DROP_NONE ? NULL : text_of_reason(reason));
	json_set_text(o, "help", reason == DROP_NONE ? NULL : text_of_reason_help(reason));
	json_set(o, "rule", v->rule ? policy_rule_json(v->rule) : json_null());
	if (v->audit)
		json_set(o, "audit", policy_rule_json(v->audit));
	json_set_bool(o, "default_allow", !p->has_allow);
	json_set_text_if(o, "allow_policies", p->allow_names);
}

/* The verdict of `destination` on a caller. *reason: what was decided. */
static json_t *inbound_json(struct request *rq, const struct workload *destination, const struct policy *p,
			    const struct identity *peer, const struct addr *source, const struct addr_port *at,
			    uint8_t proto, bool by_kernel, enum drop_reason *reason, const char **disagrees)
{
	const struct control_backend *b = request_backend(rq);
	struct policy_input in = {
		.peer = peer, .source = *source, .destination = at->addr, .port = at->port, .proto = proto
	};
	struct policy_verdict v;
	struct explain_inbound kernel;
	struct err err = ERR_INIT;
	json_t *o = json_object();

	policy_eval(p, &in, &v);
	*reason = v.reason;
	*disagrees = NULL;
	bool asked = by_kernel && workload_is_local(destination) && b->explain_inbound &&
		     b->explain_inbound(destination, peer ? peer->id : 0, source, at->port, proto, &kernel, &err,
					b->arg) == 0;
	if (asked && !kernel.to_helper) {
		*reason = kernel.reason;
		if (kernel.reason != v.reason)
			*disagrees = text_of_reason(v.reason);
	}
	json_set_text(o, "workload", destination->uid);
	json_set_text(o, "decided_by", asked && !kernel.to_helper ? "kernel" : "helper");
	json_set_text(o, "mtls_mode", text_of_mtls(policy_mtls_mode(p, at->port)));
	json_set_text(o, "mtls_origin", p->mtls_origin);
	verdict_json(o, p, &v, *reason);
	return o;
}

struct policy *policy_for(struct request *rq, const struct workload *w)
{
	const struct control_backend *b = request_backend(rq);

	if (w->policy)
		return policy_ref(w->policy);
	return b->policy_of ? b->policy_of(w, b->arg) : NULL;
}

static json_t *explain_inbound_part(struct explain *x)
{
	const struct workload *d = x->destination;
	const char *disagrees;
	json_t *o;

	if (!x->has_chosen)
		return json_null();
	if (!d || !d->enrolled) {
		x->inbound_known = true;
		note(x, d ? "The destination is known but not in the mesh: no policy is applied to it." :
			    "The destination is outside the mesh: no policy is applied at its end.");
		return json_null();
	}
	if (d == x->source.workload) {
		x->inbound_known = true;
		note(x, "The workload calls itself: no policy is applied.");
		return json_null();
	}
	struct policy *policy = policy_for(x->rq, d);
	if (!policy) {
		note(x,
		     "The destination runs on %s, where its policy is decided. Ask meshctl there: meshctl authz check "
		     "%s %s.",
		     node_of(d), x->source.workload ? x->source.workload->uid : "SOURCE", d->uid);
		return json_null();
	}
	if (!d->policy)
		note(x, "The destination's end is decided on %s; shown is what the configuration here says of it.",
		     node_of(d));
	const struct identity *peer = x->authenticated && x->source.workload ? x->source.workload->identity : NULL;
	bool by_helper = str_eq(x->path, "hbone") || str_eq(x->path, "http");
	o = inbound_json(x->rq, d, policy, peer, &x->source.addr, &x->chosen, x->to.proto, !by_helper,
			 &x->inbound_reason, &disagrees);
	const char *later = judged_later(policy, d, &x->to, x->chosen.port, x->inbound_reason);
	if (later) {
		x->inbound_reason = DROP_NONE;
		disagrees = NULL;
		json_object_del(o, "rule");
		json_object_del(o, "reason");
		json_object_del(o, "help");
		json_set_bool(o, "allowed", true);
		json_set_bool(o, later, true);
	}
	policy_unref(policy);
	x->inbound_known = true;
	if (disagrees)
		note(x,
		     "The kernel's tables and the compiled policy disagree (the latter says %s): a change is being "
		     "applied, or "
		     "this is a bug.",
		     disagrees);
	return o;
}

static json_t *explain_source(const struct explain *x)
{
	const struct workload *w = x->source.workload;
	json_t *o = json_object();

	json_set_text(o, "workload", w ? w->uid : NULL);
	json_set(o, "address", addr_is_zero(&x->source.addr) ? json_null() : json_of_addr(&x->source.addr));
	json_set_text(o, "identity", w ? w->identity->uri : NULL);
	json_set_text(o, "node", w ? w->node : NULL);
	json_set_bool(o, "local", w && workload_is_local(w));
	json_set_bool(o, "enrolled", w && w->enrolled);
	return o;
}

static json_t *explain_destination(const struct explain *x)
{
	json_t *o = json_object();

	json_set(o, "asked", json_of_asked(&x->to.asked));
	json_set_text(o, "protocol", text_of_proto(x->to.proto));
	json_set(o, "service", x->to.service ? service_json(x->plan, x->to.service, false) : json_null());
	if (x->to.service && !x->to.port)
		json_set_text(o, "problem", "the service has no such port");
	json_t *endpoints = json_array();
	for (size_t i = 0; x->to.port && i < x->to.port->endpoint_count; i++)
		json_add(endpoints, endpoint_json(x->plan, x->to.port, i, x->has_chosen ? &x->chosen : NULL));
	json_set(o, "endpoints", endpoints);
	json_set(o, "chosen", x->has_chosen ? json_of_asked(&x->chosen) : json_null());
	json_set_text(o, "workload", x->destination ? x->destination->uid : NULL);
	json_set_text(o, "node", x->destination ? x->destination->node : NULL);
	json_set_text(o, "identity", x->destination && x->authenticated ? x->destination->identity->uri : NULL);
	return o;
}

static json_t *explain_outbound_part(const struct explain *x)
{
	bool refused = x->outbound.path == PATH_DENY;
	json_t *o = json_object();

	json_set_text(o, "decided_by", x->by_helper ? "helper" : x->asked_kernel ? "kernel" : "configuration");
	json_set_bool(o, "allowed", !refused);
	json_set_text(o, "reason", refused ? text_of_reason(x->outbound.reason) : NULL);
	json_set_text(o, "help", refused ? text_of_reason_help(x->outbound.reason) : NULL);
	return o;
}

static bool explain_locate(struct explain *x)
{
	struct request *rq = x->rq;
	const char *source = request_query(rq, "source"), *destination = request_query(rq, "destination");
	const char *proto = request_query(rq, "proto");
	struct err err = ERR_INIT;

	if (!source || !destination) {
		reply_error(rq, 400, "source= and destination= are needed");
		return false;
	}
	if (proto && !str_eq(proto, "tcp") && !str_eq(proto, "udp")) {
		reply_error(rq, 400, "proto=%.20s is neither tcp nor udp", proto);
		return false;
	}
	uint8_t number = !proto ? 0 : str_eq(proto, "udp") ? IPPROTO_UDP : IPPROTO_TCP;
	int rc = locate_source(x->plan, source, &x->source, &err);
	if (rc == 0)
		rc = locate_destination(x->plan, x->source.workload ? x->source.workload->ns : NULL, destination,
					number, &x->to, &err);
	if (rc < 0)
		reply_err(rq, rc, &err);
	return rc == 0;
}

void handle_explain(struct request *rq)
{
	struct explain x = { .rq = rq, .plan = request_plan(rq) };
	if (!x.plan || !explain_locate(&x))
		return;

	x.notes = json_array();
	if (!x.source.workload)
		note(&x, "The source is nobody the mesh knows: it is judged as anonymous plaintext.");
	else if (!x.source.workload->enrolled)
		note(&x, "The source is not in the mesh: nothing of its connections is captured.");
	ask_outbound(&x);
	settle_path(&x);
	json_t *inbound = explain_inbound_part(&x);

	json_t *o = json_object();
	bool refused = x.outbound.path == PATH_DENY || (x.inbound_known && x.inbound_reason != DROP_NONE);
	json_set_text(o, "verdict", refused ? "refused" : x.inbound_known && !x.any_unknown ? "allowed" : "unknown");
	json_set_text(o, "path", x.path);
	json_set(o, "source", explain_source(&x));
	json_set(o, "destination", explain_destination(&x));
	json_set(o, "outbound", explain_outbound_part(&x));
	json_set(o, "inbound", inbound);
	json_set(o, "notes", x.notes);
	reply_json(rq, o);
}

static void authz_one(const struct explain *x, json_t *items, const struct workload *d, const struct addr_port *at)
{
	const struct located_source *source = &x->source;
	struct request *rq = x->rq;
	enum drop_reason reason;
	const char *disagrees;

	struct policy *policy = d && d->enrolled ? policy_for(rq, d) : NULL;
	if (!policy) {
		json_t *o = json_object();
		json_set_text(o, "workload", d ? d->uid : NULL);
		json_set(o, "allowed", json_null());
		json_set_text(o, "node", d ? d->node : NULL);
		json_set_text(o, "problem",
			      !d	   ? "outside the mesh: no policy is applied" :
			      !d->enrolled ? "not in the mesh: no policy is applied" :
					     "runs on another node, where its policy is compiled: ask there");
		json_add(items, o);
		return;
	}
	const struct identity *peer =
		source->workload && source->workload->enrolled ? source->workload->identity : NULL;
	json_t *o = inbound_json(rq, d, policy, peer, &source->addr, at, x->to.proto, false, &reason, &disagrees);
	const char *later = judged_later(policy, d, &x->to, at->port, reason);
	policy_unref(policy);
	if (later) {
		json_set(o, "allowed", json_null());
		json_set_bool(o, later, true);
		json_set_text(
			o, "problem",
			str_eq(later, "by_name") ?
				"the rules ask for the connection's TLS server name (connection.sni)" :
				"each request is judged by its rules; ask about one, with a URL (http://HOST/PATH)");
	}
	json_set_text(o, "peer", peer ? peer->uri : NULL);
	json_set_u64(o, "port", at->port);
	json_add(items, o);
}

void handle_authz_check(struct request *rq)
{
	struct explain x = { .rq = rq, .plan = request_plan(rq) };
	if (!x.plan || !explain_locate(&x))
		return;

	json_t *items = json_array();
	for (size_t i = 0; x.to.port && i < x.to.port->endpoint_count; i++) {
		const struct endpoint *e = &x.to.port->endpoints[i];
		authz_one(&x, items, e->workload, &(struct addr_port){ e->addr, e->port });
	}
	if (!x.to.service)
		authz_one(&x, items, x.to.workload, &x.to.asked);
	json_t *o = json_of_items(items);
	json_set(o, "source", explain_source(&x));
	reply_json(rq, o);
}
