/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a request, told with the code that the helper decides with: the caller's target, the routes in order and
 * why each match fails or holds, the clusters of the route that is taken with their endpoints, then the policy at each
 * cluster's end with the request as the route leaves it. The live kernel is asked whether it brings the connection to the
 * helper at all, the live helper which endpoints it has ejected. What can't be known (which endpoint the balancing picks,
 * what a token holds, what an external authorizer says) is said, not guessed. */
#include "agent/control/request.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/compile.h"
#include "agent/control/backend.h"
#include "agent/control/http_ejected.h"
#include "agent/control/http_filters.h"
#include "agent/control/http_inbound.h"
#include "agent/control/http_request.h"
#include "agent/control/http_words.h"
#include "agent/control/json.h"
#include "agent/control/locate.h"
#include "agent/control/objects.h"
#include "agent/model/cluster.h"
#include "agent/model/plan.h"

enum { TRIED_MAX = 200, CLUSTERS_MAX = 16, ENDPOINTS_MAX = 100 };

struct explain {
	struct request *rq;
	const struct plan *plan;
	struct located_source source;
	struct located_destination to;
	struct asked_request asked;
	struct l7_target *target; /* NULL: the caller has no helper */
	const struct http_route *route;
	size_t match;
	size_t tried;
	bool refused, undecided;   /* of the whole */
	size_t ends, ends_refused; /* destinations whose policy was asked */
	json_t *answer, *routes, *clusters, *inbound, *notes;
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

static void explain_done(struct explain *x)
{
	asked_request_done(&x->asked);
	l7_target_unref(x->target);
}

/* --- who, where, what --- */

static bool locate(struct explain *x)
{
	struct request *rq = x->rq;
	const char *source = request_query(rq, "source"), *url = request_query(rq, "url");
	struct err err = ERR_INIT;

	if (!source || !url) {
		reply_error(rq, 400, "source= and url= are needed");
		return false;
	}
	int rc = locate_source(x->plan, source, &x->source, &err);
	const struct workload *w = x->source.workload;
	enum path_normalization normalization = w && w->outbound ? w->outbound->normalization : PATH_BASE;
	if (rc == 0)
		rc = asked_request_init(&x->asked, url, request_query(rq, "method"), request_query(rq, "headers"),
					normalization, &err);
	if (rc == 0) {
		const char *host = x->asked.host, *end = strrchr(host, ']'), *colon = strrchr(host, ':');
		bool has_port = colon && (host[0] != '[' || (end && colon > end));
		AUTO(mem_freep) char *with_port = has_port ? strdup(host) : str_format("%s:80", host);
		rc = with_port ? locate_destination(x->plan, w ? w->ns : NULL, with_port, IPPROTO_TCP, &x->to, &err) :
				 err_set(&err, -ENOMEM, "no memory");
	}
	if (rc < 0)
		reply_err(rq, rc, &err);
	return rc == 0;
}

static void tell_request(const struct explain *x)
{
	json_t *o = json_object(), *headers = json_object();

	for (size_t i = 0; i < x->asked.header_count; i++)
		json_set_text(headers, x->asked.headers[i].name, x->asked.headers[i].value);
	json_set_text(o, "method", x->asked.method);
	json_set_text(o, "authority", x->asked.authority);
	json_set_text(o, "path", x->asked.path);
	json_set_text_if(o, "query", x->asked.query);
	json_set(o, "headers", headers);
	json_set(x->answer, "request", o);
}

static void tell_ends(const struct explain *x)
{
	const struct workload *w = x->source.workload;
	json_t *source = json_object(), *to = json_object();

	json_set_text(source, "workload", w ? w->uid : NULL);
	json_set(source, "address", addr_is_zero(&x->source.addr) ? json_null() : json_of_addr(&x->source.addr));
	json_set_text(source, "identity", w ? w->identity->uri : NULL);
	json_set_text(source, "node", w ? w->node : NULL);
	json_set_bool(source, "enrolled", w && w->enrolled);
	json_set(x->answer, "source", source);
	json_set(to, "asked", json_of_asked(&x->to.asked));
	json_set_text(to, "protocol", "tcp");
	json_set(to, "service", x->to.service ? service_json(x->plan, x->to.service, false) : json_null());
	if (x->to.service && !x->to.port)
		json_set_text(to, "problem", "the service has no such port");
	json_set_text(to, "workload", x->to.workload ? x->to.workload->uid : NULL);
	json_set(x->answer, "destination", to);
}

/* Does the kernel bring the connection to the helper? */
static void ask_kernel(struct explain *x)
{
	const struct control_backend *b = request_backend(x->rq);
	const struct workload *w = x->source.workload;
	struct explain_outbound out;
	struct err err = ERR_INIT;
	json_t *o = json_object();

	bool asked = w && w->enrolled && workload_is_local(w) && b->explain_outbound;
	int rc = asked ? b->explain_outbound(w, &x->to.asked, IPPROTO_TCP, &out, &err, b->arg) : 0;
	json_set_text(o, "decided_by", asked && rc == 0 ? "kernel" : "configuration");
	json_set(o, "to_helper", asked && rc == 0 ? json_boolean(out.path == PATH_HELPER_L7) : json_null());
	json_set(x->answer, "outbound", o);
	if (rc < 0)
		note(x, "The kernel's tables could not be asked (%s).", err.text);
	else if (w && w->enrolled && !workload_is_local(w))
		note(x, "The source runs on %s: its kernel and helper were not asked; shown is what they are to do.",
		     w->node ? w->node : "an unknown node");
	if (!asked || rc < 0 || out.path == PATH_HELPER_L7)
		return;
	if (out.path == PATH_DENY) {
		x->refused = true;
		json_set_text(o, "reason", text_of_reason(out.reason));
		json_set_text(o, "help", text_of_reason_help(out.reason));
	} else {
		note(x, "The kernel does not bring this connection to the HTTP engine (the port is not declared as "
			"HTTP, or "
			"the engine is off): routes of HTTP have no effect on it.");
	}
}

/* --- routes --- */

static json_t *tried_json(struct explain *x, size_t route)
{
	json_t *last = json_array_get(x->routes, json_array_size(x->routes) - 1);
	if (last && json_integer_value(json_object_get(last, "index")) == (json_int_t)route)
		return json_object_get(last, "tried");

	const struct http_route *r = &x->target->vhost->routes[route];
	json_t *o = json_object(), *tried = json_array();
	json_set_u64(o, "index", route);
	json_set_text(o, "name", r->name);
	json_set_text(o, "origin", r->origin);
	json_set_text(o, "owner", r->owner);
	json_set_bool(o, "taken", false);
	json_set(o, "tried", tried);
	json_add(x->routes, o);
	return tried;
}

static bool on_match(void *arg, size_t route, size_t match, const char *why)
{
	struct explain *x = arg;
	const struct http_route *r = &x->target->vhost->routes[route];
	struct sb words = { 0 };

	if (!why)
		x->match = match;
	if (++x->tried > TRIED_MAX && why)
		return true;
	json_t *tried = tried_json(x, route), *o = json_object();
	if (match < r->match_count) {
		words_of_match(&r->matches[match], &words);
		json_set_text_if(o, "name", r->matches[match].name);
	}
	json_set_text(o, "conditions", words.p ? words.p : "every request");
	json_set_text(o, "why_not", why);
	json_add(tried, o);
	sb_done(&words);
	if (!why)
		json_set_bool(json_array_get(x->routes, json_array_size(x->routes) - 1), "taken", true);
	return true;
}

static struct http_request_view view_of(const struct explain *x, const struct asked_request *asked, uint16_t port)
{
	struct http_request_view v = asked_request_view(asked);
	const struct workload *w = x->source.workload;

	v.port = port;
	if (w) {
		v.source_namespace = w->ns;
		v.source_labels = w->labels;
		v.source_label_count = w->label_count;
	}
	return v;
}

static void answered(struct explain *x, unsigned int status, const char *flags, const char *text)
{
	json_t *o = json_object();

	json_set_u64(o, "status", status);
	json_set_text_if(o, "flags", flags);
	json_set_text(o, "text", text);
	json_set(x->answer, "response", o);
	x->refused |= status >= 400;
}

static void find_route(struct explain *x)
{
	const struct l7_target *t = x->target;
	struct http_request_view view = view_of(x, &x->asked, x->to.asked.port);
	json_t *o = json_object();

	json_set_text(o, "mode", text_of_l7_mode(t->mode));
	json_set_text(o, "service", t->service);
	json_set_text(o, "vhost", t->vhost ? t->vhost->name : NULL);
	json_set_u64(o, "routes", t->vhost ? t->vhost->route_count : 0);
	json_set(x->answer, "target", o);
	x->match = SIZE_MAX;
	if (t->vhost)
		x->route = compiler_explain_http(t->vhost, &view, on_match, x);
	if (x->tried > TRIED_MAX)
		note(x, "%zu more matches that did not hold are not shown.", x->tried - TRIED_MAX);
	if (x->route) {
		json_set(x->answer, "route", route_json(x->route));
	} else if (t->mode == L7_TCP) {
		note(x, "The port speaks TCP as far as the mesh knows: requests in it are not looked at.");
	} else if (!t->vhost && t->registry_only) {
		answered(x, 502, NULL, "the caller may not see that host (REGISTRY_ONLY, a Sidecar, or exportTo)");
	} else {
		answered(x, 404, "NR", "no route matches");
	}
}

/* --- clusters and their ends --- */

static json_t *endpoint_of_cluster(const struct explain *x, const struct cluster_endpoint *e)
{
	const struct workload *w = plan_workload_by_addr(x->plan, &e->addr.addr);
	json_t *o = json_object();

	json_set(o, "address", json_of_addr_port(&e->addr));
	json_set_text(o, "workload", w ? w->uid : NULL);
	json_set_text(o, "node", w ? w->node : NULL);
	json_set_text_if(o, "version", e->version);
	json_set_bool(o, "healthy", e->healthy);
	json_set_bool(o, "ejected", false);
	json_set_u64(o, "priority", e->priority);
	json_set_u64(o, "weight", e->weight);
	return o;
}

static const struct cluster_endpoint *first_usable(const struct http_cluster *c)
{
	for (size_t i = 0; i < c->endpoint_count; i++)
		if (c->endpoints[i].healthy)
			return &c->endpoints[i];
	return c->endpoint_count ? &c->endpoints[0] : NULL;
}

/* The policy of the workload that has the endpoint, on the request as the route leaves it. */
static void ask_end(struct explain *x, const struct addr_port *at, const struct http_destination *destination)
{
	const struct workload *s = x->source.workload, *w = plan_workload_by_addr(x->plan, &at->addr);
	struct asked_request sent;
	struct err err = ERR_INIT;

	enum path_normalization normalization = w && w->inbound ? w->inbound->normalization : PATH_BASE;
	int rc = asked_request_init(&sent, request_query(x->rq, "url"), request_query(x->rq, "method"),
				    request_query(x->rq, "headers"), normalization, &err);
	if (rc == 0 && x->route)
		rc = asked_request_apply(&sent, x->route, x->match, destination);
	if (rc == 0) {
		bool mutual = s && s->enrolled && w && w->enrolled &&
			      !str_eq(workload_path_text(x->plan, w, IPPROTO_TCP), "plaintext");
		struct http_request_view view = view_of(x, &sent, at->port);
		const struct http_inbound in = { .source = s,
						 .source_addr = x->source.addr,
						 .workload = w,
						 .at = *at,
						 .peer = mutual ? s->identity : NULL,
						 .request = &view,
						 .has_token = asked_request_header(&sent, "authorization") != NULL };
		enum http_inbound_verdict verdict;
		json_t *o = http_inbound_json(x->rq, &in, &verdict);
		json_set_text(o, "cluster", destination ? destination->cluster : NULL);
		json_add(x->inbound, o);
		x->ends++;
		x->ends_refused += verdict == INBOUND_REFUSED;
		x->undecided |= verdict == INBOUND_UNKNOWN;
	}
	asked_request_done(&sent);
}

static void tell_cluster(struct explain *x, const struct http_destination *destination, uint32_t total)
{
	const struct control_backend *b = request_backend(x->rq);
	struct http_cluster *c = NULL;
	json_t *o = json_object(), *endpoints = json_array();

	int rc = b->cluster ? b->cluster(destination->cluster, &c, b->arg) : -ENOTSUP;
	json_set_text(o, "name", destination->cluster);
	json_set_u64(o, "weight", destination->weight);
	json_set(o, "share", json_real(total ? (double)destination->weight / total : 0));
	json_set_bool(o, "exists", rc == 0);
	json_set_u64(o, "endpoint_count", c ? c->endpoint_count : 0);
	for (size_t i = 0; c && i < c->endpoint_count && i < ENDPOINTS_MAX; i++)
		json_add(endpoints, endpoint_of_cluster(x, &c->endpoints[i]));
	json_set(o, "endpoints", endpoints);
	json_add(x->clusters, o);

	const struct cluster_endpoint *e = c ? first_usable(c) : NULL;
	bool on = c && (c->lb == CLUSTER_PASSTHROUGH || (!e && c->dynamic_dns));
	if (e && !on) {
		ask_end(x, &e->addr, destination);
	} else if (on) {
		ask_end(x, &x->to.asked, destination);
	} else {
		json_t *end = json_object();
		json_set_text(end, "cluster", destination->cluster);
		json_set_bool(end, "allowed", false);
		json_set_text(end, "problem",
			      rc < 0 ? "answered with 503 (NC): there is no such service, port or subset" :
				       "answered with 503 (UH): it has no endpoint");
		json_add(x->inbound, end);
		x->ends++;
		x->ends_refused++;
	}
	http_cluster_unref(c);
}

static void follow_route(struct explain *x)
{
	const struct http_route *r = x->route;
	uint32_t total = r->total_weight + r->invalid_weight;

	if (r->redirect) {
		struct http_request_view view = view_of(x, &x->asked, x->to.asked.port);
		AUTO(mem_freep) char *location = http_redirect_location(r, x->match, &view, false);
		AUTO(mem_freep) char *text = str_format("redirected to %s", location ? location : "?");
		answered(x, r->redirect->status, NULL, text);
	} else if (r->direct) {
		answered(x, r->direct->status, NULL, "the route's own answer");
	} else if (!r->destination_count || !total) {
		answered(x, r->invalid_backend || r->destination_count ? 500 : 404, NULL, "the route leads nowhere");
	}
	if (json_object_get(x->answer, "response"))
		return;
	for (size_t i = 0; i < r->destination_count && i < CLUSTERS_MAX; i++)
		if (r->destinations[i].weight || r->destination_count == 1)
			tell_cluster(x, &r->destinations[i], total);
	if (r->fault && r->fault->abort)
		note(x, "A fault is injected into some requests: %.6g %% are answered without being sent.",
		     r->fault->abort_share.ppm / 1e4);
	if (r->invalid_weight)
		note(x, "%.4g %% of the requests are answered with 500: a backend of the route is invalid.",
		     100.0 * r->invalid_weight / total);
}

/* The caller has no helper: the connection goes to an endpoint, and only the far end looks at requests. */
static void without_helper(struct explain *x)
{
	const struct service_port *port = x->to.port;

	note(x, "The source is not in the mesh: no route applies, its connection goes to an endpoint as it is.");
	if (!x->to.service)
		ask_end(x, &x->to.asked, NULL);
	else if (port && port->endpoint_count)
		ask_end(x, &(struct addr_port){ port->endpoints[0].addr, port->endpoints[0].port }, NULL);
	else
		x->refused = true;
}

/* What EnvoyFilters do on the caller's side, before the request goes out. */
static void tell_filters(struct explain *x)
{
	const struct workload *w = x->source.workload;
	const struct filters_met met = { .filters = w && x->target ? w->outbound : NULL,
					 .at = { .route = x->route ? x->route->name : NULL,
						 .vhost = x->target && x->target->vhost ? x->target->vhost->name : NULL,
						 .port = x->to.asked.port } };

	json_set(x->answer, "filters", x->route ? filters_met_json(&met) : json_array());
}

/* --- the answer --- */

static const char *verdict_of(const struct explain *x)
{
	if (x->refused || (x->ends && x->ends_refused == x->ends))
		return "refused";
	return x->undecided || x->ends_refused ? "unknown" : "allowed";
}

static int find_target(struct explain *x)
{
	const struct control_backend *b = request_backend(x->rq);
	const struct workload *w = x->source.workload;

	return b->target(w, &x->to.asked, x->asked.authority, &x->target, b->arg);
}

static void run(struct explain *x)
{
	x->answer = json_object();
	x->routes = json_array();
	x->clusters = json_array();
	x->inbound = json_array();
	x->notes = json_array();
	tell_ends(x);
	tell_request(x);
	ask_kernel(x);
	if (x->target)
		find_route(x);
	tell_filters(x);
	if (x->route && !x->refused)
		follow_route(x);
	else if (!x->target)
		without_helper(x);
	if (x->ends_refused && x->ends_refused < x->ends)
		note(x, "Some of its destinations refuse it, others don't.");
	json_set_text(x->answer, "verdict", verdict_of(x));
	json_set(x->answer, "routes", x->routes);
	json_set(x->answer, "clusters", x->clusters);
	json_set(x->answer, "inbound", x->inbound);
	json_set(x->answer, "notes", x->notes);
}

void handle_http_explain(struct request *rq)
{
	struct explain x = { .rq = rq, .plan = request_plan(rq) };
	if (!x.plan)
		return;
	if (!request_backend(rq)->target) {
		reply_missing(rq);
		return;
	}
	if (locate(&x)) {
		bool captured = x.source.workload && x.source.workload->enrolled;
		if (captured && find_target(&x) < 0) {
			reply_error(rq, 500, "no memory");
		} else {
			run(&x);
			reply_with_ejections(rq, x.answer);
		}
	}
	explain_done(&x);
}
