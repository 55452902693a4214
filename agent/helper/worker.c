/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/worker_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/helper/dns.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/route/exchange.h"
#include "agent/helper/route/tcp.h"
#include "agent/helper/tls_credentials.h"
#include "agent/helper/transport.h"
#include "agent/helper/worker_accept.h"
#include "agent/link/request_metrics.h"

enum {
	WORKER_STACK_BYTES = 256 << 10,
	WORKER_ORDERS_MAX = 262144, /* a change of everything: all endpoints, targets and clusters, several times */
	DRAIN_ACCEPT_MS = 2000,	    /* handshakes that were under way when the new listeners took over still arrive */
	DRAIN_REPORT_MS = 200,
};

struct loop *worker_loop(struct worker *w)
{
	return w->loop;
}

const struct helper_settings *worker_settings(const struct worker *w)
{
	return w->settings;
}

struct link_shard *worker_metrics(struct worker *w)
{
	return w->shard;
}

struct transports *worker_transports(struct worker *w)
{
	return w->transports;
}

struct hbone *worker_hbone(struct worker *w)
{
	return w->hbone;
}

struct observe *worker_observe(struct worker *w)
{
	return w->observe;
}

struct http_proxy *worker_http(struct worker *w)
{
	return w->http;
}

struct tcp_proxy *worker_tcp(struct worker *w)
{
	return w->tcp;
}

struct request_writer *worker_requests(struct worker *w)
{
	return w->requests;
}

bool worker_report(struct worker *w, const struct report *report)
{
	struct report *copy = malloc(sizeof(*copy));
	if (copy) {
		*copy = *report;
		copy->worker = w->index;
		if (mailbox_post(w->reports, copy) == 0)
			return true;
	} else {
		free(report->text);
		free(report->rule);
		return false;
	}
	report_free(copy);
	return false;
}

static void count_drop(struct link_shard *shard, enum drop_reason reason)
{
	uint64_t *at = &shard->drops[reason];
	__atomic_store_n(at, __atomic_load_n(at, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

void worker_drop(struct worker *w, const struct worker_drop *drop)
{
	count_drop(w->shard, drop->reason);
	if (w->away || !rate_take(&w->drop_rate, loop_now_ns(w->loop), 1))
		return;
	struct report report = {
		.kind = REPORT_DROPPED,
		.cookie = drop->pod ? drop->pod->cookie : 0,
		.reason = drop->reason,
		.inbound = drop->inbound,
		.source = drop->source,
		.destination = drop->destination,
		.text = drop->peer ? strdup(drop->peer) : NULL,
		.rule = drop->rule ? strdup(drop->rule) : NULL,
	};
	worker_report(w, &report);
}

/* --- draining --- */

static uint32_t worker_live(const struct worker *w)
{
	size_t above = http_proxy_live(w->http) + tcp_proxy_live(w->tcp) + acceptor_live(w->acceptor);
	return (uint32_t)(hbone_live(w->hbone) + above + dns_live(w->dns));
}

static void on_drain_report(struct loop_timer *timer, void *arg)
{
	struct worker *w = arg;
	(void)timer;
	struct report live = { .kind = REPORT_LIVE, .count = worker_live(w) };
	worker_report(w, &live);
}

static void on_drain_closed(struct loop_timer *timer, void *arg)
{
	struct worker *w = arg;
	worker_listeners_close(w);
	hbone_drain(w->hbone);
	acceptor_drain(w->acceptor);
	http_proxy_drain(w->http);
	loop_timer_free(timer);
	w->drain_timer = NULL;
	if (loop_timer_new(w->loop, on_drain_report, w, &w->drain_timer) == 0)
		loop_timer_start(w->drain_timer, 0, DRAIN_REPORT_MS);
}

static void worker_drain(struct worker *w)
{
	if (w->draining)
		return;
	w->draining = true;
	if (loop_timer_new(w->loop, on_drain_closed, w, &w->drain_timer) == 0)
		loop_timer_start(w->drain_timer, DRAIN_ACCEPT_MS, 0);
}

/* --- orders --- */

static void worker_dump_text(struct worker *w, const char *what, struct sb *out)
{
	if (str_eq(what, "http-connections")) {
		http_proxy_dump(w->http, what, out);
		return;
	}
	if (str_eq(what, "clusters") || str_eq(what, "http-pools")) {
		struct upstreams *u = http_proxy_upstreams(w->http);
		if (u)
			upstreams_dump(u, what, out);
		else
			sb_add(out, "[]");
		return;
	}
	hbone_dump(w->hbone, what, out);
	if (!str_eq(what, "connections") || !tcp_proxy_live(w->tcp) || !out->len)
		return;
	/* One array of both. */
	out->len--;
	if (out->len > 1)
		sb_add(out, ",");
	tcp_proxy_dump(w->tcp, out);
	sb_add(out, "]");
}

static void worker_dump(struct worker *w, uint32_t id, const char *what)
{
	struct sb text = { 0 };
	worker_dump_text(w, what, &text);
	struct report dump = { .kind = REPORT_DUMP, .id = id, .text = sb_take(&text) };
	worker_report(w, &dump);
}

static void worker_go_alone(struct worker *w)
{
	w->away = w->alone = true;
	worker_waits_rearm(w);
	worker_sockets_alone(w);
	dns_alone(w->dns);
}

static void worker_go_away(struct worker *w)
{
	w->away = true;
	worker_waits_rearm(w);
	worker_taps_free(w); /* who watched has gone with the agent */
}

static void worker_come_back(struct worker *w)
{
	w->away = w->alone = false;
	w->back_ns = loop_now_ns(w->loop);
	worker_waits_rearm(w);
	worker_sockets_back(w);
	dns_back(w->dns);
}

static void worker_credentials(struct worker *w, struct tls_credentials *credentials)
{
	AUTO(mem_freep) char *uri = strdup(tls_credentials_uri(credentials));
	hbone_credentials(w->hbone, credentials);
	if (uri)
		worker_pods_credentialed(w, uri);
}

void worker_handle(struct worker *w, struct order *order)
{
	switch (order->kind) {
	case ORDER_POD:
		worker_pod_set(w, TAKE(order->spec), order->fds, order->fd_count);
		break;
	case ORDER_POD_LEAVE:
		worker_pod_leave_mesh(w, order->cookie);
		break;
	case ORDER_POD_REMOVE:
		worker_pod_remove(w, order->cookie);
		break;
	case ORDER_SOCKETS:
		worker_sockets_arrived(w, order->cookie, order->socket, order->fds, order->fd_count);
		break;
	case ORDER_ENDPOINT:
		worker_endpoint_arrived(w, TAKE(order->endpoint));
		break;
	case ORDER_TARGET:
		worker_target_arrived(w, TAKE(order->target));
		break;
	case ORDER_CLUSTER:
		worker_cluster_arrived(w, TAKE(order->cluster));
		break;
	case ORDER_CREDENTIALS:
		worker_credentials(w, TAKE(order->credentials));
		break;
	case ORDER_TRUST:
		hbone_trust(w->hbone, TAKE(order->trust));
		break;
	case ORDER_DNS:
		dns_answered(w->dns, order->cookie, order->answer);
		break;
	case ORDER_DNS_FLUSH:
		dns_flush(w->dns);
		break;
	case ORDER_AWAY:
		worker_go_away(w);
		break;
	case ORDER_BACK:
		worker_come_back(w);
		break;
	case ORDER_ALONE:
		worker_go_alone(w);
		break;
	case ORDER_DRAIN:
		worker_drain(w);
		break;
	case ORDER_DUMP:
		worker_dump(w, order->id, order->text);
		break;
	case ORDER_CARRIED:
		worker_carried(w, order->carried);
		break;
	case ORDER_TAP:
		worker_tap_set(w, order->id, TAKE(order->text), order->count);
		break;
	case ORDER_STOP:
		loop_stop(w->loop);
		break;
	}
	order_free(order);
}

static void on_order(void *message, void *arg)
{
	worker_handle(arg, message);
}

void worker_order(struct worker *w, struct order *order)
{
	/* A worker that leaves so many orders is stuck, and one that misses an order enforces the wrong policy. */
	if (!order || mailbox_post(w->orders, order) < 0)
		abort();
}

/* --- life --- */

int worker_new(unsigned int index, unsigned int count, const struct helper_settings *settings, struct link_shard *shard,
	       struct mailbox *reports, struct worker **out, struct err *err)
{
	struct worker *w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(err, -ENOMEM, "worker %u: out of memory", index);
	w->index = index;
	w->count = count;
	w->settings = settings;
	w->shard = shard;
	w->reports = reports;
	w->drop_rate = RATE(100, 200);
	int rc = loop_new(&w->loop, err);
	if (rc < 0) {
		free(w);
		return rc;
	}
	loop_pace(w->loop);
	w->pods = table_new(NULL);
	w->endpoints = table_new(NULL);
	TAILQ_INIT(&w->endpoints_by_use);
	w->credentialed = table_new(NULL);
	rc = w->pods && w->endpoints && w->credentialed ? 0 : -ENOMEM;
	if (rc == 0)
		rc = mailbox_new(w->loop, WORKER_ORDERS_MAX, on_order, w, &w->orders);
	if (rc == 0)
		rc = worker_waits_init(w);
	if (rc == 0)
		rc = worker_endpoints_init(w);
	if (rc == 0)
		rc = worker_targets_init(w);
	if (rc == 0)
		rc = worker_clusters_init(w);
	if (rc == 0)
		rc = worker_listeners_init(w);
	if (rc == 0)
		rc = dns_new(w, &w->dns);
	if (rc == 0)
		rc = transports_new(w, &w->transports);
	if (rc == 0)
		rc = hbone_new(w, &w->hbone);
	if (rc == 0)
		rc = observe_new(w, &w->observe);
	if (rc == 0)
		rc = http_proxy_new(w, &w->http);
	if (rc == 0)
		rc = tcp_proxy_new(w, &w->tcp);
	if (rc == 0)
		rc = acceptor_new(w, &w->acceptor);
	if (rc < 0) {
		worker_free(w);
		return err_sys(err, rc, "worker %u: prepare", index);
	}
	*out = w;
	return 0;
}

static void order_left(void *message)
{
	order_free(message);
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	if (w->pods)
		worker_pods_free(w);
	acceptor_free(w->acceptor);
	tcp_proxy_free(w->tcp);
	http_proxy_free(w->http);
	observe_free(w->observe);
	hbone_free(w->hbone);
	transports_free(w->transports);
	dns_free(w->dns);
	worker_endpoints_free(w);
	worker_targets_free(w);
	worker_clusters_free(w);
	mailbox_free(w->orders, order_left);
	loop_timer_free(w->endpoint_timer);
	loop_timer_free(w->wait_timer);
	loop_timer_free(w->accept_timer);
	loop_timer_free(w->arm_timer);
	loop_timer_free(w->drain_timer);
	loop_free(w->loop);
	table_free(w->pods);
	table_free(w->endpoints);
	table_free(w->credentialed);
	request_writer_free(w->requests);
	worker_taps_free(w);
	free(w);
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	loop_run(w->loop);
	return NULL;
}

int worker_start(struct worker *w, struct err *err)
{
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	/* Touched pages count, not the size; what runs here (TLS handshakes, HTTP/2) needs far less. */
	pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
	/* Signals are the link thread's. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&w->thread, &attributes, worker_run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	w->thread_started = rc == 0;
	return rc ? err_sys(err, -rc, "worker %u: start its thread", w->index) : 0;
}

void worker_join(struct worker *w)
{
	if (w->thread_started)
		pthread_join(w->thread, NULL);
	worker_free(w);
}
