/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/telemetry/exporters.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/transfer.h"
#include "agent/link/span.h"
#include "agent/telemetry/log_otlp.h"
#include "agent/telemetry/span_otlp.h"
#include "agent/telemetry/span_zipkin.h"

/* A queue is sent as one body: less than the 4 MiB that collectors take by default. */
enum {
	QUEUE_BYTES_MAX = 2 << 20,
	BATCH_BYTES = 256 << 10,
	FLUSH_MS = 1000,
	TIMEOUT_MS = 5000,
	RESPONSE_MAX = 64 << 10
};

struct provider {
	struct trace_provider about;
	struct exporters *e;
	struct sb queue; /* encoded spans */
	uint32_t queued;
	struct transfer *transfer; /* NULL: none is under way */
	uint32_t in_flight;
	bool failing; /* said so in the log */
};

struct exporters {
	struct exporters_options options;
	char *node;
	struct transfers *transfers;
	struct loop_timer *timer;
	bool timer_runs;
	struct provider **v;
	size_t count;
	struct exporters_stats stats;
};

static void count(const struct provider *p, bool taken, uint32_t n)
{
	struct exporters_stats *s = &p->e->stats;
	if (p->about.kind == TRACE_OTLP_LOGS)
		*(taken ? &s->lines_exported : &s->lines_dropped) += n;
	else
		*(taken ? &s->exported : &s->dropped) += n;
}

static const char *things_of(const struct provider *p)
{
	return p->about.kind == TRACE_OTLP_LOGS ? "lines of access logs" : "spans";
}

static bool is_grpc(const struct provider *p)
{
	return p->about.kind == TRACE_OTLP_GRPC || p->about.kind == TRACE_OTLP_LOGS;
}

static void provider_free(struct provider *p)
{
	if (!p)
		return;
	count(p, false, p->queued + p->in_flight);
	transfer_cancel(p->transfer);
	sb_done(&p->queue);
	trace_provider_done(&p->about);
	free(p);
}

static void queue_clear(struct provider *p)
{
	sb_done(&p->queue);
	p->queue = (struct sb){ 0 };
	p->queued = 0;
}

static void provider_send(struct provider *p);

static void timer_start(struct exporters *e)
{
	if (e->timer_runs)
		return;
	e->timer_runs = true;
	loop_timer_start(e->timer, FLUSH_MS, 0);
}

static void failed(struct provider *p, const char *why)
{
	p->e->stats.failures++;
	count(p, false, p->in_flight);
	if (!p->failing)
		log_warn("collector %s (%s:%u): %s; %s are dropped until it answers", p->about.name, p->about.host,
			 p->about.port, why, things_of(p));
	p->failing = true;
}

static void on_answer(const struct transfer_result *r, void *arg)
{
	struct provider *p = arg;
	char why[128];
	p->transfer = NULL;
	if (r->error) {
		failed(p, r->error);
	} else if (is_grpc(p) ? r->grpc_status != 0 : r->status < 200 || r->status > 299) {
		snprintf(why, sizeof(why), "it answered with status %ld, grpc-status %d", r->status, r->grpc_status);
		failed(p, why);
	} else {
		count(p, true, p->in_flight);
		if (p->failing)
			log_info("collector %s takes %s again", p->about.name, things_of(p));
		p->failing = false;
	}
	p->in_flight = 0;
	if (p->queue.len >= BATCH_BYTES && !p->failing)
		provider_send(p);
	else if (p->queued)
		timer_start(p->e);
}

/* gRPC's frame: no compression, length, message. */
static int body_make(struct provider *p, struct sb *body)
{
	size_t len = p->queue.len;
	if (p->about.kind == TRACE_ZIPKIN)
		sb_add(body, "[");
	if (is_grpc(p)) {
		const char frame[5] = { 0, (char)(len >> 24), (char)(len >> 16), (char)(len >> 8), (char)len };
		sb_add_bytes(body, frame, sizeof(frame));
	}
	sb_add_bytes(body, p->queue.p, len);
	if (p->about.kind == TRACE_ZIPKIN)
		sb_add(body, "]");
	return body->failed ? -ENOMEM : 0;
}

static void provider_send(struct provider *p)
{
	static const char *const grpc[] = { "Content-Type: application/grpc", "TE: trailers", "User-Agent: weft",
					    NULL };
	static const char *const protobuf[] = { "Content-Type: application/x-protobuf", "User-Agent: weft", NULL };
	static const char *const json[] = { "Content-Type: application/json", "User-Agent: weft", NULL };
	char at[300], url[640];
	struct sb body = { 0 };

	p->in_flight = p->queued;
	if (!p->e->options.locate(&p->about, at, sizeof(at), p->e->options.arg)) {
		failed(p, "no Service or ServiceEntry with a usable endpoint has this host and port");
		p->in_flight = 0;
		queue_clear(p);
		return;
	}
	bool calls = is_grpc(p);
	snprintf(url, sizeof(url), "http://%s%s", at,
		 p->about.kind == TRACE_OTLP_LOGS ? "/opentelemetry.proto.collector.logs.v1.LogsService/Export" :
		 calls				  ? "/opentelemetry.proto.collector.trace.v1.TraceService/Export" :
						    p->about.path);
	const struct transfer_request request = {
		.url = url,
		.headers = calls			    ? grpc :
			   p->about.kind == TRACE_OTLP_HTTP ? protobuf :
							      json,
		.timeout_ms = TIMEOUT_MS,
		.response_max = RESPONSE_MAX,
		.http2 = calls,
	};
	struct transfer_request filled = request;
	int rc = body_make(p, &body);
	filled.body = body.p;
	filled.body_len = body.len;
	if (rc == 0)
		rc = transfer_start(p->e->transfers, &filled, on_answer, p, &p->transfer);
	if (rc < 0) {
		failed(p, rc == -EBUSY ? "too many requests are under way" : "out of memory");
		p->in_flight = 0;
	}
	sb_done(&body);
	queue_clear(p);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct exporters *e = arg;
	(void)timer;
	e->timer_runs = false;
	for (size_t i = 0; i < e->count; i++)
		if (e->v[i]->queued && !e->v[i]->transfer)
			provider_send(e->v[i]);
}

int exporters_new(const struct exporters_options *options, struct exporters **out, struct err *err)
{
	struct exporters *e = calloc(1, sizeof(*e));
	if (!e)
		return err_set(err, -ENOMEM, "traces: out of memory");
	e->options = *options;
	e->node = strdup(options->node);
	int rc = transfers_new(options->loop, &e->transfers, err);
	if (rc == 0 && (!e->node || loop_timer_new(options->loop, on_timer, e, &e->timer) < 0))
		rc = err_set(err, -ENOMEM, "traces: out of memory");
	if (rc < 0) {
		exporters_free(e);
		return rc;
	}
	*out = e;
	return 0;
}

void exporters_free(struct exporters *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < e->count; i++)
		provider_free(e->v[i]);
	free(e->v);
	transfers_free(e->transfers);
	loop_timer_free(e->timer);
	free(e->node);
	free(e);
}

static struct provider *provider_find(const struct exporters *e, const char *name)
{
	for (size_t i = 0; i < e->count; i++)
		if (e->v[i] && str_eq(e->v[i]->about.name, name))
			return e->v[i];
	return NULL;
}

static bool same(const struct trace_provider *a, const struct trace_provider *b)
{
	return a->kind == b->kind && a->port == b->port && str_eq(a->host, b->host) && str_eq(a->path, b->path);
}

static struct provider *provider_take(struct exporters *e, const struct trace_provider *about)
{
	struct provider *p = provider_find(e, about->name);
	if (p && same(&p->about, about)) {
		for (size_t i = 0; i < e->count; i++)
			if (e->v[i] == p)
				e->v[i] = NULL;
		return p;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->e = e;
	if (trace_provider_copy(&p->about, about) < 0) {
		free(p);
		return NULL;
	}
	return p;
}

int exporters_set(struct exporters *e, const struct trace_provider *providers, size_t count)
{
	struct provider **v = calloc(count + 1, sizeof(struct provider *));
	size_t n = 0;
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct provider *p = provider_take(e, &providers[i]);
		if (p)
			v[n++] = p;
	}
	for (size_t i = 0; i < e->count; i++)
		provider_free(e->v[i]);
	free(e->v);
	e->v = v;
	e->count = n;
	return n == count ? 0 : -ENOMEM;
}

/* One more is in the queue, or (rc < 0) was to be. */
static void queued(struct provider *p, int rc)
{
	if (rc < 0 || p->queue.failed) {
		count(p, false, p->queued + 1);
		queue_clear(p);
		return;
	}
	p->queued++;
	if (p->queue.len >= BATCH_BYTES && !p->transfer)
		provider_send(p);
	else
		timer_start(p->e);
}

static void on_span(const struct span *s, void *arg)
{
	struct exporters *e = arg;
	struct provider *p = provider_find(e, s->provider);

	if (!p || p->about.kind == TRACE_OTLP_LOGS || p->queue.len >= QUEUE_BYTES_MAX) {
		e->stats.dropped++;
	} else if (p->about.kind == TRACE_ZIPKIN) {
		sb_add(&p->queue, p->queued ? "," : "");
		span_zipkin_add(&p->queue, s);
		queued(p, 0);
	} else {
		queued(p, span_otlp_add(&p->queue, s, e->node));
	}
}

void exporters_add_line(struct exporters *e, const char *provider, const char *line, size_t len)
{
	struct provider *p = provider_find(e, provider);
	int rc = p && p->about.kind == TRACE_OTLP_LOGS && p->queue.len < QUEUE_BYTES_MAX ?
			 log_otlp_add(&p->queue, line, len, e->node) :
			 -EINVAL;
	if (rc == -EINVAL)
		e->stats.lines_dropped++;
	else
		queued(p, rc);
}

void exporters_add(struct exporters *e, const uint8_t *batch, size_t len)
{
	span_batch_read(batch, len, on_span, e);
}

void exporters_stats(const struct exporters *e, struct exporters_stats *out)
{
	*out = e->stats;
}
