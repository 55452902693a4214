/* SPDX-License-Identifier: Apache-2.0 */
/* What a route makes of a request: another path, a Location, one of its destinations; and the words of retryOn. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/regex.h"
#include "agent/base/str.h"
#include "agent/model/http.h"

enum { STATUSES_MAX = 64 };

const struct http_destination *http_route_pick(const struct http_route *route, uint32_t random)
{
	for (size_t i = 0; i < route->destination_count; i++) {
		if (random < route->destinations[i].weight)
			return &route->destinations[i];
		random -= route->destinations[i].weight;
	}
	return NULL;
}

/* --- paths */

static const struct http_text *matched_path(const struct http_route *route, size_t match)
{
	return match < route->match_count ? route->matches[match].path : NULL;
}

/* How much of the path the match's prefix covered. Nothing said of the path is the prefix "/", as in Envoy. */
static size_t covered(const struct http_text *t, struct http_view path)
{
	size_t len = t && t->text ? strlen(t->text) : 0;

	if (!t)
		return path.n ? 1 : 0;
	if (t->kind != HTTP_TEXT_PREFIX && t->kind != HTTP_TEXT_PATH_PREFIX)
		return path.n;
	return len < path.n ? len : path.n;
}

/* Gateway API: whole segments, whatever slashes end the prefix and what replaces it. */
static void segments_replaced(struct sb *sb, const char *with, const struct http_text *t, struct http_view path)
{
	size_t len = t ? strlen(t->text) : 0, keep = strlen(with);

	while (len && t->text[len - 1] == '/')
		len--;
	while (keep && with[keep - 1] == '/')
		keep--;
	if (len > path.n)
		len = path.n;
	sb_add_bytes(sb, with, keep);
	sb_add_bytes(sb, path.p + len, path.n - len);
	if (!sb->len && !sb->failed)
		sb_add(sb, "/");
}

static void prefix_replaced(struct sb *sb, const char *with, const struct http_text *t, struct http_view path)
{
	if (t && t->kind == HTTP_TEXT_PATH_PREFIX) {
		segments_replaced(sb, with, t, path);
		return;
	}
	size_t len = covered(t, path);
	sb_add(sb, with);
	sb_add_bytes(sb, path.p + len, path.n - len);
}

static void query_add(struct sb *sb, struct http_view query)
{
	if (!query.p)
		return;
	sb_add(sb, "?");
	sb_add_bytes(sb, query.p, query.n);
}

char *http_rewrite_path(const struct http_route *route, size_t match, struct http_view path, struct http_view query,
			bool *failed)
{
	const struct http_rewrite *rw = route->rewrite;
	AUTO(sb_done) struct sb sb = { 0 };
	AUTO(mem_freep) char *replaced = NULL;

	*failed = false;
	if (!rw || (!rw->path_full && !rw->path_prefix && !rw->regex))
		return NULL;
	if (rw->path_full) {
		sb_add(&sb, rw->path_full);
	} else if (rw->path_prefix) {
		prefix_replaced(&sb, rw->path_prefix, matched_path(route, match), path);
	} else {
		if (regex_replace(rw->regex, path.p, path.n, rw->path_substitution ? rw->path_substitution : "",
				  &replaced) < 0) {
			*failed = true;
			return NULL;
		}
		sb_add(&sb, replaced);
	}
	query_add(&sb, query);
	char *out = sb_take(&sb);
	*failed = !out;
	return out;
}

/* --- redirects */

static size_t host_len(struct http_view authority)
{
	const char *bracket = authority.n ? memrchr(authority.p, ']', authority.n) : NULL;
	const char *colon = authority.n ? memrchr(authority.p, ':', authority.n) : NULL;

	return colon && (!bracket || colon > bracket) ? (size_t)(colon - authority.p) : authority.n;
}

static bool scheme_is(struct http_view scheme, const char *word)
{
	return scheme.n == strlen(word) && memcmp(scheme.p, word, scheme.n) == 0;
}

static bool port_is_default(struct http_view scheme, unsigned long port)
{
	return (port == 80 && scheme_is(scheme, "http")) || (port == 443 && scheme_is(scheme, "https"));
}

static void authority_add(struct sb *sb, const struct http_redirect *rd, const struct http_request_view *r,
			  struct http_view old, struct http_view scheme)
{
	struct http_view a = rd->authority ? (struct http_view){ rd->authority, strlen(rd->authority) } : r->authority;
	size_t host = host_len(a);
	uint16_t port = rd->keep_port ? r->port : rd->port;

	sb_add_bytes(sb, a.p ? a.p : "", host);
	if (port) {
		if (!port_is_default(scheme, port))
			sb_addf(sb, ":%u", port);
		return;
	}
	if (rd->default_port || host == a.n)
		return;
	/* The request's port goes when it was, or becomes, the one that nobody writes. */
	unsigned long written = strtoul(a.p + host + 1, NULL, 10);
	if (rd->authority || !(port_is_default(scheme, written) || port_is_default(old, written)))
		sb_add_bytes(sb, a.p + host, a.n - host);
}

char *http_redirect_location(const struct http_route *route, size_t match, const struct http_request_view *r,
			     bool secure)
{
	const struct http_redirect *rd = route->redirect;
	struct http_view old = r->scheme.n ? r->scheme :
			       secure	   ? (struct http_view){ "https", 5 } :
					     (struct http_view){ "http", 4 };
	struct http_view scheme = rd->scheme ? (struct http_view){ rd->scheme, strlen(rd->scheme) } : old;
	AUTO(sb_done) struct sb sb = { 0 };
	AUTO(sb_done) struct sb path = { 0 };

	sb_add_bytes(&sb, scheme.p, scheme.n);
	sb_add(&sb, "://");
	authority_add(&sb, rd, r, old, scheme);
	if (rd->path_full)
		sb_add(&path, rd->path_full);
	else if (rd->path_prefix)
		prefix_replaced(&path, rd->path_prefix, matched_path(route, match), r->path);
	else
		sb_add_bytes(&path, r->path.p ? r->path.p : "", r->path.n);
	if (path.failed)
		return NULL;
	if (path.p)
		sb_add(&sb, path.p);
	if (!rd->path_full || !strchr(rd->path_full, '?'))
		query_add(&sb, r->query);
	return sb_take(&sb);
}

/* --- retryOn */

static const struct {
	const char *word;
	uint32_t bit;
} retry_words[] = {
	{ "5xx", RETRY_5XX },
	{ "gateway-error", RETRY_GATEWAY_ERROR },
	{ "reset", RETRY_RESET },
	{ "reset-before-request", RETRY_RESET_BEFORE_REQUEST },
	{ "connect-failure", RETRY_CONNECT_FAILURE },
	{ "envoy-ratelimited", RETRY_ENVOY_RATELIMITED },
	{ "retriable-4xx", RETRY_RETRIABLE_4XX },
	{ "refused-stream", RETRY_REFUSED_STREAM },
	{ "retriable-status-codes", RETRY_STATUS_CODES },
	{ "retriable-headers", RETRY_HEADERS },
	{ "cancelled", RETRY_GRPC_CANCELLED },
	{ "deadline-exceeded", RETRY_GRPC_DEADLINE },
	{ "internal", RETRY_GRPC_INTERNAL },
	{ "resource-exhausted", RETRY_GRPC_EXHAUSTED },
	{ "unavailable", RETRY_GRPC_UNAVAILABLE },
	{ "http3-post-connect-failure", RETRY_HTTP3_POST_CONNECT_FAILURE },
};

static uint32_t retry_bit(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(retry_words); i++)
		if (strcmp(retry_words[i].word, word) == 0)
			return retry_words[i].bit;
	return 0;
}

static int retry_word_add(const char *word, struct http_retry *out, struct err *err)
{
	uint32_t bit = retry_bit(word);
	uint64_t status;

	if (bit) {
		out->on |= bit;
		return 0;
	}
	if (str_to_u64(word, 599, &status) < 0 || status < 100)
		return err_set(err, -EINVAL, "retryOn: \"%s\" is neither a condition nor a status", word);
	for (size_t i = 0; i < out->status_count; i++)
		if (out->statuses[i] == status)
			return 0;
	if (out->status_count == STATUSES_MAX)
		return err_set(err, -EINVAL, "retryOn: more than %d statuses", STATUSES_MAX);
	uint16_t *grown = reallocarray(out->statuses, out->status_count + 1, sizeof(*grown));
	if (!grown)
		return err_set(err, -ENOMEM, "retryOn: no memory");
	out->statuses = grown;
	out->statuses[out->status_count++] = (uint16_t)status;
	out->on |= RETRY_STATUS_CODES;
	return 0;
}

int http_retry_on_parse(const char *text, struct http_retry *out, struct err *err)
{
	struct http_retry parsed = { 0 };
	int rc = 0;
	AUTO(mem_freep) char *copy = strdup(text);
	if (!copy)
		return err_set(err, -ENOMEM, "retryOn: no memory");

	char *at = copy, *word;
	while (!rc && (word = strsep(&at, ","))) {
		word += strspn(word, " \t");
		word[strcspn(word, " \t")] = 0;
		if (*word)
			rc = retry_word_add(word, &parsed, err);
	}
	if (rc < 0) {
		free(parsed.statuses);
		return rc;
	}
	free(out->statuses);
	out->on = parsed.on;
	out->statuses = parsed.statuses;
	out->status_count = parsed.status_count;
	return 0;
}
