/* SPDX-License-Identifier: Apache-2.0 */
/* From a request to its route, and what the route does: redirect, answer, or forward to one of its destinations. The host
 * that the request names decides among the services of the port that was called, as in a sidecar. */
#include "agent/helper/route/internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/filter/refuse.h"
#include "agent/helper/worker.h"
#include "agent/model/l7.h"

/* --- which virtual host, which route --- */

/* As logs have it where Istio's catch-all refuses a host; metrics say BlackHoleCluster. */
static const struct http_route block_all = { .name = (char[]){ "block_all" } };

static enum stage_result find_route(struct exchange_private *e)
{
	struct exchange *x = &e->x;
	if (!x->vhost && e->registry_only) {
		x->route = &block_all;
		refuse_count(x, DROP_NOT_IN_REGISTRY, NULL);
		exchange_respond(x, 502, 0, "direct_response", NULL, NULL);
		return STAGE_ANSWERED;
	}
	/* CONNECT without a protocol asks for a tunnel: routes don't give any. */
	bool tunnel = http_is(x->head->method, "CONNECT") && !x->head->upgrade;
	x->route = NULL;
	if (x->vhost && !tunnel) {
		struct http_request_view view = exchange_view(x);
		x->route = http_route_find(x->vhost, &view, &x->match);
		x->record.route = x->route;
	}
	if (x->route)
		return STAGE_CONTINUE;
	exchange_respond(x, 404, FLAG(NR), "route_not_found", NULL, NULL);
	return STAGE_ANSWERED;
}

static void target_use(struct exchange_private *e, struct l7_target *target)
{
	struct exchange *x = &e->x;
	struct http_vhost *vhost = target ? target->vhost : e->conn->vhost;
	x->vhost = vhost ? http_vhost_ref(vhost) : NULL;
	e->registry_only = target && target->registry_only;
	e->target_known = true;
}

static void on_target(struct l7_target *target, void *arg)
{
	struct exchange_private *e = arg;
	bool waited = e->stage_waits;
	e->target_wait = NULL;
	target_use(e, target);
	if (waited && find_route(e) == STAGE_CONTINUE)
		exchange_continue(&e->x);
}

enum stage_result stage_route(struct exchange *x)
{
	struct exchange_private *e = exchange_of(x);
	struct http_string host = authority_host(x->head->authority);
	const struct http_vhost *own = e->conn->vhost;
	const char *other = NULL;
	if (host.n && !(own && own->host && strlen(own->host) == host.n && !strncasecmp(own->host, host.p, host.n)))
		other = request_host(e);
	struct worker_wait *wait = worker_target_get(x->w, x->pod, &e->target, other, on_target, e);
	if (!e->target_known) {
		e->target_wait = wait;
		return STAGE_WAIT;
	}
	return find_route(e);
}

enum stage_result stage_reroute(struct exchange *x)
{
	/* Scripts and tokens may have changed what routes look at. */
	if (!x->filters->script_count && !x->filters->jwt_count)
		return STAGE_CONTINUE;
	return find_route(exchange_of(x));
}

/* --- redirect and direct response --- */

/* Our answer instead of an endpoint's: the route's header operations hold for it. */
static void answer(struct exchange_private *e, uint16_t status, const char *body, size_t len, struct http_head *extra)
{
	header_ops_apply(&e->x.route->response, extra, &e->x.record);
	exchange_respond_bytes(&e->x, status, 0, "direct_response", body, len, extra);
}

static enum stage_result redirect(struct exchange_private *e, const struct http_redirect *to)
{
	struct http_request_view view = exchange_view(&e->x);
	AUTO(mem_freep) char *location = http_redirect_location(e->x.route, e->x.match, &view, false);
	struct http_head *extra = location ? http_head_new() : NULL;
	if (!extra || http_add_id(extra, HTTP_LOCATION, location, strlen(location)) < 0)
		exchange_respond(&e->x, 503, FLAG(LR), "out_of_memory", NULL, NULL);
	else
		answer(e, (uint16_t)(to->status ? to->status : 301), NULL, 0, extra);
	http_head_free(extra);
	return STAGE_ANSWERED;
}

static enum stage_result direct(struct exchange_private *e, const struct http_direct_response *response)
{
	struct http_head *extra = http_head_new();
	if (!extra) {
		exchange_respond(&e->x, 503, FLAG(LR), "out_of_memory", NULL, NULL);
		return STAGE_ANSWERED;
	}
	if (response->content_type)
		http_add_id(extra, HTTP_CONTENT_TYPE, response->content_type, strlen(response->content_type));
	answer(e, (uint16_t)response->status, response->body, response->body_len, extra);
	http_head_free(extra);
	return STAGE_ANSWERED;
}

/* --- forwarding --- */

/* As Istio configures Envoy (max_grpc_timeout is the route's timeout): the caller's deadline, bounded by the route's. */
static uint32_t timeout_of(const struct exchange *x)
{
	uint64_t grpc = 0;
	uint32_t route = x->route->timeout_ms;
	if (!x->record.grpc || !grpc_timeout(x->head, &grpc) || !grpc)
		return route;
	if (route && grpc > route)
		return route;
	return grpc > UINT32_MAX ? UINT32_MAX : (uint32_t)grpc;
}

static enum stage_result forward(struct exchange_private *e)
{
	struct exchange *x = &e->x;
	if (request_prepare(e) < 0) {
		exchange_respond(x, 503, FLAG(LR), "out_of_memory", NULL, NULL);
		return STAGE_ANSWERED;
	}
	e->body_kept = e->retries_may && e->body_len <= BODY_KEPT_MAX;
	if (x->side == SIDE_CLIENT)
		mirrors_start(e);
	attempt_start(e);
	return STAGE_ANSWERED; /* it is the endpoint's now, or answered */
}

enum stage_result stage_forward(struct exchange *x)
{
	struct exchange_private *e = exchange_of(x);
	const struct http_route *route = x->route;
	if (x->side == SIDE_SERVER)
		return forward(e);
	if (route->redirect)
		return redirect(e, route->redirect);
	if (route->direct)
		return direct(e, route->direct);
	if (!route->destination_count && !route->invalid_backend) {
		exchange_respond(x, 404, FLAG(NR), "route_not_found", NULL, NULL);
		return STAGE_ANSWERED;
	}
	uint32_t total = route->total_weight + route->invalid_weight;
	session_read(e);
	if (!e->destination && total)
		e->destination = http_route_pick(route, (uint32_t)(proxy_random(x->proxy) % total));
	if (!e->destination) {
		/* A backend that is none: 500, and of gRPC UNAVAILABLE (Gateway API). */
		exchange_respond(x, x->record.grpc ? 503 : 500, 0, "direct_response", NULL, NULL);
		return STAGE_ANSWERED;
	}
	e->timeout_ms = timeout_of(x);
	e->retries_left = route->retry.attempts < ATTEMPTS_MAX ? route->retry.attempts : ATTEMPTS_MAX;
	e->retries_may = e->retries_left && !x->head->upgrade;
	return forward(e);
}
