/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's answers about calls above L4, and what it wants to know of requests. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/helper/helper_internal.h"
#include "agent/helper/observe/log_writer.h"
#include "agent/model/cel.h"
#include "agent/model/identity.h"

void control_on_target(struct helper *h, const Weft__Link__TargetAnswer *m)
{
	struct addr_port original;
	struct l7_target *target = NULL;
	if (message_addr_port_get(m->original, &original) < 0) {
		control_fail(h, "a target of no address");
		return;
	}
	int rc = m->target ? target_hub_decode(h->targets, m, &target) : 0;
	/* One that is of no use must not cost all the others: calls to it fail. */
	if (rc == -EINVAL)
		log_error("the agent sent routes for %s that make no sense: calls to it fail",
			  m->target && m->target->service ? m->target->service : "an address");
	else if (rc < 0)
		return; /* the question times out */
	enum news what = target ? NEWS_OBJECT : m->own ? NEWS_OWN : NEWS_NONE;
	target_hub_target(h->targets, m->cookie, &original, m->host, what, target);
}

void control_on_vhost(struct helper *h, const Weft__Link__Vhost *m)
{
	struct http_vhost *vhost = NULL;
	int rc = m->id && m->vhost ? message_vhost_decode(m->vhost, &vhost) : -EINVAL;
	if (rc == 0)
		target_hub_vhost(h->targets, m->id, vhost);
	else
		log_error("the agent sent routes (%s) that %s: calls that need them fail",
			  m->vhost && m->vhost->name ? m->vhost->name : "without a name",
			  rc == -EINVAL ? "make no sense" : "memory does not suffice for");
}

void control_on_cluster(struct helper *h, const Weft__Link__ClusterAnswer *m)
{
	struct http_cluster *cluster = NULL;
	int rc = m->cluster ? message_cluster_decode(m->cluster, &cluster) : 0;
	if (rc == -EINVAL)
		log_error("the agent sent a cluster %s that makes no sense: calls to it fail", m->name);
	if (rc != -ENOMEM)
		target_hub_cluster(h->targets, m->name, cluster ? NEWS_OBJECT : NEWS_NONE, cluster);
}

void control_on_log_sink(struct helper *h, const Weft__Link__LogSink *m, int *fds, size_t fd_count)
{
	int fd = -1;
	if (fd_count > 0) {
		fd = fds[0];
		fds[0] = -1;
	}
	if (log_writer_sink(h->settings.log_writer, m->path, fd) < 0)
		log_error("access log %s: no room for one more file; its lines are dropped", m->path);
}

static struct carried *carried_decode(const Weft__Link__Carried *m)
{
	struct carried *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->cookie = m->cookie;
	c->server = m->server;
	c->start_ns = m->start_ns;
	c->duration_ns = m->duration_ns;
	c->received_bytes = m->received_bytes;
	c->sent_bytes = m->sent_bytes;
	c->reason = m->reason < DROP_REASON_COUNT ? (enum drop_reason)m->reason : DROP_INTERNAL;
	c->cluster = *m->cluster ? strdup(m->cluster) : NULL;
	c->rule = *m->rule ? strdup(m->rule) : NULL;
	bool ok = message_addr_port_get(m->source, &c->source) == 0 &&
		  message_addr_port_get(m->destination, &c->destination) == 0 &&
		  (!m->upstream || message_addr_port_get(m->upstream, &c->upstream) == 0) &&
		  (!*m->peer || identity_parse(m->peer, &c->peer, NULL) == 0);
	if (ok)
		return c;
	carried_free(c);
	return NULL;
}

/* Any worker writes its line: one of them, by pod. */
void control_on_carried(struct helper *h, const Weft__Link__Carried *m)
{
	struct carried *c = carried_decode(m);
	struct order *order = c ? order_new(ORDER_CARRIED, 0) : NULL;
	if (!order) {
		carried_free(c);
		return;
	}
	order->carried = c;
	worker_order(h->workers[m->cookie % h->worker_count], order);
}

static struct order *tap_order(void *arg)
{
	const struct order *like = arg;
	struct order *order = order_new(ORDER_TAP, 0);
	if (!order)
		return NULL;
	order->id = like->id;
	order->count = like->count;
	order->text = strdup(like->text);
	if (order->text)
		return order;
	order_free(order);
	return NULL;
}

/* An expression that can't be read is never true: who asks is told, rather than left waiting. */
static bool tap_refused(struct helper *h, uint32_t id, const char *filter)
{
	Weft__Link__TapRecord m = WEFT__LINK__TAP_RECORD__INIT;
	struct err err = ERR_INIT;
	char json[ERR_TEXT_MAX + 32];

	if (!*filter || cel_check(filter, true, &err) == 0)
		return false;
	snprintf(json, sizeof(json), "{\"error\":\"the filter: %s\"}", err.text);
	m.id = id;
	m.json = json;
	helper_send(h, WEFT__LINK__TO_AGENT__MSG_TAP_RECORD, &m);
	return true;
}

void control_on_tap(struct helper *h, uint32_t id, const char *filter, uint32_t per_second)
{
	if (per_second && tap_refused(h, id, filter))
		return;
	/* Each worker has its part of the rate. */
	uint32_t each = per_second / h->worker_count + (per_second % h->worker_count != 0);
	struct order like = { .id = id, .count = each, .text = (char *)(uintptr_t)filter };
	helper_order_all(h, tap_order, &like);
}
