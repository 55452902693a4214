/* SPDX-License-Identifier: Apache-2.0 */
/* Rate limits, as Envoy's local_ratelimit and ratelimit filters: first the buckets of this process, then the services, one
 * after the other; the first that says no answers the request. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/filter/fields.h"
#include "agent/helper/filter/ratelimit_buckets.h"
#include "agent/helper/filter/ratelimit_internal.h"
#include "agent/helper/filter/refuse.h"
#include "agent/helper/route/grpc.h"
#include "agent/helper/worker.h"

enum { DEFAULT_BUCKET = -1 };

static bool chance(struct http_fraction share)
{
	static __thread uint64_t state;

	if (share.ppm >= 1000000 || !share.ppm)
		return share.ppm > 0;
	if (!state) {
		const uint64_t seed[2] = { clock_now_ns(), (uintptr_t)&state };
		state = hash_keyed(seed, sizeof(seed)) | 1;
	}
	state ^= state << 13; /* xorshift64 */
	state ^= state >> 7;
	state ^= state << 17;
	return state % 1000000 < share.ppm;
}

/* --- refusing */

static int ops_put(struct http_head *h, const struct http_header_ops *ops)
{
	int rc = 0;
	for (size_t i = 0; i < ops->set_count + ops->add_count && rc == 0; i++) {
		bool set = i < ops->set_count;
		const struct http_header_value *v = set ? &ops->set[i] : &ops->add[i - ops->set_count];
		rc = field_put(h, (struct http_string){ v->name, (uint32_t)strlen(v->name) },
			       (struct http_string){ v->value, (uint32_t)strlen(v->value) }, set);
	}
	return rc;
}

/* RESOURCE_EXHAUSTED has no HTTP status that says it. */
static int grpc_put(struct http_head *h, const char *message)
{
	char number[12];
	int n = snprintf(number, sizeof(number), "%d", GRPC_RESOURCE_EXHAUSTED);

	return http_add_id(h, HTTP_CONTENT_TYPE, "application/grpc", 16) < 0 ||
			       http_add_id(h, HTTP_GRPC_STATUS, number, (size_t)n) < 0 ||
			       (*message && http_add_id(h, HTTP_GRPC_MESSAGE, message, strlen(message)) < 0) ?
		       -1 :
		       0;
}

static void limited(struct exchange *x, const struct rate_limit *l, const char *details, const char *body)
{
	bool exhausted = l->grpc_exhausted && x->record.grpc;
	struct http_head *extra = http_head_new();
	int rc = extra ? http_add_id(extra, HTTP_X_ENVOY_RATELIMITED, "true", 4) : -1;

	if (rc == 0)
		rc = ops_put(extra, &l->response);
	if (rc == 0 && exhausted)
		rc = grpc_put(extra, body ? body : "");
	refuse_count(x, DROP_RATE_LIMITED, l->name);
	if (rc < 0)
		exchange_respond(x, 503, FLAG(LR), "out_of_memory", NULL, NULL);
	else
		exchange_respond(x, exhausted ? 200 : (uint16_t)l->status, FLAG(RL), details, exhausted ? NULL : body,
				 extra);
	http_head_free(extra);
}

void limit_headers(struct exchange *x, uint32_t limit, uint32_t remaining, uint64_t reset_s)
{
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = { { "x-ratelimit-limit", limit },
		     { "x-ratelimit-remaining", remaining },
		     { "x-ratelimit-reset", reset_s } };

	if (!x->response_extra)
		x->response_extra = http_head_new();
	for (size_t i = 0; x->response_extra && i < ARRAY_SIZE(rows); i++) {
		char digits[24];
		snprintf(digits, sizeof(digits), "%llu", (unsigned long long)rows[i].value);
		http_set(x->response_extra, rows[i].name, digits);
	}
}

/* --- local limits */

static bool entry_fits(const struct limit_entry *want, const struct descriptor_entry *have)
{
	return str_eq(want->key, have->key) && (!want->value || (strlen(want->value) == have->value.n &&
								 !memcmp(want->value, have->value.p, have->value.n)));
}

/* The index of the limit's descriptor that this is: an exact one before one that takes any value. -1: none. */
static ptrdiff_t descriptor_find(const struct rate_limit *l, const struct descriptor *have)
{
	ptrdiff_t found = -1;
	for (size_t i = 0; i < l->descriptor_count; i++) {
		const struct limit_descriptor *d = &l->descriptors[i];
		bool fits = d->entry_count == have->n, exact = true;
		for (size_t e = 0; fits && e < have->n; e++) {
			fits = entry_fits(&d->entries[e], &have->v[e]);
			exact &= d->entries[e].value != NULL;
		}
		if (fits && exact)
			return (ptrdiff_t)i;
		if (fits && found < 0)
			found = (ptrdiff_t)i;
	}
	return found;
}

struct taken {
	const struct token_bucket *config;
	struct bucket_key key;
	uint64_t owner;
};

static struct bucket_key key_of(const struct exchange *x, const struct rate_limit *l, ptrdiff_t index,
				const struct descriptor *have)
{
	struct {
		uint64_t pod, side, limit, index;
		struct bucket_key values[ENTRIES_MAX];
	} parts = { .pod = x->pod ? x->pod->cookie : 0, .side = x->side, .limit = l->id, .index = (uint64_t)index };
	size_t n = have ? have->n : 0;

	for (size_t i = 0; i < n; i++)
		parts.values[i] = bucket_key(have->v[i].value.p, have->v[i].value.n);
	return bucket_key(&parts, offsetof(__typeof__(parts), values) + n * sizeof(*parts.values));
}

/* Of descriptors whose values clients choose; 0: there are as many as the configuration says. */
static uint64_t owner_of(const struct exchange *x, const struct rate_limit *l, const struct limit_descriptor *d)
{
	const uint64_t parts[] = { x->pod ? x->pod->cookie : 0, x->side, l->id };
	bool chosen = false;

	for (size_t i = 0; i < d->entry_count; i++)
		chosen |= !d->entries[i].value;
	return chosen ? bucket_key(parts, sizeof(parts)).h[0] | 1u << 31 : 0;
}

static double rate_of(const struct token_bucket *b)
{
	return (double)b->tokens_per_fill / (double)(b->fill_interval_ms ? b->fill_interval_ms : 1);
}

/* The buckets of descriptors, the slowest to fill first, then the default one. */
static size_t buckets_of(struct exchange *x, const struct rate_limit *l, struct taken *out)
{
	struct descriptor have[DESCRIPTORS_MAX];
	size_t made = l->descriptor_count ? descriptors_make(x, l, have) : 0, n = 0;

	for (size_t i = 0; i < made; i++) {
		ptrdiff_t index = descriptor_find(l, &have[i]);
		if (index < 0)
			continue;
		const struct limit_descriptor *d = &l->descriptors[index];
		const struct taken one = { &d->bucket, key_of(x, l, index, &have[i]), owner_of(x, l, d) };
		size_t at = n++;
		for (; at && rate_of(out[at - 1].config) > rate_of(one.config); at--)
			out[at] = out[at - 1];
		out[at] = one;
	}
	if (l->has_bucket && !(n && l->spare_bucket))
		out[n++] = (struct taken){ &l->bucket, key_of(x, l, DEFAULT_BUCKET, NULL), 0 };
	return n;
}

/* true: the request may pass. */
static bool local_take(struct exchange *x, const struct rate_limit *l)
{
	struct taken take[DESCRIPTORS_MAX + 1];
	struct buckets *buckets = buckets_shared();
	uint64_t now_ns = clock_now_ns();
	size_t n = buckets_of(x, l, take), told = 0;
	struct bucket_state state = { .allowed = true }, first = state;

	if (n && !buckets)
		return false;
	for (size_t i = 0; i < n && state.allowed; i++) {
		state = buckets_take(buckets, take[i].key, take[i].owner, take[i].config, now_ns);
		if (i == 0 || !state.allowed) {
			first = state;
			told = i;
		}
	}
	if (state.no_room)
		worker_metrics(x->w)->limits_full++;
	if (n && l->x_ratelimit_headers)
		limit_headers(x, take[told].config->max_tokens, first.remaining, (first.reset_ms + 999) / 1000);
	return state.allowed;
}

static bool local_check(struct exchange *x, const struct rate_limit *l)
{
	if (!chance(l->enabled) || local_take(x, l))
		return true;
	if (!chance(l->enforced)) {
		worker_metrics(x->w)->limits_unenforced++;
		return true;
	}
	limited(x, l, "local_rate_limited", "local_rate_limited");
	return false;
}

/* Limits of the route are in place of the others. */
static bool locals_check(struct exchange *x)
{
	const struct http_filters *f = x->filters;
	bool own = false;

	for (size_t i = 0; i < f->limit_count && !own; i++)
		own = f->limits[i].per_route &&
		      limit_applies(x, f->limits[i].route, f->limits[i].vhost, f->limits[i].port);
	for (size_t i = 0; i < f->limit_count; i++) {
		const struct rate_limit *l = &f->limits[i];
		if (!l->global && l->per_route == own && limit_applies(x, l->route, l->vhost, l->port) &&
		    !local_check(x, l))
			return false;
	}
	return true;
}

/* --- services */

struct limit_call {
	struct exchange *x;
	size_t at; /* in the limits */
	struct side_call *call;
};

static void call_free(struct limit_call *c)
{
	c->x->stage_state = NULL;
	c->x->stage_cancel = NULL;
	side_call_cancel(c->call);
	free(c);
}

static void on_cancel(struct exchange *x)
{
	call_free(x->stage_state);
}

static void on_response(const struct http_head *response, const uint8_t *body, size_t len,
			const struct http_head *trailers, uint16_t status, void *arg);

/* STAGE_CONTINUE: there was nothing to ask, or it failed and that is fine. */
static enum stage_result failed(struct exchange *x, const struct rate_limit *l)
{
	worker_metrics(x->w)->limits_failed++;
	if (!l->failure_deny)
		return STAGE_CONTINUE;
	refuse_count(x, DROP_RATE_LIMIT_ERROR, l->name);
	exchange_respond(x, 500, FLAG(RLSE), "rate_limiter_error", NULL, NULL);
	return STAGE_ANSWERED;
}

static enum stage_result service_ask(struct limit_call *c, const struct rate_limit *l)
{
	struct exchange *x = c->x;
	struct descriptor descriptors[DESCRIPTORS_MAX];
	size_t n = descriptors_make(x, l, descriptors), len = 0;
	uint8_t *bytes = NULL;

	if (!n)
		return STAGE_CONTINUE;
	struct http_head *head = limit_request(l, descriptors, n, &bytes, &len);
	if (head)
		c->call = side_call_new(x->w, x->pod, l->cluster, head, bytes, len, l->timeout_ms, on_response, c);
	free(bytes);
	return c->call ? STAGE_WAIT : failed(x, l);
}

/* From c->at on. c is gone unless it waits. */
static enum stage_result services_ask(struct limit_call *c)
{
	const struct http_filters *f = c->x->filters;
	enum stage_result result = STAGE_CONTINUE;

	for (; c->at < f->limit_count && result == STAGE_CONTINUE; c->at += result == STAGE_CONTINUE) {
		const struct rate_limit *l = &f->limits[c->at];
		if (l->global && limit_applies(c->x, l->route, l->vhost, l->port))
			result = service_ask(c, l);
	}
	if (result != STAGE_WAIT)
		call_free(c);
	return result;
}

static void on_response(const struct http_head *response, const uint8_t *body, size_t len,
			const struct http_head *trailers, uint16_t status, void *arg)
{
	struct limit_call *c = arg;
	struct exchange *x = c->x;
	const struct rate_limit *l = &x->filters->limits[c->at];
	enum stage_result result = STAGE_CONTINUE;

	c->call = NULL;
	enum limit_outcome outcome =
		status && response ? limit_response(x, l, response, trailers, body, len) : LIMIT_ERROR;
	if (outcome == LIMIT_OVER) {
		call_free(c);
		limited(x, l, "request_rate_limited", NULL);
		return;
	}
	if (outcome == LIMIT_ERROR)
		result = failed(x, l);
	if (result != STAGE_CONTINUE) {
		call_free(c);
		return;
	}
	c->at++;
	if (services_ask(c) == STAGE_CONTINUE)
		exchange_continue(x);
}

static bool has_service(const struct http_filters *f)
{
	for (size_t i = 0; i < f->limit_count; i++)
		if (f->limits[i].global)
			return true;
	return false;
}

enum stage_result stage_rate_limit(struct exchange *x)
{
	if (!x->filters || !x->filters->limit_count)
		return STAGE_CONTINUE;
	if (!locals_check(x))
		return STAGE_ANSWERED;
	if (!has_service(x->filters))
		return STAGE_CONTINUE;
	struct limit_call *c = calloc(1, sizeof(*c));
	if (!c) {
		exchange_respond(x, 503, FLAG(LR), "out_of_memory", NULL, NULL);
		return STAGE_ANSWERED;
	}
	c->x = x;
	x->stage_state = c;
	x->stage_cancel = on_cancel;
	return services_ask(c);
}
