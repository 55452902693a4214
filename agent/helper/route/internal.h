/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of route/: a worker's proxy, its downstream connections, and an exchange's private half.
 * Everything on the worker's thread. */
#pragma once

#include "agent/helper/balance/upstream.h"
#include "agent/helper/route/deadline.h"
#include "agent/helper/route/exchange.h"
#include "agent/helper/route/grpc.h"
#include "agent/helper/transport.h"

#include <sys/queue.h>

enum {
	EXCHANGE_MAGIC = 0x58434847,
	DOWNSTREAM_MAGIC = 0x444f574e,
	BODY_KEPT_MAX = 64 << 10, /* of a request's body, for a retry */
	BODY_FOR_STAGE_MAX = 1 << 20,
	EXCHANGES_KEPT = 256,	/* in the free list */
	HALF_IDLE_MS = 3600000, /* of a tunnel that has one half left */
	MIRRORS_MAX = 8,
	ATTEMPTS_MAX = 64,
};

struct downstream;
struct exchange_private;
struct local_upstream;
struct side_call;

TAILQ_HEAD(exchange_list, exchange_private);
TAILQ_HEAD(downstream_list, downstream);
TAILQ_HEAD(side_call_list, side_call);

struct http_proxy {
	struct worker *w;
	struct loop *loop;
	struct upstreams *upstreams;
	struct deadlines deadlines;
	uint64_t random; /* state of proxy_random() */
	struct downstream_list conns;
	struct side_call_list calls, dead_calls;
	struct exchange_list dead, idle; /* freed at the end of the tick; the free list */
	struct exchange_list tunnels;	 /* of the server's side, to be judged again when rules change */
	struct downstream_list dead_conns;
	size_t idle_count, live, conn_count;
	uint32_t half_idle_ms;
	bool reaping, draining, freed;
};

/* A connection of the pod's application (client side) or to it (server side). */
struct downstream {
	uint32_t magic;
	TAILQ_ENTRY(downstream) link;
	struct http_proxy *proxy;
	struct worker_pod *pod;
	enum exchange_side side;
	struct http_conn *conn; /* NULL: closed */
	struct addr_port source, destination, original;
	bool tls, dead;
	struct identity *peer;
	bool from_node;		      /* as policy_input's */
	struct http_vhost *vhost;     /* client side: of the address, as it was when the connection came */
	struct local_upstream *local; /* server side */
	size_t exchanges;
};

/* One side of an exchange. The stream is forgotten when both have said END, or either has reset it. */
struct leg {
	struct http_stream *s;
	bool sent_end, got_end;
	bool refused; /* bytes that it brought were not taken: resume it when there is room */
};

static inline void leg_forget(struct leg *leg)
{
	if (leg->sent_end && leg->got_end)
		leg->s = NULL;
}

enum exchange_state {
	EX_STAGES,     /* the stages run, or one waits */
	EX_CONNECTING, /* waits for a stream to an endpoint */
	EX_BACKOFF,    /* waits before the next attempt */
	EX_UPSTREAM,   /* the request goes out; no response yet */
	EX_HELD,       /* the endpoint's response has begun; it is kept while a script looks at it */
	EX_RESPONSE,   /* the endpoint's response has begun to be passed on */
	EX_LOCAL,      /* our own answer is being sent */
	EX_DONE,       /* recorded; freed at the end of the tick */
	EX_STATES
};

struct exchange_private {
	struct exchange x;		    /* first */
	TAILQ_ENTRY(exchange_private) link; /* dead, idle, or (upgraded, server's side) among the tunnels */
	enum exchange_state state;
	struct downstream *conn;
	struct leg down, up;
	uint8_t stage;
	bool stage_waits;

	/* The request's body: what must be kept, from its first byte. Otherwise bytes go straight through. */
	uint8_t *body;
	uint32_t body_len, body_cap, body_sent; /* sent: to the present attempt */
	bool body_kept;				/* all of it so far is in `body`, so it can be sent again */
	bool request_ended;			/* all of it came */
	struct http_head *request_trailers;
	size_t buffer_max; /* a stage wants the body; 0: none does */
	exchange_body_fn buffer_fn;
	void *buffer_arg;

	const struct http_destination *destination;
	struct addr_port target;	 /* for PASSTHROUGH: original */
	struct addr_port upstream_local; /* of the present or last attempt; the connection may be gone */
	struct upstream_wait *wait;
	struct upstream *upstream;
	enum upstream_outcome outcome; /* of the attempt that is over, for attempt_settle() */
	uint16_t outcome_status;
	bool outcome_known;
	uint32_t retries_left;
	bool retried, retries_may; /* retries_may: the route allows some at all */
	uint16_t response_outcome; /* what the response says of the endpoint */
	bool target_known, cors_preflight;
	bool registry_only;	    /* the host is not known, and that is an error */
	uint8_t stale_tries;	    /* whose reused connection was closed, or left by its server */
	struct caller *retry_leave; /* of the present attempt, if it is a retry by the route */
	struct addr_port avoid[UPSTREAM_AVOID_MAX];
	uint8_t avoid_count;
	/* By bit: every second time the priorities of the endpoints that were tried are skipped. */
	uint64_t tried_priorities, skip_priorities;
	uint8_t tried;
	struct deadline total, alarm; /* route's timeout; the attempt's, a back-off's or a delay's */
	uint32_t timeout_ms;
	uint64_t attempt_ns, attempt_end_ns;
	char *transport_failure; /* behind the record's */
	bool prepared, upgraded;
	uint64_t tunnel_moved_ns; /* upgraded: bytes, either way */
	bool in_body, pulled;	  /* within on_body; and there is room for more of it */

	/* The response, before it is sent: as much of its body as a script wants to see. */
	uint8_t *held;
	uint32_t held_len, held_cap, held_sent;
	size_t held_max;
	exchange_body_fn held_fn; /* NULL: nobody wants more of it now */
	void *held_arg;
	bool response_waits, response_ended; /* ended: all of it came */

	struct http_head *response, *response_trailers;
	bool head_sent; /* the final one, to the client */
	const char *local_body;
	uint32_t local_len, local_sent;
	char *local_copy; /* owns local_body when it had to wait */

	struct http_string cors_origin; /* that matched; p NULL: none */
	struct worker_wait *target_wait;
	struct side_call *mirrors[MIRRORS_MAX];
	uint8_t mirror_count;
	struct grpc_counter grpc_request, grpc_response;
	struct identity *peer;				/* a reference behind x.peer */
	TAILQ_ENTRY(exchange_private) local_link;	/* waits for a connection to the application */
	bool local_waits, local_pending, local_counted; /* the last two: against the application's limits */
	uint8_t local_tries;
	struct addr_port pinned;	      /* by the session; port 0: there is none yet */
	uint32_t session_began, session_used; /* as the request said, seconds */
};

static inline struct exchange_private *exchange_of(struct exchange *x)
{
	return x->private;
}

/* --- proxy.c */
bool preserves_case(const struct worker_pod *pod, enum exchange_side side); /* of names in HTTP/1 */
uint64_t proxy_random(struct http_proxy *p);
/* Whether a share of a million is hit. */
bool proxy_chance(struct http_proxy *p, struct http_fraction share);
void proxy_reap_later(struct http_proxy *p);
void downstream_release(struct downstream *d); /* an exchange of it is over */

/* --- exchange.c: life, stages, local answers */
struct exchange_private *exchange_new(struct downstream *d, struct http_stream *s);
void exchange_reap(struct http_proxy *p, struct exchange_private *e); /* at the end of the tick */
void exchange_memory_free(struct exchange_private *e);
void exchange_state(struct exchange_private *e, enum exchange_state to);
void exchange_run(struct exchange_private *e);
/* The end: whatever is still there is cancelled, the record is written. Harmless when it is done already. */
void exchange_finish(struct exchange_private *e);
/* Resets what the client still waits for and finishes. */
void exchange_abort(struct exchange_private *e, uint32_t flags, const char *details, enum http_reset why);
bool exchange_is_head(const struct exchange_private *e);

/* --- downstream.c: the client's stream */
extern const struct http_stream_events downstream_events, downstream_ignored;
void downstream_send_local(struct exchange_private *e, struct http_head *head);
void downstream_start_local(struct exchange_private *e); /* its head and body, when no script waits any more */
void downstream_pull(struct exchange_private *e);	 /* bytes that were refused may come now */
void downstream_response_done(struct exchange_private *e);

/* --- body.c */
/* n more bytes into memory that grows: at most its double is there for nothing. 0 or -ENOMEM. */
int body_append(uint8_t **body, uint32_t *len, uint32_t *cap, const uint8_t *bytes, size_t n);
int body_keep(struct exchange_private *e, const uint8_t *bytes, size_t len); /* 0 or -ENOMEM */
void body_free(struct exchange_private *e);
size_t body_from_client(struct exchange_private *e, const uint8_t *bytes, size_t len, bool end);
void body_stage_done(struct exchange_private *e,
		     bool whole); /* hands what was buffered to the stage that waits for it */

/* --- retry.c: pure decisions, and the back-off */
enum attempt_reset {
	ATTEMPT_CONNECT_FAILURE,
	ATTEMPT_CONNECT_TIMEOUT,
	ATTEMPT_TERMINATED, /* the connection ended */
	ATTEMPT_REMOTE_RESET,
	ATTEMPT_REFUSED_STREAM,
	ATTEMPT_PROTOCOL,
	ATTEMPT_OVERFLOW,
	ATTEMPT_LOCAL_RESET, /* the per try timeout */
	ATTEMPT_RESETS
};
struct reset_kind {
	const char *reason, *before_head, *after_head; /* Envoy's words: in the body, and as details */
	uint32_t flag;
	uint16_t status;
};
extern const struct reset_kind reset_kinds[ATTEMPT_RESETS];
bool retry_on_response(const struct http_retry *retry, const struct http_head *head);
bool retry_on_reset(const struct http_retry *retry, enum attempt_reset why, bool request_sent);
/* Before the attempt'th further try, from 1. */
uint32_t retry_backoff_ms(const struct http_retry *retry, uint32_t attempt, uint64_t random);
/* Ends this attempt and waits for the next one, if it is wanted and allowed; the flags URX when none is left, and UO when the
 * cluster's limit of retries refuses it: what was to be tried again then goes on to the client as it is. */
bool retry_try(struct exchange_private *e, bool wanted, enum upstream_outcome outcome, uint16_t status);
/* The same for a reason that needs no route's leave and says nothing of the endpoint: the connection turned out to be
 * closed, and nothing was sent, or what retry_is_safe() allows. */
void retry_again(struct exchange_private *e);
/* A connection that we had kept for reuse ended as the request went out. Whose connection it would have been without us
 * would send an idempotent request once more (RFC 9110 9.2.2), and any that the server said it has not seen (unseen; RFC 9113
 * 8.7); so do we, a few times, if all of it is still here. */
bool retry_is_safe(const struct exchange_private *e, bool unseen);

/* --- attempt.c: one try at an endpoint, and those after */
extern const struct http_stream_events upstream_events;
void attempt_start(struct exchange_private *e);
void attempt_got_stream(struct exchange_private *e, struct http_stream *s);
void attempt_no_stream(struct exchange_private *e, enum upstream_failure why, const struct cluster_endpoint *endpoint);
void attempt_pump(struct exchange_private *e); /* what is kept of the body, then the rest */
void attempt_request_ended(struct exchange_private *e);
/* Ends the present attempt: its stream is reset when it is still there. */
void attempt_end(struct exchange_private *e, enum upstream_outcome outcome, uint16_t status);
/* Tells the balancer of the attempt that ended: from then on the record knows no endpoint. */
void attempt_settle(struct exchange_private *e);
void attempt_failed(struct exchange_private *e, enum attempt_reset why);

/* --- response.c */
void response_from_upstream(struct exchange_private *e, struct http_head *head, bool end); /* takes head */
void response_informational(struct exchange_private *e, struct http_head *head);	   /* takes head */
size_t response_body(struct exchange_private *e, const uint8_t *bytes, size_t len, bool end);
void response_trailers(struct exchange_private *e, struct http_head *trailers); /* takes it */
/* What every answer gets: CORS, cookies, the filters' fields, and what scripts do. true: e->response may be sent. */
bool response_finish(struct exchange_private *e);
void response_start(struct exchange_private *e); /* the endpoint's goes on: its head, what is held, then the rest */
void response_done(struct exchange_private *e);
void response_ended(struct exchange_private *e);    /* the same, but of a tunnel only this half is over */
void tunnel_half_ended(struct exchange_private *e); /* either was passed on; nothing where there is no tunnel */
void tunnel_moved(struct exchange_private *e);

/* --- held.c: a response that a script looks at before it is sent */
size_t held_take(struct exchange_private *e, const uint8_t *bytes, size_t len, bool end);
void held_ended(struct exchange_private *e); /* all of the response came */
void held_pump(struct exchange_private *e);  /* after the head: what is held, then the rest */
void held_free(struct exchange_private *e);

/* --- headers.c */
void header_ops_apply(const struct http_header_ops *ops, struct http_head *head, const struct request_record *record);
/* What is done to a request as it comes, before any filter sees it: what belongs to the client's hop goes, what it may not
 * say, too. A field that a filter adds later can't be removed by naming it in Connection. 0 or -ENOMEM. */
int request_receive(struct exchange_private *e);
/* The route's changes, before the request is sent to an endpoint; once. 0 or -ENOMEM. */
int request_prepare(struct exchange_private *e);
/* Decimal digits; returns how many (at most 20). */
size_t number_text(char *buf, uint64_t n);
void request_attempt_count(struct exchange_private *e, struct http_head *head);
/* The host of an authority, without its port. */
struct http_string authority_host(struct http_string authority);
/* The request's host in lower case, in the head. NULL: it has none. */
const char *request_host(struct exchange_private *e);

/* --- stages: router.c, target.c, cors.c, fault.c, local.c */
enum stage_result stage_route(struct exchange *x);
enum stage_result stage_reroute(struct exchange *x);
enum stage_result stage_cors(struct exchange *x);
enum stage_result stage_fault(struct exchange *x);
enum stage_result stage_forward(struct exchange *x);
void cors_response(struct exchange_private *e, struct http_head *head);

/* --- session.c: HTTPRoute's session persistence */
void session_read(struct exchange_private *e); /* sets the destination, when the session is of this route */
void session_write(struct exchange_private *e, struct http_head *response);

/* --- mirror.c */
void mirrors_start(struct exchange_private *e);
void mirrors_body(struct exchange_private *e, const uint8_t *bytes, size_t len);
void mirrors_end(struct exchange_private *e);
void mirrors_drop(struct exchange_private *e); /* the request did not end: neither does its copy */

/* --- local.c: the pod's own application */
void local_open(struct exchange_private *e); /* calls attempt_got_stream() or attempt_no_stream(), perhaps at once */
void local_cancel(struct exchange_private *e);
void local_close(struct local_upstream *l); /* with the downstream connection; NULL is fine */
void local_free(struct local_upstream *l);  /* when its exchanges have ended; NULL is fine */

/* --- side_call.c */
void side_calls_end(struct http_proxy *p, const struct worker_pod *pod); /* NULL: of all pods */
