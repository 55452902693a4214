/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/route/side_call.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/buffer.h"
#include "agent/helper/worker.h"

enum { BODY_MAX = 64 << 10 };

struct side_call {
	TAILQ_ENTRY(side_call) link; /* proxy's calls, then its dead ones */
	struct http_proxy *proxy;
	struct worker_pod *pod;
	struct http_head *head, *trailers;
	char *cluster, *host;
	struct leg up;
	struct upstream_wait *wait;
	struct upstream *upstream;
	struct deadline deadline;
	struct buffer out, in;
	bool out_ended; /* all of the body is in `out` or sent */
	bool over;
	struct http_head *response, *response_trailers;
	side_call_fn fn; /* NULL: nobody asks */
	void *arg;
	struct side_call **owner;
	uint64_t began_ns;
};

static void call_over(struct side_call *c, enum upstream_outcome outcome)
{
	if (c->over)
		return;
	c->over = true;
	deadline_clear(&c->proxy->deadlines, &c->deadline);
	upstream_cancel(TAKE(c->wait));
	struct http_stream *s = TAKE(c->up.s);
	if (s)
		stream_reset(s, HTTP_RESET_CANCEL);
	uint16_t status = c->response ? c->response->status : 0;
	struct upstream *up = TAKE(c->upstream);
	if (up)
		upstream_done(c->proxy->upstreams, up, outcome, status, loop_now_ns(c->proxy->loop) - c->began_ns);
	if (c->owner)
		*c->owner = NULL;
	TAILQ_REMOVE(&c->proxy->calls, c, link);
	TAILQ_INSERT_TAIL(&c->proxy->dead_calls, c, link);
	proxy_reap_later(c->proxy);
	if (!c->fn)
		return;
	if (outcome == OUTCOME_RESPONSE)
		c->fn(c->response, c->in.len ? buffer_head(&c->in) : NULL, c->in.len, c->response_trailers, status,
		      c->arg);
	else
		c->fn(NULL, NULL, 0, NULL, 0, c->arg);
}

void side_call_reap(struct http_proxy *p)
{
	struct side_call *c;
	while ((c = TAILQ_FIRST(&p->dead_calls))) {
		TAILQ_REMOVE(&p->dead_calls, c, link);
		http_head_free(c->head);
		http_head_free(c->trailers);
		http_head_free(c->response);
		http_head_free(c->response_trailers);
		buffer_done(&c->out);
		buffer_done(&c->in);
		worker_pod_unref(p->w, c->pod);
		free(c->cluster);
		free(c->host);
		free(c);
	}
}

/* --- the request --- */

static void call_pump(struct side_call *c)
{
	if (!c->up.s || c->up.sent_end)
		return;
	bool last = c->out_ended && !c->trailers;
	while (c->out.len) {
		size_t n = stream_send_body(c->up.s, buffer_head(&c->out), c->out.len, last);
		bool all = n == c->out.len;
		buffer_consume(&c->out, n);
		if (!all)
			return;
		c->up.sent_end = last;
	}
	if (!c->out_ended)
		return;
	if (c->trailers)
		stream_send_trailers(c->up.s, c->trailers);
	else if (!c->up.sent_end)
		stream_send_body(c->up.s, NULL, 0, true);
	c->up.sent_end = true;
	leg_forget(&c->up);
}

/* --- the response --- */

static void on_head(struct http_stream *s, struct http_head *head, bool end)
{
	struct side_call *c = s->user;
	if (c->over || head->status < 200) {
		http_head_free(head);
		return;
	}
	c->response = head;
	if (!end)
		return;
	c->up.got_end = true;
	leg_forget(&c->up);
	call_over(c, OUTCOME_RESPONSE);
}

static size_t on_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	struct side_call *c = s->user;
	size_t room = BODY_MAX - c->in.len;
	if (c->fn && len && room && buffer_append(&c->in, bytes, len < room ? len : room) < 0) {
		call_over(c, OUTCOME_CANCELLED);
		return len;
	}
	if (end) {
		c->up.got_end = true;
		leg_forget(&c->up);
		call_over(c, OUTCOME_RESPONSE);
	}
	return len;
}

static void on_trailers(struct http_stream *s, struct http_head *trailers)
{
	struct side_call *c = s->user;
	c->response_trailers = trailers;
	c->up.got_end = true;
	leg_forget(&c->up);
	call_over(c, OUTCOME_RESPONSE);
}

static void on_room(struct http_stream *s)
{
	call_pump(s->user);
}

static void on_reset(struct http_stream *s, enum http_reset why)
{
	struct side_call *c = s->user;
	(void)why;
	c->up.s = NULL;
	call_over(c, OUTCOME_RESET);
}

static const struct http_stream_events call_events = {
	.on_head = on_head,
	.on_body = on_body,
	.on_trailers = on_trailers,
	.on_room = on_room,
	.on_reset = on_reset,
};

/* --- life --- */

static void on_timeout(struct deadline *d)
{
	call_over(container_of(d, struct side_call, deadline), OUTCOME_TIMEOUT);
}

static void on_failed(struct deadline *d)
{
	call_over(container_of(d, struct side_call, deadline), OUTCOME_CANCELLED);
}

static void on_upstream(struct upstream *up, enum upstream_failure why, const struct cluster_endpoint *endpoint,
			void *arg)
{
	struct side_call *c = arg;
	(void)why;
	(void)endpoint;
	c->wait = NULL;
	if (!up) { /* perhaps from inside the call: told a moment later */
		deadline_set(&c->proxy->deadlines, &c->deadline, 0, on_failed);
		return;
	}
	c->upstream = up;
	c->up = (struct leg){ .s = up->stream };
	c->began_ns = loop_now_ns(c->proxy->loop);
	bool end = c->out_ended && !c->out.len && !c->trailers;
	c->up.sent_end = end;
	if (stream_send_head(up->stream, c->head, end) == 0)
		call_pump(c);
}

static char *host_of(const struct http_head *head)
{
	struct http_string host = authority_host(head->authority);
	return strndup(host.p ? host.p : "", host.n);
}

static void call_start(struct side_call *c)
{
	struct upstream_query q = {
		.pod = c->pod,
		.cluster = c->cluster,
		.host = c->host,
		.head = c->head,
		.downstream_h2 = grpc_is(c->head),
	};
	struct upstream_wait *wait = upstream_get(c->proxy->upstreams, &q, &call_events, c, on_upstream, c);
	if (!c->upstream && !c->over)
		c->wait = wait;
}

static struct side_call *call_new(struct http_proxy *p, struct worker_pod *pod, const char *cluster,
				  struct http_head *head)
{
	struct side_call *c = calloc(1, sizeof(*c));
	if (c) {
		c->cluster = strdup(cluster);
		c->host = host_of(head);
	}
	if (!c || !c->cluster || !c->host) {
		http_head_free(head);
		if (c) {
			free(c->cluster);
			free(c->host);
		}
		free(c);
		return NULL;
	}
	c->proxy = p;
	c->pod = worker_pod_ref(pod);
	c->head = head;
	TAILQ_INSERT_TAIL(&p->calls, c, link);
	return c;
}

struct side_call *side_call_new(struct worker *w, struct worker_pod *pod, const char *cluster, struct http_head *head,
				const void *body, size_t len, uint32_t timeout_ms, side_call_fn fn, void *arg)
{
	struct http_proxy *p = worker_http(w);
	struct side_call *c = call_new(p, pod, cluster, head);
	if (!c)
		return NULL;
	c->fn = fn;
	c->arg = arg;
	c->out_ended = true;
	head->content_length = head->content_length < 0 && !len ? -1 : (int64_t)len;
	deadline_set(&p->deadlines, &c->deadline, timeout_ms, on_timeout);
	if (len && buffer_append(&c->out, body, len) < 0)
		deadline_set(&p->deadlines, &c->deadline, 0, on_failed);
	else
		call_start(c);
	return c;
}

void side_call_cancel(struct side_call *c)
{
	if (!c)
		return;
	c->fn = NULL;
	call_over(c, OUTCOME_CANCELLED);
}

struct side_call *side_call_stream(struct http_proxy *p, struct worker_pod *pod, const char *cluster,
				   struct http_head *head, uint32_t timeout_ms, struct side_call **owner)
{
	struct side_call *c = call_new(p, pod, cluster, head);
	if (!c)
		return NULL;
	c->owner = owner;
	deadline_set(&p->deadlines, &c->deadline, timeout_ms, on_timeout);
	call_start(c);
	return c;
}

void side_call_feed(struct side_call *c, const uint8_t *bytes, size_t len)
{
	size_t n = c->up.s && !c->out.len ? stream_send_body(c->up.s, bytes, len, false) : 0;
	if (n == len)
		return;
	if (c->out.len + (len - n) > BODY_MAX || buffer_append(&c->out, bytes + n, len - n) < 0)
		call_over(c, OUTCOME_CANCELLED);
}

void side_call_end(struct side_call *c, const struct http_head *trailers, uint32_t timeout_ms)
{
	c->owner = NULL;
	c->out_ended = true;
	if (trailers)
		c->trailers = http_head_copy(trailers);
	deadline_set(&c->proxy->deadlines, &c->deadline, timeout_ms, on_timeout);
	call_pump(c);
}

void side_calls_end(struct http_proxy *p, const struct worker_pod *pod)
{
	struct side_call *c, *next;
	for (c = TAILQ_FIRST(&p->calls); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!pod || c->pod == pod)
			call_over(c, OUTCOME_CANCELLED);
	}
}
