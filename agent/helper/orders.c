/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/orders.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/helper/tls_credentials.h"
#include "agent/model/cluster.h"
#include "agent/model/filters.h"
#include "agent/model/identity.h"
#include "agent/model/l7.h"
#include "agent/model/policy.h"
#include "agent/model/telemetry.h"
#include "agent/model/workload.h"

static bool last_ref(unsigned int *refs)
{
	return __atomic_sub_fetch(refs, 1, __ATOMIC_ACQ_REL) == 0;
}

struct pod_spec *pod_spec_ref(struct pod_spec *spec)
{
	__atomic_add_fetch(&spec->refs, 1, __ATOMIC_RELAXED);
	return spec;
}

void pod_spec_unref(struct pod_spec *spec)
{
	if (!spec || !last_ref(&spec->refs))
		return;
	free(spec->uid);
	free(spec->ns);
	free(spec->name);
	free(spec->owner);
	free(spec->canonical_name);
	free(spec->canonical_revision);
	identity_unref(spec->identity);
	policy_unref(spec->policy);
	free(spec->addrs);
	http_filters_unref(spec->inbound);
	http_filters_unref(spec->outbound);
	telemetry_unref(spec->telemetry);
	for (size_t i = 0; i < spec->label_count; i++) {
		free(spec->labels[i].key);
		free(spec->labels[i].value);
	}
	free(spec->labels);
	free(spec->l7_ports);
	free(spec);
}

struct endpoint_shared *endpoint_shared_ref(struct endpoint_shared *e)
{
	__atomic_add_fetch(&e->refs, 1, __ATOMIC_RELAXED);
	return e;
}

void endpoint_shared_unref(struct endpoint_shared *e)
{
	if (!e || !last_ref(&e->refs))
		return;
	for (size_t i = 0; i < e->info.identity_count; i++)
		free(e->info.identities[i]);
	free(e->info.identities);
	free(e->info.workload);
	free(e->info.service);
	free(e);
}

struct target_news *target_news_new(uint64_t cookie, const struct addr_port *original, const char *host)
{
	size_t len = strlen(host) + 1;
	struct target_news *news = calloc(1, sizeof(*news) + len);
	if (!news)
		return NULL;
	news->cookie = cookie;
	news->original = *original;
	memcpy(news->host, host, len);
	return news;
}

void target_news_free(struct target_news *news)
{
	if (!news)
		return;
	l7_target_unref(news->target);
	free(news);
}

struct cluster_news *cluster_news_new(const char *name)
{
	size_t len = strlen(name) + 1;
	struct cluster_news *news = calloc(1, sizeof(*news) + len);
	if (news)
		memcpy(news->name, name, len);
	return news;
}

void cluster_news_free(struct cluster_news *news)
{
	if (!news)
		return;
	http_cluster_unref(news->cluster);
	free(news);
}

void dns_answer_free(struct dns_answer *a)
{
	if (!a)
		return;
	free(a->name);
	free(a->addrs);
	free(a);
}

struct order *order_new(enum order_kind kind, size_t fd_count)
{
	struct order *order = calloc(1, sizeof(*order) + fd_count * sizeof(int));
	if (!order)
		return NULL;
	order->kind = kind;
	order->fd_count = fd_count;
	for (size_t i = 0; i < fd_count; i++)
		order->fds[i] = -1;
	return order;
}

void carried_free(struct carried *c)
{
	if (!c)
		return;
	identity_unref(c->peer);
	free(c->cluster);
	free(c->rule);
	free(c);
}

void order_free(struct order *order)
{
	if (!order)
		return;
	for (size_t i = 0; i < order->fd_count; i++)
		fd_closep(&order->fds[i]);
	switch (order->kind) {
	case ORDER_POD:
		pod_spec_unref(order->spec);
		break;
	case ORDER_ENDPOINT:
		endpoint_shared_unref(order->endpoint);
		break;
	case ORDER_TARGET:
		target_news_free(order->target);
		break;
	case ORDER_CLUSTER:
		cluster_news_free(order->cluster);
		break;
	case ORDER_CREDENTIALS:
		tls_credentials_unref(order->credentials);
		break;
	case ORDER_TRUST:
		tls_trust_unref(order->trust);
		break;
	case ORDER_DNS:
		dns_answer_free(order->answer);
		break;
	case ORDER_CARRIED:
		carried_free(order->carried);
		break;
	case ORDER_DUMP:
	case ORDER_TAP:
		free(order->text);
		break;
	case ORDER_POD_LEAVE:
	case ORDER_POD_REMOVE:
	case ORDER_SOCKETS:
	case ORDER_DNS_FLUSH:
	case ORDER_AWAY:
	case ORDER_ALONE:
	case ORDER_BACK:
	case ORDER_DRAIN:
	case ORDER_STOP:
		break;
	}
	free(order);
}

void report_free(struct report *report)
{
	if (!report)
		return;
	free(report->text);
	free(report->rule);
	free(report);
}
