/* SPDX-License-Identifier: Apache-2.0 */
/* The state for people: meshctl proxy-config clusters, endpoints; and the pools. */
#include "agent/helper/balance/internal.h"

#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/helper/worker.h"

static void add_text(struct sb *out, const char *text)
{
	sb_add(out, "\"");
	for (const char *p = text ? text : ""; *p; p++) {
		unsigned char c = (unsigned char)*p;
		if (c == '"' || c == '\\')
			sb_addf(out, "\\%c", c);
		else if (c < 0x20)
			sb_addf(out, "\\u%04x", c);
		else
			sb_add_bytes(out, p, 1);
	}
	sb_add(out, "\"");
}

static const char *const lb_names[] = {
	[CLUSTER_LEAST_REQUEST] = "LEAST_REQUEST", [CLUSTER_ROUND_ROBIN] = "ROUND_ROBIN", [CLUSTER_RANDOM] = "RANDOM",
	[CLUSTER_PASSTHROUGH] = "PASSTHROUGH",	   [CLUSTER_RING_HASH] = "RING_HASH",	  [CLUSTER_MAGLEV] = "MAGLEV",
	[CLUSTER_PEAK_EWMA] = "PEAK_EWMA",
};

static void dump_host(const struct host *h, uint64_t now_ns, struct sb *out)
{
	char addr[ADDR_PORT_TEXT_MAX];
	const char *health = h->b.ejected ? "ejected" : h->b.healthy ? "healthy" : "unhealthy";
	uint64_t until_ns = h->shared ? __atomic_load_n(&h->shared->health.until_ns, __ATOMIC_RELAXED) : 0;
	double left_s = h->b.ejected && until_ns > now_ns ? (double)(until_ns - now_ns) / 1e9 : 0;
	uint32_t ejections = h->shared ? __atomic_load_n(&h->shared->health.ejections, __ATOMIC_RELAXED) : 0;

	sb_addf(out,
		"{\"address\":\"%s\",\"weight\":%u,\"priority\":%u,\"health\":\"%s\",\"ejected_for_s\":%.3f,"
		"\"ejections\":%u,\"active_requests\":%u,\"requests\":%llu,\"errors\":%llu,\"connect_failures\":%llu,"
		"\"ewma_ms\":%.3f,\"locality\":",
		addr_port_text(&h->addr, addr), h->b.weight, h->b.priority, health, left_s, ejections, h->b.active,
		(unsigned long long)h->requests, (unsigned long long)h->errors, (unsigned long long)h->connect_failures,
		h->b.ewma_ns / 1e6);
	add_text(out, h->endpoint->locality);
	sb_add(out, ",\"workload\":");
	add_text(out, h->endpoint->workload);
	sb_add(out, "}");
}

static void dump_entry(struct entry *e, uint64_t now_ns, struct sb *out)
{
	const struct http_cluster *c = e->version ? e->version->cluster : NULL;

	entry_health(e, now_ns);
	sb_add(out, "{\"name\":");
	add_text(out, e->name);
	sb_addf(out, ",\"state\":\"%s\",\"waiting\":%zu",
		c	    ? "known" :
		e->answered ? "absent" :
			      "asked",
		e->wait_count);
	if (c) {
		bool panic = false;
		uint32_t first = e->balance ? balance_load(e->balance, 0, &panic) : 0;
		sb_addf(out,
			",\"id\":\"%016llx\",\"lb\":\"%s\",\"first_priority_percent\":%u,\"panic\":%s,"
			"\"ejections_spared\":%u",
			(unsigned long long)c->id, lb_names[c->lb], first, panic ? "true" : "false",
			e->shared ? __atomic_load_n(&e->shared->set.spared, __ATOMIC_RELAXED) : 0);
	}
	sb_add(out, ",\"callers\":[");
	const struct caller *caller;
	LIST_FOREACH(caller, &e->callers, link)
	{
		sb_add(out, caller == LIST_FIRST(&e->callers) ? "{\"pod\":" : ",{\"pod\":");
		add_text(out, caller->pod->uid);
		sb_addf(out, ",\"connections\":%u,\"pending\":%u,\"requests\":%u,\"retries\":%u}",
			caller->n[LIMIT_CONNECTIONS], caller->n[LIMIT_PENDING], caller->n[LIMIT_REQUESTS],
			caller->n[LIMIT_RETRIES]);
	}
	sb_add(out, "],\"endpoints\":[");
	for (size_t i = 0; i < e->host_count; i++) {
		sb_add(out, i ? "," : "");
		dump_host(e->hosts[i], now_ns, out);
	}
	sb_add(out, "]}");
}

static void dump_conns(const struct conn_list *list, const char *state, uint64_t now_ns, bool *first, struct sb *out)
{
	const struct conn *c;
	TAILQ_FOREACH(c, list, link)
	{
		sb_addf(out, "%s{\"state\":\"%s\",\"requests\":%llu,\"streams\":%zu,\"age_s\":%.1f}", *first ? "" : ",",
			state, (unsigned long long)c->served, c->up_count, (double)(now_ns - c->born_ns) / 1e9);
		*first = false;
	}
}

static void dump_pool(const struct pool *p, uint64_t now_ns, struct sb *out)
{
	char addr[ADDR_PORT_TEXT_MAX];
	bool first = true;

	sb_add(out, "{\"cluster\":");
	add_text(out, p->host->entry->name);
	sb_add(out, ",\"pod\":");
	add_text(out, p->caller->pod->uid);
	sb_addf(out, ",\"endpoint\":\"%s\",\"protocol\":\"%s\",\"pending\":%zu,\"connections\":[",
		addr_port_text(&p->host->addr, addr), p->protocol == HTTP_PROTO_2 ? "h2" : "http/1.1",
		p->pending_count);
	dump_conns(&p->connecting, "connecting", now_ns, &first, out);
	dump_conns(&p->ready, "ready", now_ns, &first, out);
	dump_conns(&p->busy, "busy", now_ns, &first, out);
	dump_conns(&p->draining, "draining", now_ns, &first, out);
	sb_add(out, "]}");
}

void upstreams_dump(struct upstreams *u, const char *what, struct sb *out)
{
	uint64_t now_ns = loop_now_ns(u->loop);

	sb_add(out, "[");
	if (str_eq(what, "clusters")) {
		struct entry *e;
		TAILQ_FOREACH(e, &u->entry_list, link)
		{
			sb_add(out, e == TAILQ_FIRST(&u->entry_list) ? "" : ",");
			dump_entry(e, now_ns, out);
		}
	} else if (str_eq(what, "http-pools")) {
		const struct pool *p;
		TAILQ_FOREACH(p, &u->pools, link)
		{
			sb_add(out, p == TAILQ_FIRST(&u->pools) ? "" : ",");
			dump_pool(p, now_ns, out);
		}
	}
	sb_add(out, "]");
}
