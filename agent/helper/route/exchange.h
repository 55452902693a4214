/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: an exchange is one request on its way through the stages (filters, then router). Stages run in the order of
 * one table (exchange.c); each says continue, answered, or wait, and calls exchange_continue() later. Filters see this
 * header only. Everything on the worker's thread. */
#pragma once

#include "agent/helper/balance/upstream.h"
#include "agent/helper/http/stream.h"
#include "agent/helper/observe/record.h"
#include "agent/model/filters.h"
#include "agent/model/http.h"
#include "agent/model/policy.h"

#include <stdbool.h>
#include <stdint.h>

struct exchange;
struct http_proxy;
struct worker;
struct worker_pod;

enum stage_result {
	STAGE_CONTINUE,
	STAGE_ANSWERED, /* exchange_respond() was called */
	STAGE_WAIT,	/* exchange_continue() or exchange_respond() will be */
};

/* Requests of one direction at one pod. */
enum exchange_side {
	SIDE_CLIENT, /* from the pod's application: routed */
	SIDE_SERVER, /* to the pod's application: authenticated, authorised, then to its own port */
};

/* What filters leave for each other and for the record. Filters own their members. */
struct exchange_lua;
struct exchange_claims; /* verified tokens: filter/jwt.h */

struct exchange {
	uint32_t magic;
	enum exchange_side side;
	struct http_proxy *proxy;
	struct worker *w;
	struct worker_pod *pod;	     /* a reference */
	const struct identity *peer; /* server side: who calls; NULL: anonymous */
	bool peer_attested;
	bool from_node;			      /* as policy_input's */
	struct addr_port source, destination; /* downstream; destination: original */
	struct addr remote;	/* the client's, as far as proxies before us are trusted to tell it; else source's */
	bool remote_unknown;	/* they told something that is no address; `remote` is source's */
	struct http_head *head; /* the request, changed by stages; never NULL after it came */
	struct http_string path, query;	    /* of head->path: normalised path and what follows '?'; set by normalise */
	const struct http_filters *filters; /* of the pod for this side; NULL: none. A reference */
	const struct policy *policy;	    /* server side: a reference */
	const struct http_vhost *vhost;	    /* client side: a reference */
	const struct http_route *route;
	size_t match;
	struct exchange_claims *claims;		  /* freed with exchange_claims_free() */
	const char *request_principal;		  /* "issuer/subject", into claims */
	struct exchange_lua *lua;		  /* scripts' state; freed with exchange_lua_free() */
	struct http_head *response_extra;	  /* fields that filters add to the response; NULL: none */
	void *stage_state;			  /* of the stage that waits */
	void (*stage_cancel)(struct exchange *x); /* called when the exchange ends while it waits */
	struct request_record record;
	/* private to route/ from here */
	struct exchange_private *private;
};

typedef enum stage_result (*stage_fn)(struct exchange *x);

/* Local answer; the rest of the request is discarded. details: Envoy's response code details (static text). body may be
 * NULL. For gRPC requests it becomes a trailers-only answer with the mapped grpc-status. extra: fields, or NULL (stays the
 * caller's). */
void exchange_respond(struct exchange *x, uint16_t status, uint32_t flags, const char *details, const char *body,
		      const struct http_head *extra);
/* The same with a body of len bytes, any. */
void exchange_respond_bytes(struct exchange *x, uint16_t status, uint32_t flags, const char *details, const void *body,
			    size_t len, const struct http_head *extra);
/* What the pod's proxy would write into headers; never NULL. */
const struct proxy_settings *exchange_settings(const struct exchange *x);
/* After STAGE_WAIT. Never call it from inside the stage. */
void exchange_continue(struct exchange *x);
/* The request's body for a stage that needs it: fn is called once, perhaps at once, with all of it (whole), or with its
 * first `max` bytes when there are more (not whole: who can't do with a part refuses the request). The body still goes on to
 * the endpoint after. One stage at a time; max is at most 1 MiB. */
typedef void (*exchange_body_fn)(struct exchange *x, const uint8_t *body, size_t len, bool whole, void *arg);
void exchange_buffer_body(struct exchange *x, size_t max, exchange_body_fn fn, void *arg);
/* The same for the response that a script looks at; afterwards it waits on, whole or not. One that we made is always whole. */
void exchange_buffer_response(struct exchange *x, size_t max, exchange_body_fn fn, void *arg);
void exchange_response_continue(
	struct exchange *x); /* after stage_lua_response() said STAGE_WAIT; never from inside it */
/* Another body in place of the request's or response's that was buffered whole; its content-length follows.
 * 0, -ENOMEM, or -EINVAL where there can't be one. */
int exchange_body_replace(struct exchange *x, bool response, const uint8_t *bytes, size_t len);
/* Those that came with a body that was buffered whole; NULL: none. They may be changed. */
struct http_head *exchange_trailers(struct exchange *x, bool response);
/* The matcher's view of head, normalised path and pod. */
struct http_request_view exchange_view(struct exchange *x);

/* A request of the helper's own, to a service of a filter (ext-authz over HTTP or gRPC, rate limits). head is taken; body
 * may be NULL. Calls back once, never from inside the call, with the whole response (at most 64 KiB of body), or with
 * status 0 when there was none in time. */
struct side_call;
typedef void (*side_call_fn)(const struct http_head *response, const uint8_t *body, size_t len,
			     const struct http_head *trailers, uint16_t status, void *arg);
struct side_call *side_call_new(struct worker *w, struct worker_pod *pod, const char *cluster, struct http_head *head,
				const void *body, size_t len, uint32_t timeout_ms, side_call_fn fn, void *arg);
void side_call_cancel(struct side_call *c); /* NULL is fine; no callback then */

/* --- stages that other folders provide (filter/) */
enum stage_result stage_normalise(struct exchange *x); /* filter/path.c: 400 for what can't be normalised */
enum stage_result stage_jwt(struct exchange *x);       /* filter/jwt.c */
enum stage_result stage_authorize(struct exchange *x); /* filter/authorize.c: CUSTOM, DENY, ALLOW */
/* Whether the pod's rules of now let a request pass that went through before: what a tunnel is asked when they change. Who
 * was asked by CUSTOM rules is not asked again. */
bool authorize_holds(struct exchange *x);
enum stage_result stage_rate_limit(struct exchange *x); /* filter/ratelimit.c: local, then global */
enum stage_result
stage_lua_early(struct exchange *x);		 /* filter/lua.c: scripts that are put before tokens; server side */
enum stage_result stage_lua(struct exchange *x); /* filter/lua.c: envoy_on_request */
/* envoy_on_response. STAGE_WAIT: it is kept until exchange_response_continue() or exchange_respond(). */
enum stage_result stage_lua_response(struct exchange *x, struct http_head *response);
void exchange_claims_free(struct exchange_claims *claims);
void exchange_lua_free(struct exchange_lua *lua); /* NULL is fine */

/* --- provided by route/ for the worker: HTTP on a byte stream (agent/helper/README.md) */
int http_proxy_new(struct worker *w, struct http_proxy **out);
void http_proxy_free(struct http_proxy *p);
struct upstreams *http_proxy_upstreams(struct http_proxy *p);
/* A connection whose first bytes say HTTP. protocol: which. Takes the transport. */
void http_proxy_outbound(struct http_proxy *p, struct worker_pod *pod, struct transport *t, enum http_protocol protocol,
			 const struct addr_port *original, struct http_vhost *vhost);
void http_proxy_inbound(struct http_proxy *p, struct worker_pod *pod, struct transport *t, enum http_protocol protocol);
void http_proxy_pod_changed(struct http_proxy *p, struct worker_pod *pod); /* what its inbound connections meet */
void http_proxy_pod_removed(struct http_proxy *p, struct worker_pod *pod);
void http_proxy_drain(struct http_proxy *p);
size_t http_proxy_live(const struct http_proxy *p);			      /* exchanges under way */
void http_proxy_dump(struct http_proxy *p, const char *what, struct sb *out); /* "http-connections" */
