/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control/http_words.h"

#include <stdio.h>

#include <jansson.h>

#include "agent/base/addr.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/json.h"
#include "agent/model/workload.h"

/* --- matches */

static void separate(struct sb *out, size_t from)
{
	if (out->len > from)
		sb_add(out, ", ");
}

static void add_text(struct sb *out, const struct http_text *t, bool invert)
{
	static const char *const verbs[] = {
		[HTTP_TEXT_EXACT] = "= ",	[HTTP_TEXT_PREFIX] = "prefix ",	 [HTTP_TEXT_SUFFIX] = "suffix ",
		[HTTP_TEXT_REGEX] = "matches ", [HTTP_TEXT_PRESENT] = "present", [HTTP_TEXT_PATH_PREFIX] = "below ",
	};
	const char *verb = (size_t)t->kind < ARRAY_SIZE(verbs) ? verbs[t->kind] : "? ";

	sb_addf(out, "%s%s%s%s", invert ? "not " : "", verb, t->kind == HTTP_TEXT_PRESENT || !t->text ? "" : t->text,
		t->ignore_case ? " (any case)" : "");
}

static void add_condition(struct sb *out, size_t from, const char *what, const struct http_text *t)
{
	if (!t)
		return;
	separate(out, from);
	sb_addf(out, "%s ", what);
	add_text(out, t, false);
}

static void add_fields(struct sb *out, size_t from, const char *what, const struct http_field_match *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		separate(out, from);
		sb_addf(out, "%s %s ", what, v[i].name);
		add_text(out, &v[i].value, v[i].invert);
	}
}

void words_of_match(const struct http_match *m, struct sb *out)
{
	size_t from = out->len;

	add_condition(out, from, "path", m->path);
	add_condition(out, from, "method", m->method);
	add_condition(out, from, "authority", m->authority);
	add_condition(out, from, "scheme", m->scheme);
	add_fields(out, from, "header", m->headers, m->header_count);
	add_fields(out, from, "parameter", m->params, m->param_count);
	if (m->port) {
		separate(out, from);
		sb_addf(out, "port %u", m->port);
	}
	if (m->source_namespace) {
		separate(out, from);
		sb_addf(out, "from namespace %s", m->source_namespace);
	}
	for (size_t i = 0; i < m->source_label_count; i++) {
		separate(out, from);
		sb_addf(out, "from label %s=%s", m->source_labels[i].key, m->source_labels[i].value);
	}
	if (out->len == from)
		sb_add(out, "every request");
}

/* --- actions */

static void add_duration(struct sb *out, uint32_t ms)
{
	if (ms % 1000)
		sb_addf(out, "%u ms", ms);
	else
		sb_addf(out, "%u s", ms / 1000);
}

static void add_share(struct sb *out, uint32_t ppm)
{
	sb_addf(out, "%.6g %%", ppm / 1e4);
}

static const struct {
	uint32_t bit;
	const char *name;
} conditions[] = {
	{ RETRY_5XX, "5xx" },
	{ RETRY_GATEWAY_ERROR, "gateway-error" },
	{ RETRY_RESET, "reset" },
	{ RETRY_RESET_BEFORE_REQUEST, "reset-before-request" },
	{ RETRY_CONNECT_FAILURE, "connect-failure" },
	{ RETRY_ENVOY_RATELIMITED, "envoy-ratelimited" },
	{ RETRY_RETRIABLE_4XX, "retriable-4xx" },
	{ RETRY_REFUSED_STREAM, "refused-stream" },
	{ RETRY_HEADERS, "retriable-headers" },
	{ RETRY_GRPC_CANCELLED, "cancelled" },
	{ RETRY_GRPC_DEADLINE, "deadline-exceeded" },
	{ RETRY_GRPC_INTERNAL, "internal" },
	{ RETRY_GRPC_EXHAUSTED, "resource-exhausted" },
	{ RETRY_GRPC_UNAVAILABLE, "unavailable" },
};

void words_of_retries(const struct http_retry *r, struct sb *out)
{
	if (!r->attempts) {
		sb_add(out, "none");
		return;
	}
	sb_addf(out, "%u on ", r->attempts);
	size_t from = out->len;
	for (size_t i = 0; i < ARRAY_SIZE(conditions); i++) {
		if (!(r->on & conditions[i].bit))
			continue;
		separate(out, from);
		sb_add(out, conditions[i].name);
	}
	for (size_t i = 0; (r->on & RETRY_STATUS_CODES) && i < r->status_count; i++) {
		separate(out, from);
		sb_addf(out, "%u", r->statuses[i]);
	}
	if (out->len == from)
		sb_add(out, "nothing");
	if (r->per_try_timeout_ms) {
		sb_add(out, ", each within ");
		add_duration(out, r->per_try_timeout_ms);
	}
}

static void add_destinations(struct sb *out, const struct http_destination *v, size_t n, uint32_t total)
{
	for (size_t i = 0; i < n; i++) {
		sb_addf(out, "%s%s", i ? ", " : "", v[i].cluster);
		if (n > 1 && total)
			sb_addf(out, " %.4g %%", 100.0 * v[i].weight / total);
	}
}

static void add_redirect(struct sb *out, const struct http_redirect *r)
{
	sb_addf(out, "redirect %u to ", r->status);
	if (r->scheme)
		sb_addf(out, "scheme %s ", r->scheme);
	if (r->authority)
		sb_addf(out, "host %s ", r->authority);
	if (r->port)
		sb_addf(out, "port %u ", r->port);
	if (r->path_full)
		sb_addf(out, "path %s", r->path_full);
	else if (r->path_prefix)
		sb_addf(out, "path prefix %s", r->path_prefix);
	while (out->len && !out->failed && out->p[out->len - 1] == ' ')
		out->p[--out->len] = 0;
}

static void add_rewrite(struct sb *out, const struct http_rewrite *w)
{
	if (w->path_prefix)
		sb_addf(out, "; path prefix becomes %s", w->path_prefix);
	else if (w->path_full)
		sb_addf(out, "; path becomes %s", w->path_full);
	else if (w->path_regex)
		sb_addf(out, "; path %s becomes %s", w->path_regex, w->path_substitution ? w->path_substitution : "");
	if (w->authority)
		sb_addf(out, "; authority becomes %s", w->authority);
}

static void add_fault(struct sb *out, const struct http_fault *f)
{
	if (f->delay_ms) {
		sb_add(out, "; fault: ");
		add_duration(out, f->delay_ms);
		sb_add(out, " delay of ");
		add_share(out, f->delay_share.ppm);
	}
	if (f->abort) {
		sb_add(out, "; fault: ");
		if (f->abort_grpc >= 0)
			sb_addf(out, "gRPC status %d", f->abort_grpc);
		else
			sb_addf(out, "status %u", f->abort_status);
		sb_add(out, " to ");
		add_share(out, f->abort_share.ppm);
	}
}

void words_of_action(const struct http_route *route, struct sb *out)
{
	if (route->redirect)
		add_redirect(out, route->redirect);
	else if (route->direct)
		sb_addf(out, "answer %u", route->direct->status);
	else if (route->destination_count)
		add_destinations(out, route->destinations, route->destination_count,
				 route->total_weight + route->invalid_weight);
	else
		sb_add(out, route->invalid_backend ? "answer 500: its backends are invalid" :
						     "answer 404: it has no destination");
	if (route->destination_count && route->invalid_weight)
		sb_addf(out, ", 500 (invalid backend) %.4g %%",
			100.0 * route->invalid_weight / (route->total_weight + route->invalid_weight));
	if (route->rewrite)
		add_rewrite(out, route->rewrite);
	if (route->fault)
		add_fault(out, route->fault);
	for (size_t i = 0; i < route->mirror_count; i++) {
		sb_addf(out, "; mirrored to %s, ", route->mirrors[i].cluster);
		add_share(out, route->mirrors[i].share.ppm);
	}
	if (route->cors)
		sb_add(out, "; CORS");
	if (route->redirect || route->direct)
		return;
	if (route->timeout_ms) {
		sb_add(out, "; timeout ");
		add_duration(out, route->timeout_ms);
	}
}

const char *text_of_l7_mode(enum l7_mode mode)
{
	static const char *const names[] = {
		[L7_NONE] = "none", [L7_HTTP] = "http", [L7_SNIFF] = "sniffed", [L7_TCP] = "tcp"
	};
	return (size_t)mode < ARRAY_SIZE(names) ? names[mode] : "unknown";
}

/* --- JSON */

static void set_words(json_t *o, const char *key, struct sb *words)
{
	json_set_text(o, key, words->failed ? "" : words->p ? words->p : "");
	sb_done(words);
}

static json_t *destinations_json(const struct http_destination *v, size_t n, uint32_t total)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *o = json_object();
		json_set_text(o, "cluster", v[i].cluster);
		json_set_u64(o, "weight", v[i].weight);
		json_set(o, "share", json_real(total ? (double)v[i].weight / total : 0));
		json_add(list, o);
	}
	return list;
}

struct json_t *route_json(const struct http_route *route)
{
	json_t *o = json_object(), *matches = json_array();
	struct sb words = { 0 };

	for (size_t i = 0; i < route->match_count; i++) {
		struct sb match = { 0 };
		words_of_match(&route->matches[i], &match);
		json_t *text = match.p ? json_string(match.p) : NULL;
		sb_done(&match);
		if (text)
			json_add(matches, text);
	}
	json_set_text(o, "name", route->name);
	json_set_text(o, "origin", route->origin);
	json_set_text(o, "owner", route->owner);
	json_set(o, "matches", matches);
	words_of_action(route, &words);
	set_words(o, "action", &words);
	json_set(o, "destinations",
		 destinations_json(route->destinations, route->destination_count,
				   route->total_weight + route->invalid_weight));
	json_set_u64(o, "timeout_ms", route->timeout_ms);
	words_of_retries(&route->retry, &words);
	set_words(o, "retries", &words);
	return o;
}

struct json_t *l4_route_json(const struct l4_route *route)
{
	json_t *o = json_object(), *matches = json_array();
	struct sb words = { 0 };

	for (size_t i = 0; i < route->sni_host_count; i++) {
		char text[300];
		snprintf(text, sizeof(text), "SNI %s", route->sni_hosts[i]);
		json_add(matches, json_string(text));
	}
	for (size_t i = 0; i < route->destination_count; i++) {
		char text[CIDR_TEXT_MAX + 4];
		char buf[CIDR_TEXT_MAX];
		snprintf(text, sizeof(text), "to %s", cidr_text(&route->destinations[i], buf));
		json_add(matches, json_string(text));
	}
	json_set_text(o, "name", "tcp");
	json_set_text(o, "origin", route->origin);
	json_set(o, "matches", matches);
	add_destinations(&words, route->clusters, route->cluster_count, route->total_weight);
	set_words(o, "action", &words);
	json_set(o, "destinations", destinations_json(route->clusters, route->cluster_count, route->total_weight));
	return o;
}
