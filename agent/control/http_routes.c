/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/http/routes: what a workload's calls to each service port mean above L4, as its helper is told. */
#include "agent/control/request.h"

#include <netinet/in.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/backend.h"
#include "agent/control/http_words.h"
#include "agent/control/json.h"
#include "agent/control/locate.h"
#include "agent/model/plan.h"

/* Of a large mesh: the loop carries on with other work in a moment. A service= gets the rest. */
enum { TARGETS_MAX = 500, ROUTES_MAX = 5000 };

struct listing {
	struct request *rq;
	const struct workload *caller;
	json_t *items;
	size_t targets, routes;
	bool cut;
};

static void add_routes(struct listing *l, json_t *list, const struct l7_target *t)
{
	for (size_t i = 0; i < t->l4_count && l->routes < ROUTES_MAX; i++, l->routes++)
		json_add(list, l4_route_json(&t->l4[i]));
	for (size_t i = 0; t->vhost && i < t->vhost->route_count; i++, l->routes++) {
		if (l->routes >= ROUTES_MAX) {
			l->cut = true;
			return;
		}
		json_add(list, route_json(&t->vhost->routes[i]));
	}
}

static void add_target(struct listing *l, const struct service *s, const struct service_port *port)
{
	const struct control_backend *b = request_backend(l->rq);
	struct addr_port at = { .port = port->port };
	struct l7_target *t = NULL;

	if (l->targets++ >= TARGETS_MAX || l->routes >= ROUTES_MAX) {
		l->cut = true;
		return;
	}
	for (size_t i = 0; i < s->vip_count && addr_is_zero(&at.addr); i++)
		at.addr = s->vips[i].addr;
	if (b->target(l->caller, &at, s->hostname, &t, b->arg) < 0)
		return;
	json_t *o = json_object(), *routes = json_array();
	json_set_text(o, "service", s->hostname);
	json_set_text(o, "namespace", s->ns);
	json_set_u64(o, "port", port->port);
	json_set_text(o, "mode", text_of_l7_mode(t->mode));
	json_set_text(o, "vhost", t->vhost ? t->vhost->name : NULL);
	json_set_text(o, "default_cluster", t->default_cluster);
	add_routes(l, routes, t);
	json_set(o, "routes", routes);
	json_add(l->items, o);
	l7_target_unref(t);
}

static bool wanted(const struct service *s, const char *service, const char *ns)
{
	if (ns && !str_eq(s->ns, ns))
		return false;
	return !service || str_eq(s->name, service) || str_eq(s->hostname, service);
}

void handle_http_routes(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	const struct plan *plan = request_plan(rq);
	const char *who = request_query(rq, "workload"), *service = request_query(rq, "service");
	struct located_source source = { 0 };
	struct err err = ERR_INIT;
	if (!plan)
		return;
	if (!b->target) {
		reply_missing(rq);
		return;
	}
	int rc = who ? locate_source(plan, who, &source, &err) : 0;
	if (rc < 0) {
		reply_err(rq, rc, &err);
		return;
	}
	struct listing l = { .rq = rq, .caller = source.workload, .items = json_array() };
	for (size_t i = 0; i < plan->service_count; i++) {
		const struct service *s = plan->services[i];
		bool seen = !l.caller || service_visible_from(s, l.caller->ns);
		for (size_t k = 0; seen && k < s->port_count; k++)
			if (s->ports[k].l7 != L7_NONE && wanted(s, service, request_query(rq, "namespace")))
				add_target(&l, s, &s->ports[k]);
	}
	json_t *o = json_of_items(l.items);
	json_set_text(o, "workload", l.caller ? l.caller->uid : NULL);
	if (l.cut)
		json_set_text(o, "problem", "there are more routes than one answer holds: name a service");
	reply_json(rq, o);
}
