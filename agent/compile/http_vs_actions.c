/* SPDX-License-Identifier: Apache-2.0 */
/* What a VirtualService's route does with requests: destinations, answers, rewrites, faults, mirrors, CORS, retries. */
#include "agent/compile/http_vs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/config/kinds_http.h"

uint32_t http_ppm(double percent)
{
	if (!(percent > 0))
		return 0;
	return percent >= 100 ? 1000000 : (uint32_t)lround(percent * 10000);
}

static uint32_t share_of(const struct percent *p)
{
	return p && p->value.set ? http_ppm(p->value.v) : p ? 0 : 1000000;
}

uint32_t http_ms(const struct opt_ms *t)
{
	return !t->set ? 0 : t->ms > UINT32_MAX ? UINT32_MAX : (uint32_t)t->ms;
}

/* --- headers */

/* Envoy does not let headers change the host: Istio makes a rewrite of it. */
static bool is_host(const char *name)
{
	return strcasecmp(name, "host") == 0 || strcasecmp(name, ":authority") == 0;
}

static char *host_of(struct http_routing *to, const struct headers *from)
{
	const struct string_map *set = from && from->request ? &from->request->set : NULL;

	for (size_t i = 0; set && i < set->n; i++)
		if (is_host(set->v[i].key))
			return http_dup(to, set->v[i].value);
	return NULL;
}

static struct http_header_value *values_new(struct http_routing *to, const struct string_map *from, size_t *count)
{
	struct http_header_value *v = http_alloc(to, from->n, sizeof(*v));

	for (size_t i = 0; v && i < from->n; i++)
		if (!is_host(from->v[i].key))
			v[(*count)++] = (struct http_header_value){ http_lower(to, from->v[i].key),
								    http_dup(to, from->v[i].value) };
	return v;
}

static void ops_set(struct http_routing *to, struct http_header_ops *out, const struct header_operations *from)
{
	if (!from)
		return;
	out->set = values_new(to, &from->set, &out->set_count);
	out->add = values_new(to, &from->add, &out->add_count);
	out->remove = http_alloc(to, from->remove.n, sizeof(*out->remove));
	for (size_t i = 0; out->remove && i < from->remove.n; i++)
		out->remove[out->remove_count++] = http_lower(to, from->remove.v[i]);
}

static void headers_set(struct http_routing *to, const struct headers *from, struct http_header_ops *request,
			struct http_header_ops *response)
{
	if (!from)
		return;
	ops_set(to, request, from->request);
	ops_set(to, response, from->response);
}

/* --- actions */

char *http_vs_cluster(struct http_routing *to, const struct resource *r, const struct destination *d)
{
	return http_destination_name(to, r, d->host, d->subset, d->port ? d->port->number : 0);
}

static void destinations_set(struct http_routing *to, struct http_route *route, const struct vs_route *from,
			     const struct resource *r)
{
	route->destinations = http_alloc(to, from->route.n, sizeof(*route->destinations));
	for (size_t i = 0; route->destinations && i < from->route.n; i++) {
		const struct http_route_destination *d = &from->route.v[i];
		struct http_destination *out = &route->destinations[route->destination_count];
		/* A weight of 0 beside others means none; alone it means all. */
		if (from->route.n > 1 && !d->weight)
			continue;
		route->destination_count++;
		out->cluster = http_vs_cluster(to, r, d->destination);
		out->weight = from->route.n == 1 ? 1 : d->weight;
		route->total_weight += out->weight;
		headers_set(to, d->headers, &out->request, &out->response);
		out->host_rewrite = host_of(to, d->headers);
	}
}

static void redirect_set(struct http_routing *to, struct http_route *route, const struct vs_redirect *from)
{
	struct http_redirect *out = route->redirect = from ? http_alloc(to, 1, sizeof(*out)) : NULL;
	if (!out)
		return;

	out->scheme = http_dup(to, from->scheme);
	out->authority = http_dup(to, from->authority);
	out->path_full = http_dup(to, from->uri);
	out->path_prefix = http_dup(to, from->prefix_rewrite);
	out->port = from->port;
	out->keep_port = str_eq(from->derive_port, "FROM_REQUEST_PORT");
	out->default_port = str_eq(from->derive_port, "FROM_PROTOCOL_DEFAULT");
	out->status = from->redirect_code;
}

static int sextet(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* What the API server would have refused decodes to what is good of it. */
static size_t base64_decode(const char *text, char *out)
{
	unsigned int bits = 0, have = 0;
	size_t n = 0;

	for (; sextet(*text) >= 0; text++) {
		bits = bits << 6 | (unsigned int)sextet(*text);
		have += 6;
		if (have >= 8) {
			have -= 8;
			out[n++] = (char)(bits >> have);
		}
	}
	return n;
}

static void direct_set(struct http_routing *to, struct http_route *route, const struct direct_response *from)
{
	struct http_direct_response *out = route->direct = from ? http_alloc(to, 1, sizeof(*out)) : NULL;
	if (!out)
		return;

	out->status = from->status;
	if (from->body && from->body->string) {
		out->body = http_dup(to, from->body->string);
		out->body_len = strlen(from->body->string);
	} else if (from->body && from->body->bytes) {
		out->body = http_alloc(to, strlen(from->body->bytes) + 1, 1);
		if (out->body)
			out->body_len = base64_decode(from->body->bytes, out->body);
	}
}

static void rewrite_set(struct http_routing *to, struct http_route *route, const struct vs_rewrite *from)
{
	struct http_rewrite *out = route->rewrite = from ? http_alloc(to, 1, sizeof(*out)) : NULL;
	if (!out)
		return;

	out->path_prefix = http_dup(to, from->uri);
	out->authority = http_dup(to, from->authority);
	if (from->uri_regex_rewrite) {
		out->path_regex = http_dup(to, from->uri_regex_rewrite->match);
		out->path_substitution = http_dup(to, from->uri_regex_rewrite->rewrite);
	}
}

static void authority_set(struct http_routing *to, struct http_route *route, const struct headers *from)
{
	char *host = host_of(to, from);
	if (!host)
		return;
	if (!route->rewrite)
		route->rewrite = http_alloc(to, 1, sizeof(*route->rewrite));
	if (!route->rewrite || route->rewrite->authority)
		free(host);
	else
		route->rewrite->authority = host;
}

static const char *const grpc_statuses[] = {
	"OK",	     "CANCELLED",	"UNKNOWN",	     "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
	"NOT_FOUND", "ALREADY_EXISTS",	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
	"ABORTED",   "OUT_OF_RANGE",	"UNIMPLEMENTED",     "INTERNAL",	   "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED",
};

static int32_t grpc_status(const char *text)
{
	uint64_t number;

	if (str_to_u64(text, ARRAY_SIZE(grpc_statuses) - 1, &number) == 0)
		return (int32_t)number;
	for (size_t i = 0; i < ARRAY_SIZE(grpc_statuses); i++)
		if (strcmp(grpc_statuses[i], text) == 0)
			return (int32_t)i;
	return -1;
}

/* Without a percentage Istio injects nothing. */
static uint32_t fault_share(struct http_routing *to, const struct percent *percentage, const char *what,
			    const struct resource *r)
{
	if (percentage)
		return share_of(percentage);
	NOTE(to->notes, FINDING_WARNING, r,
	     "fault.%s has no percentage: it holds for no request, as in Istio; percentage: { value: 100 } means all",
	     what);
	return 0;
}

static void abort_set(struct http_routing *to, struct http_fault *out, const struct fault_abort *from,
		      const struct resource *r)
{
	out->abort_grpc = from->grpc_status ? grpc_status(from->grpc_status) : -1;
	out->abort_status = from->http_status ? from->http_status : 200;
	out->abort_share.ppm = fault_share(to, from->percentage, "abort", r);
	out->abort = from->http_status || out->abort_grpc >= 0;
	if (!out->abort)
		NOTE(to->notes, FINDING_WARNING, r, "fault.abort: %s is not supported: nothing is aborted",
		     from->grpc_status ? from->grpc_status : "http2Error");
}

static void fault_set(struct http_routing *to, struct http_route *route, const struct vs_fault *from,
		      const struct resource *r)
{
	struct http_fault *out = route->fault = from ? http_alloc(to, 1, sizeof(*out)) : NULL;
	if (!out)
		return;

	out->abort_grpc = -1;
	if (from->delay) {
		out->delay_ms = http_ms(&from->delay->fixed_delay);
		out->delay_share.ppm = !from->delay->percentage && from->delay->percent ?
					       http_ppm(from->delay->percent) :
					       fault_share(to, from->delay->percentage, "delay", r);
		if (from->delay->exponential_delay.set)
			NOTE(to->notes, FINDING_WARNING, r,
			     "fault.delay.exponentialDelay is not supported: there is no delay");
	}
	if (from->abort)
		abort_set(to, out, from->abort, r);
}

static void mirror_add(struct http_routing *to, struct http_route *route, const struct destination *d, uint32_t ppm,
		       const struct resource *r)
{
	if (!ppm)
		return;
	struct http_mirror *m = &route->mirrors[route->mirror_count++];
	m->cluster = http_vs_cluster(to, r, d);
	m->share.ppm = ppm;
}

static void mirrors_set(struct http_routing *to, struct http_route *route, const struct vs_route *from,
			const struct resource *r)
{
	route->mirrors = http_alloc(to, from->mirrors.n + (from->mirror ? 1 : 0), sizeof(*route->mirrors));
	if (!route->mirrors)
		return;
	if (from->mirror)
		mirror_add(to, route, from->mirror,
			   !from->mirror_percentage && from->mirror_percent.set ? http_ppm(from->mirror_percent.v) :
										  share_of(from->mirror_percentage),
			   r);
	for (size_t i = 0; i < from->mirrors.n; i++)
		mirror_add(to, route, from->mirrors.v[i].destination, share_of(from->mirrors.v[i].percentage), r);
}

char *http_join(struct http_routing *to, const struct string_list *list)
{
	struct sb sb = { 0 };

	if (!list->n)
		return NULL;
	for (size_t i = 0; i < list->n; i++) {
		if (i)
			sb_add(&sb, ",");
		sb_add(&sb, list->v[i]);
	}
	char *text = sb_take(&sb);
	to->no_memory |= !text;
	return text;
}

static void cors_set(struct http_routing *to, struct http_route *route, const struct cors_policy *from)
{
	struct http_cors *out = route->cors = from ? http_alloc(to, 1, sizeof(*out)) : NULL;
	if (!out)
		return;

	out->origins = http_alloc(to, from->allow_origins.n + from->allow_origin.n, sizeof(*out->origins));
	for (size_t i = 0; out->origins && i < from->allow_origins.n; i++) {
		const struct string_match *m = &from->allow_origins.v[i];
		if (m->kind == STRING_MATCH_EXACT && strcmp(m->text, "*") == 0) /* Envoy: any */
			http_text_set(to, &out->origins[out->origin_count++], HTTP_TEXT_PRESENT, NULL, false);
		else
			http_vs_string(to, &out->origins[out->origin_count++], m, false);
	}
	for (size_t i = 0; out->origins && i < from->allow_origin.n; i++)
		http_text_set(to, &out->origins[out->origin_count++],
			      strcmp(from->allow_origin.v[i], "*") ? HTTP_TEXT_EXACT : HTTP_TEXT_PRESENT,
			      from->allow_origin.v[i], false);
	out->methods = http_join(to, &from->allow_methods);
	out->headers = http_join(to, &from->allow_headers);
	out->expose = http_join(to, &from->expose_headers);
	out->has_max_age = from->max_age.set;
	out->max_age_s = http_ms(&from->max_age) / 1000;
	out->credentials = from->allow_credentials.set && from->allow_credentials.v;
	out->forward_unmatched_preflights = !str_eq(from->unmatched_preflights, "IGNORE");
}

void http_vs_retry(struct http_routing *to, struct http_retry *out, const struct vs_retry *from, const char *route,
		   const struct resource *r)
{
	struct err err = ERR_INIT;

	if (!from)
		return;
	out->attempts = from->attempts;
	out->per_try_timeout_ms = http_ms(&from->per_try_timeout);
	if (from->backoff.set) {
		out->backoff_ms = http_ms(&from->backoff);
		out->backoff_max_ms = out->backoff_ms > UINT32_MAX / 10 ? UINT32_MAX : out->backoff_ms * 10;
	}
	if (from->retry_ignore_previous_hosts.set)
		out->other_hosts = from->retry_ignore_previous_hosts.v;
	out->remote_localities = from->retry_remote_localities.set && from->retry_remote_localities.v;
	if (from->retry_on && *from->retry_on && http_retry_on_parse(from->retry_on, out, &err) < 0)
		NOTE(to->notes, FINDING_ERROR, r, "route %s: %s; the default conditions hold", route, err.text);
}

void http_vs_actions(struct http_routing *to, struct http_route *route, const struct vs_route *from,
		     const struct resource *r)
{
	destinations_set(to, route, from, r);
	redirect_set(to, route, from->redirect);
	direct_set(to, route, from->direct_response);
	rewrite_set(to, route, from->rewrite);
	headers_set(to, from->headers, &route->request, &route->response);
	authority_set(to, route, from->headers);
	fault_set(to, route, from->fault, r);
	mirrors_set(to, route, from, r);
	cors_set(to, route, from->cors_policy);
	http_vs_retry(to, &route->retry, from->retries, route->name, r);
	route->timeout_ms = http_ms(&from->timeout);
}
