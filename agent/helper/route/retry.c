/* SPDX-License-Identifier: Apache-2.0 */
/* Which failures are tried again (Envoy's conditions, retry_state_impl), and when. */
#include "agent/helper/route/internal.h"

#include "agent/base/mem.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"

enum { BACKOFF_MS = 25, BACKOFF_MAX_MS = 250, STALE_TRIES = 3 };

#define RESET_KIND(text, details, flag_bit, code)                                                                      \
	{                                                                                                              \
		.reason = text, .before_head = "upstream_reset_before_response_started{" details "}",                  \
		.after_head = "upstream_reset_after_response_started{" details "}", .flag = flag_bit, .status = code   \
	}

const struct reset_kind reset_kinds[ATTEMPT_RESETS] = {
	[ATTEMPT_CONNECT_FAILURE] = RESET_KIND("connection failure", "connection_failure", FLAG(UF), 503),
	[ATTEMPT_CONNECT_TIMEOUT] = RESET_KIND("connection timeout", "connection_timeout", FLAG(UF), 503),
	[ATTEMPT_TERMINATED] = RESET_KIND("connection termination", "connection_termination", FLAG(UC), 503),
	[ATTEMPT_REMOTE_RESET] = RESET_KIND("remote reset", "remote_reset", FLAG(UR), 503),
	[ATTEMPT_REFUSED_STREAM] =
		RESET_KIND("remote refused-stream reset", "remote_refused-stream_reset", FLAG(UR), 503),
	[ATTEMPT_PROTOCOL] = RESET_KIND("protocol error", "protocol_error", FLAG(UPE), 502),
	[ATTEMPT_OVERFLOW] = RESET_KIND("overflow", "overflow", FLAG(UO), 503),
	[ATTEMPT_LOCAL_RESET] = RESET_KIND("local reset", "local_reset", FLAG(LR), 503),
};

static bool retry_on_grpc(uint32_t on, int status)
{
	switch (status) {
	case 1:
		return on & RETRY_GRPC_CANCELLED;
	case 4:
		return on & RETRY_GRPC_DEADLINE;
	case 8:
		return on & RETRY_GRPC_EXHAUSTED;
	case 13:
		return on & RETRY_GRPC_INTERNAL;
	case 14:
		return on & RETRY_GRPC_UNAVAILABLE;
	default:
		return false;
	}
}

/* gRPC: only a status that came with the head can be tried again; one in trailers came after it was passed on. As in
 * Envoy the gRPC conditions are asked of any response that carries grpc-status. */
bool retry_on_response(const struct http_retry *retry, const struct http_head *head)
{
	uint32_t on = retry->on;
	uint16_t status = head->status;
	if (http_get_id(head, HTTP_X_ENVOY_RATELIMITED).p)
		return on & RETRY_ENVOY_RATELIMITED;
	if ((on & RETRY_5XX) && status >= 500 && status < 600)
		return true;
	if ((on & RETRY_GATEWAY_ERROR) && status >= 502 && status <= 504)
		return true;
	if ((on & RETRY_RETRIABLE_4XX) && status == 409)
		return true;
	for (size_t i = 0; (on & RETRY_STATUS_CODES) && i < retry->status_count; i++)
		if (retry->statuses[i] == status)
			return true;
	return retry_on_grpc(on, grpc_status(head));
}

bool retry_on_reset(const struct http_retry *retry, enum attempt_reset why, bool request_sent)
{
	uint32_t on = retry->on;
	if (why == ATTEMPT_OVERFLOW)
		return false;
	if (on & (RETRY_RESET | RETRY_5XX | RETRY_GATEWAY_ERROR))
		return true;
	if ((on & RETRY_RESET_BEFORE_REQUEST) && !request_sent)
		return true;
	if ((on & RETRY_REFUSED_STREAM) && why == ATTEMPT_REFUSED_STREAM)
		return true;
	return (on & RETRY_CONNECT_FAILURE) && (why == ATTEMPT_CONNECT_FAILURE || why == ATTEMPT_CONNECT_TIMEOUT);
}

/* Full jitter: anything up to 25 ms, 50, 100 ... 250. */
uint32_t retry_backoff_ms(const struct http_retry *retry, uint32_t attempt, uint64_t random)
{
	uint64_t base = retry->backoff_ms ? retry->backoff_ms : BACKOFF_MS;
	uint64_t max = retry->backoff_max_ms ? retry->backoff_max_ms : BACKOFF_MAX_MS;
	uint64_t range = attempt > 16 ? max : base << (attempt - 1);
	if (range > max)
		range = max;
	return (uint32_t)(random % range);
}

static void on_backoff_over(struct deadline *d)
{
	attempt_start(container_of(d, struct exchange_private, alarm));
}

static void avoid_host(struct exchange_private *e, const struct http_retry *retry, const struct addr_port *host)
{
	if (!retry->other_hosts || !host || e->avoid_count >= UPSTREAM_AVOID_MAX)
		return;
	e->avoid[e->avoid_count++] = *host;
}

/* retryRemoteLocalities: other localities are other priorities. */
static void avoid_locality(struct exchange_private *e, const struct http_retry *retry,
			   const struct cluster_endpoint *endpoint)
{
	enum { TRIES_EACH = 2 }; /* Istio's update_frequency */

	if (!retry->remote_localities || !endpoint || endpoint->priority >= 64)
		return;
	e->tried_priorities |= 1ull << endpoint->priority;
	e->tried++;
	if (e->tried % TRIES_EACH == 0)
		e->skip_priorities = e->tried_priorities;
}

bool retry_try(struct exchange_private *e, bool wanted, enum upstream_outcome outcome, uint16_t status)
{
	struct exchange *x = &e->x;
	upstream_retry_end(TAKE(e->retry_leave)); /* that of the attempt which is over */
	if (!wanted || !e->body_kept || e->head_sent || !x->route)
		return false;
	if (!e->retries_left) {
		if (x->route->retry.attempts)
			x->record.flags |= FLAG(URX);
		return false;
	}
	const struct http_retry *retry = &x->route->retry;
	e->retries_left--;
	e->retry_leave = upstream_retry_begin(x->proxy->upstreams, x->pod, e->destination->cluster, e->upstream);
	if (!e->retry_leave) {
		x->record.flags |= FLAG(UO);
		return false;
	}
	worker_metrics(x->w)->http_retries++;
	e->retried = true;
	avoid_host(e, retry, x->record.endpoint ? &x->record.endpoint->addr : NULL);
	avoid_locality(e, retry, x->record.endpoint);
	attempt_end(e, outcome, status);
	attempt_settle(e);
	exchange_state(e, EX_BACKOFF);
	uint32_t ms = retry_backoff_ms(retry, x->record.attempts, proxy_random(x->proxy));
	deadline_set(&x->proxy->deadlines, &e->alarm, ms, on_backoff_over);
	return true;
}

static bool is_idempotent(struct http_string method)
{
	static const char *const methods[] = { "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE" };
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (http_is(method, methods[i]))
			return true;
	return false;
}

bool retry_is_safe(const struct exchange_private *e, bool unseen)
{
	bool whole = e->body_kept || (e->request_ended && !e->x.record.request_bytes);
	return whole && !e->head_sent && e->stale_tries < STALE_TRIES && (unseen || is_idempotent(e->x.head->method));
}

void retry_again(struct exchange_private *e)
{
	e->retried = true;
	attempt_end(e, OUTCOME_CANCELLED, 0);
	attempt_settle(e);
	exchange_state(e, EX_BACKOFF);
	deadline_set(&e->x.proxy->deadlines, &e->alarm, 0, on_backoff_over);
}
