/* SPDX-License-Identifier: Apache-2.0 */
/* CUSTOM rules: their providers are asked one after the other; the first that denies ends it, and when all allow, DENY and
 * ALLOW judge the request as the providers left it. A provider that is not configured denies. */
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/filter/authorize.h"
#include "agent/helper/filter/ext_authz_internal.h"
#include "agent/helper/filter/refuse.h"

struct ext_call {
	struct exchange *x;
	const struct ext_authz *providers[POLICY_CUSTOM_MAX];
	const struct policy_rule *rules[POLICY_CUSTOM_MAX];
	size_t count, at;
	struct side_call *call;
	uint8_t *body;
	size_t body_len;
	bool body_wanted, body_here, body_whole;
	bool in_stage; /* callbacks come from inside: the stage's result says what happens */
};

static void call_free(struct ext_call *c)
{
	c->x->stage_state = NULL;
	c->x->stage_cancel = NULL;
	side_call_cancel(c->call);
	free(c->body);
	free(c);
}

static void on_cancel(struct exchange *x)
{
	call_free(x->stage_state);
}

static const struct ext_authz *provider_find(const struct http_filters *f, const char *name)
{
	for (size_t i = 0; f && i < f->ext_authz_count; i++)
		if (str_eq(f->ext_authz[i].provider, name))
			return &f->ext_authz[i];
	return NULL;
}

void ext_denial_body(struct ext_denial *denial, const void *body, size_t len)
{
	denial->body = len ? malloc(len) : NULL;
	denial->body_len = denial->body ? len : 0;
	if (denial->body)
		memcpy(denial->body, body, len);
}

static void denial_done(struct ext_denial *d)
{
	free(d->body);
	http_head_free(d->extra);
}

/* Ends the exchange; c is gone after. */
static enum stage_result refuse(struct ext_call *c, const struct ext_denial *d, const char *details)
{
	struct exchange *x = c->x;

	x->record.authz_rule = c->rules[c->at]->name;
	refuse_count(x, DROP_EXT_AUTHZ_DENIED, x->record.authz_rule);
	call_free(c);
	exchange_respond_bytes(x, d->status, FLAG(UAEX), details, d->body, d->body_len, d->extra);
	return STAGE_ANSWERED;
}

static void on_response(const struct http_head *response, const uint8_t *body, size_t len,
			const struct http_head *trailers, uint16_t status, void *arg);

/* Not an error that failOpen could pass: who sends more than is looked at must not get around being asked. */
static enum stage_result too_large(struct ext_call *c)
{
	static const char text[] = "Payload Too Large";
	struct ext_denial denial = { .status = 413 };

	ext_denial_body(&denial, text, sizeof(text) - 1);
	refuse(c, &denial, "request_payload_too_large");
	denial_done(&denial);
	return STAGE_ANSWERED;
}

/* STAGE_WAIT when it was asked, STAGE_CONTINUE when it could not be. */
static enum stage_result provider_ask(struct ext_call *c, const struct ext_authz *p)
{
	uint8_t *bytes = NULL;
	size_t len = 0, most = p->max_body_bytes;
	struct ext_body body = { 0 };

	if (most && c->body_here)
		body = (struct ext_body){ c->body, c->body_len < most ? c->body_len : most,
					  c->body_whole && c->body_len <= most };
	if (most && !body.whole && !p->allow_partial)
		return too_large(c);
	struct http_head *head =
		p->grpc ? ext_authz_grpc_request(c->x, p, &body, &bytes, &len) : ext_authz_http_request(c->x, p, &body);
	if (!head)
		return STAGE_CONTINUE;
	c->call = side_call_new(c->x->w, c->x->pod, p->cluster, head, p->grpc ? bytes : body.p, p->grpc ? len : body.n,
				p->timeout_ms ? p->timeout_ms : 600, on_response, c);
	free(bytes);
	return c->call ? STAGE_WAIT : STAGE_CONTINUE;
}

/* What follows an outcome; STAGE_CONTINUE: the next provider. */
static enum stage_result outcome_apply(struct ext_call *c, enum ext_outcome outcome, const struct ext_denial *denial)
{
	const struct ext_authz *p = c->providers[c->at];

	if (outcome == EXT_DENY)
		return refuse(c, denial, "ext_authz_denied");
	if (outcome == EXT_ERROR && !p->fail_open) {
		const struct ext_denial error = { .status = p->status_on_error ? (uint16_t)p->status_on_error : 403 };
		return refuse(c, &error, "ext_authz_error");
	}
	c->at++;
	return STAGE_CONTINUE;
}

static void on_body(struct exchange *x, const uint8_t *body, size_t len, bool whole, void *arg);

static enum stage_result proceed(struct ext_call *c)
{
	struct exchange *x = c->x;

	while (c->at < c->count) {
		const struct ext_authz *p = c->providers[c->at];
		if (p->max_body_bytes && !c->body_wanted) {
			size_t most = 0;
			for (size_t i = c->at; i < c->count; i++)
				if (c->providers[i]->max_body_bytes > most)
					most = c->providers[i]->max_body_bytes;
			c->body_wanted = true;
			c->in_stage = true;
			/* One more than wanted tells whether that is all. */
			exchange_buffer_body(x, most + 1, on_body, c);
			c->in_stage = false;
		}
		if (c->body_wanted && !c->body_here)
			return STAGE_WAIT;
		enum stage_result result = provider_ask(c, p);
		if (result == STAGE_CONTINUE)
			result = outcome_apply(c, EXT_ERROR, NULL);
		if (result != STAGE_CONTINUE)
			return result;
	}
	call_free(c);
	return authorize_decide(x);
}

static void resume(struct ext_call *c)
{
	struct exchange *x = c->x;

	if (proceed(c) == STAGE_CONTINUE)
		exchange_continue(x);
}

static void on_body(struct exchange *x, const uint8_t *body, size_t len, bool whole, void *arg)
{
	struct ext_call *c = arg;
	(void)x;
	c->body_here = true;
	c->body_whole = whole;
	if (body && len) {
		c->body = malloc(len);
		if (c->body) {
			memcpy(c->body, body, len);
			c->body_len = len;
		} else {
			c->body_whole = false;
		}
	}
	if (!c->in_stage)
		resume(c);
}

static void on_response(const struct http_head *response, const uint8_t *body, size_t len,
			const struct http_head *trailers, uint16_t status, void *arg)
{
	struct ext_call *c = arg;
	const struct ext_authz *p = c->providers[c->at];
	struct ext_denial denial = { 0 };
	enum ext_outcome outcome = EXT_ERROR;

	c->call = NULL;
	if (status && response)
		outcome = p->grpc ? ext_authz_grpc_response(c->x, response, body, len, trailers, &denial) :
				    ext_authz_http_response(c->x, p, response, body, len, &denial);
	if (outcome_apply(c, outcome, &denial) == STAGE_CONTINUE)
		resume(c);
	denial_done(&denial);
}

enum stage_result ext_authz_ask(struct exchange *x, const struct policy_rule *const *rules, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!provider_find(x->filters, rules[i]->provider))
			return authorize_deny(x, DROP_EXT_AUTHZ_DENIED, rules[i]);

	struct ext_call *c = calloc(1, sizeof(*c));
	if (!c)
		return authorize_deny(x, DROP_NO_MEMORY, rules[0]);
	c->x = x;
	c->count = count;
	for (size_t i = 0; i < count; i++) {
		c->providers[i] = provider_find(x->filters, rules[i]->provider);
		c->rules[i] = rules[i];
	}
	x->stage_state = c;
	x->stage_cancel = on_cancel;
	return proceed(c);
}
