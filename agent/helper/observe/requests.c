/* SPDX-License-Identifier: Apache-2.0 */
/* A request's labels are some five hundred bytes of text, and hardly ever new: a small cache from what they are made of
 * (pointers and numbers) to the series spares making them. It is only by-passed when a Telemetry resource adds tags
 * from the request. */
#include "agent/helper/observe/requests.h"

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/observe/expression.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/worker.h"
#include "agent/link/request_labels.h"
#include "agent/link/request_metrics.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"
#include "agent/model/telemetry.h"
#include "agent/model/workload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_SIZE = 256 /* a power of two */, REMOVABLE_MAX = 64 };

#define HTTP_METRICS                                                                                                   \
	(1u << METRIC_REQUEST_COUNT | 1u << METRIC_REQUEST_DURATION | 1u << METRIC_REQUEST_SIZE |                      \
	 1u << METRIC_RESPONSE_SIZE)
#define GRPC_METRICS (1u << METRIC_GRPC_REQUEST_MESSAGES | 1u << METRIC_GRPC_RESPONSE_MESSAGES)

/* connection_security_policy, as the agent's istio_tcp_* have it. Without TLS the kernel vouches for the other end. */
enum security { SECURITY_NONE, SECURITY_ATTESTED, SECURITY_MUTUAL_TLS };
static const char *const security_names[] = { "none", "attested", "mutual_tls" };

static enum security security_of(const struct request_record *r)
{
	bool tls = r->reporter == REPORTER_SERVER ? r->downstream_tls : r->upstream_tls;
	return !r->mutual ? SECURITY_NONE : tls ? SECURITY_MUTUAL_TLS : SECURITY_ATTESTED;
}

/* What the labels are made of. Padding is zero: it is compared as bytes. A pod is known by what it is described as, since
 * that may change; clusters' ids are hashes of all that is said of them and their endpoints. */
struct origin {
	uint64_t pod, cluster, telemetry, endpoint_hash, peer_hash;
	uint32_t flags, metrics;
	int32_t grpc_status;
	uint16_t status;
	uint8_t reporter, grpc, security, pad[3];
	uint32_t pad2;
};
_Static_assert(sizeof(struct origin) == 64, "no padding");

struct cached {
	struct origin origin;
	struct request_place place;
	bool used;
};

struct request_counts {
	struct request_writer *writer;
	struct cached cache[CACHE_SIZE];
};

int request_counts_new(struct request_writer *writer, struct request_counts **out)
{
	struct request_counts *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->writer = writer;
	*out = c;
	return 0;
}

void request_counts_free(struct request_counts *c)
{
	free(c);
}

/* --- labels */

static const char *label_of(const struct worker_pod *pod, const char *key)
{
	for (size_t i = 0; i < pod->label_count; i++)
		if (str_eq(pod->labels[i].key, key))
			return pod->labels[i].value;
	return NULL;
}

static const char *const label_names[REQUEST_LABEL_COUNT] = {
#define LABEL_NAME(symbol, name) [REQUEST_LABEL_##symbol] = name,
	REQUEST_LABELS(LABEL_NAME)
#undef LABEL_NAME
};

struct labels {
	const char *v[REQUEST_LABEL_COUNT];
	char service[300], service_name[128], service_ns[128], flags[96], code[8], grpc[12];
};

static void pod_labels(struct labels *l, const struct worker_pod *pod, bool source)
{
	const char **v = l->v + (source ? REQUEST_LABEL_SOURCE_WORKLOAD : REQUEST_LABEL_DESTINATION_WORKLOAD);
	v[0] = pod->owner ? pod->owner : pod->name;
	v[1] = pod->ns;
	v[2] = pod->identity ? pod->identity->uri : NULL;
	v[3] = label_of(pod, "app");
	v[4] = label_of(pod, "version");
	v[5] = pod->canonical_name;
	v[6] = pod->canonical_revision;
}

/* What was asked for, when no cluster came to be chosen: "web.shop.svc.cluster.local:80" of the virtual host. */
static void asked_labels(struct labels *l, const char *vhost)
{
	const char *colon = strrchr(vhost, ':'), *dot = strchr(vhost, '.');
	const char *second = dot ? strchr(dot + 1, '.') : NULL;

	snprintf(l->service, sizeof(l->service), "%.*s", colon ? (int)(colon - vhost) : (int)strlen(vhost), vhost);
	l->v[REQUEST_LABEL_DESTINATION_SERVICE] = l->service;
	if (!second || !str_starts(second, ".svc."))
		return;
	snprintf(l->service_name, sizeof(l->service_name), "%.*s", (int)(dot - vhost), vhost);
	snprintf(l->service_ns, sizeof(l->service_ns), "%.*s", (int)(second - dot - 1), dot + 1);
	l->v[REQUEST_LABEL_DESTINATION_SERVICE_NAME] = l->service_name;
	l->v[REQUEST_LABEL_DESTINATION_SERVICE_NAMESPACE] = l->service_ns;
}

/* Refused by REGISTRY_ONLY: no virtual host has it, and yet there is a route. */
static bool is_black_hole(const struct request_record *r)
{
	return !r->cluster && !r->vhost && r->route && str_eq(r->route->name, "block_all");
}

static void client_labels(struct labels *l, const struct request_record *r)
{
	const struct cluster_endpoint *e = r->endpoint;
	pod_labels(l, r->pod, true);
	if (e) {
		const char **v = l->v + REQUEST_LABEL_DESTINATION_WORKLOAD;
		v[0] = e->workload;
		v[1] = e->ns;
		v[2] = e->principal;
		v[3] = e->app;
		v[4] = e->version;
		v[5] = e->canonical_name;
		v[6] = e->canonical_revision;
	}
	if (r->cluster) {
		l->v[REQUEST_LABEL_DESTINATION_SERVICE] = r->cluster->host;
		/* PassthroughCluster is nobody's service: Istio's dashboards look for that name here. */
		l->v[REQUEST_LABEL_DESTINATION_SERVICE_NAME] =
			r->cluster->service ? r->cluster->service : r->cluster->host;
		l->v[REQUEST_LABEL_DESTINATION_SERVICE_NAMESPACE] = r->cluster->ns;
	} else if (r->vhost) {
		asked_labels(l, r->vhost);
	} else if (is_black_hole(r)) {
		l->v[REQUEST_LABEL_DESTINATION_SERVICE] = l->v[REQUEST_LABEL_DESTINATION_SERVICE_NAME] =
			"BlackHoleCluster";
	}
}

/* Which service was called the server's side is not told: it is the workload's own, as Istio's canonical service. The
 * caller's other labels the agent knows by its principal. */
static void server_labels(struct labels *l, const struct request_record *r)
{
	pod_labels(l, r->pod, false);
	if (r->peer) {
		l->v[REQUEST_LABEL_SOURCE_PRINCIPAL] = r->peer->uri;
		l->v[REQUEST_LABEL_SOURCE_WORKLOAD_NAMESPACE] = r->peer->ns;
	}
	if (r->pod->canonical_name) {
		snprintf(l->service, sizeof(l->service), "%s.%s.svc.cluster.local", r->pod->canonical_name, r->pod->ns);
		l->v[REQUEST_LABEL_DESTINATION_SERVICE] = l->service;
		l->v[REQUEST_LABEL_DESTINATION_SERVICE_NAME] = r->pod->canonical_name;
		l->v[REQUEST_LABEL_DESTINATION_SERVICE_NAMESPACE] = r->pod->ns;
	}
}

static void labels_fill(struct labels *l, const struct request_record *r)
{
	bool client = r->reporter == REPORTER_CLIENT;
	memset(l->v, 0, sizeof(l->v));
	if (client)
		client_labels(l, r);
	else
		server_labels(l, r);
	l->v[REQUEST_LABEL_REPORTER] = client ? "source" : "destination";
	l->v[REQUEST_LABEL_REQUEST_PROTOCOL] = r->grpc ? "grpc" : "http";
	snprintf(l->code, sizeof(l->code), "%u", r->status);
	l->v[REQUEST_LABEL_RESPONSE_CODE] = l->code;
	if (r->grpc && r->grpc_status >= 0) {
		snprintf(l->grpc, sizeof(l->grpc), "%d", r->grpc_status);
		l->v[REQUEST_LABEL_GRPC_RESPONSE_STATUS] = l->grpc;
	}
	response_flags_text(r->flags, l->flags, sizeof(l->flags));
	l->v[REQUEST_LABEL_RESPONSE_FLAGS] = l->flags;
	l->v[REQUEST_LABEL_CONNECTION_SECURITY_POLICY] = security_names[security_of(r)];
}

/* --- tags of Telemetry resources */

static bool overrides_equal(const struct metric_override *a, const struct metric_override *b)
{
	if (a->tag_count != b->tag_count)
		return false;
	for (size_t i = 0; i < a->tag_count; i++)
		if (a->tags[i].remove != b->tags[i].remove || !str_eq(a->tags[i].tag, b->tags[i].tag) ||
		    !str_eq(a->tags[i].value, b->tags[i].value))
			return false;
	return true;
}

static int standard_label(const char *tag)
{
	for (int i = 0; i < REQUEST_LABEL_COUNT; i++)
		if (str_eq(label_names[i], tag))
			return i;
	return -1;
}

/* Labels that the agent adds by itself: it is to be told that they are not wanted. */
static bool is_agents(const char *tag)
{
	return str_eq(tag, "source_cluster") || str_eq(tag, "destination_cluster");
}

static void key_add(struct sb *key, const char *value)
{
	sb_add(key, value ? value : "");
	sb_add_bytes(key, "", 1);
}

static uint32_t seconds_of(const struct request_record *r)
{
	return (uint32_t)(r->end_ns / 1000000000);
}

static struct request_place place_find(struct request_counts *c, uint32_t metrics, const struct metric_override *o,
				       const struct request_record *r)
{
	struct labels l;
	struct sb key = { 0 }, values = { 0 };
	size_t at[REMOVABLE_MAX];

	labels_fill(&l, r);
	/* Values that are computed lie one behind the other; their places are kept as offsets while the text may move. */
	for (size_t i = 0; o && i < o->tag_count && i < REMOVABLE_MAX; i++) {
		at[i] = values.len;
		if (!o->tags[i].remove && !expression_value(r, o->tags[i].value ? o->tags[i].value : "", &values))
			sb_add(&values, "unknown");
		sb_add_bytes(&values, "", 1);
	}
	for (size_t i = 0; o && !values.failed && i < o->tag_count && i < REMOVABLE_MAX; i++) {
		int standard = standard_label(o->tags[i].tag);
		if (standard < 0)
			continue;
		const char *value = values.p + at[i];
		/* A caller's word does not remove a label. */
		l.v[standard] = o->tags[i].remove		     ? REQUEST_LABEL_REMOVED :
				str_eq(value, REQUEST_LABEL_REMOVED) ? "'" :
								       value;
	}
	for (size_t i = 0; i < REQUEST_LABEL_COUNT; i++)
		key_add(&key, l.v[i]);
	for (size_t i = 0, more = 0; o && !values.failed && i < o->tag_count && i < REMOVABLE_MAX; i++) {
		bool removed = o->tags[i].remove;
		if ((removed && !is_agents(o->tags[i].tag)) || standard_label(o->tags[i].tag) >= 0 ||
		    more++ >= REQUEST_TAGS_MAX)
			continue;
		sb_add(&key, o->tags[i].tag);
		sb_add(&key, "=");
		key_add(&key, removed					      ? REQUEST_LABEL_REMOVED :
			      str_eq(values.p + at[i], REQUEST_LABEL_REMOVED) ? "'" :
										values.p + at[i]);
	}
	struct request_place place =
		request_writer_place(c->writer, metrics, key.p, key.failed ? 0 : key.len, seconds_of(r));
	sb_done(&key);
	sb_done(&values);
	return place;
}

/* --- adding */

static bool needs_request(const struct metric_override *o)
{
	for (size_t i = 0; i < o->tag_count; i++)
		if (!o->tags[i].remove)
			return true;
	return false;
}

static void origin_fill(struct origin *o, uint32_t metrics, const struct telemetry *t, const struct request_record *r)
{
	memset(o, 0, sizeof(*o));
	o->pod = r->pod->labels_id;
	o->cluster = r->cluster ? r->cluster->id : r->vhost ? hash64_str(HASH64_INIT, r->vhost) : is_black_hole(r);
	o->telemetry = t ? t->id : 0;
	o->endpoint_hash = r->endpoint ? hash64(HASH64_INIT, &r->endpoint->addr, sizeof(r->endpoint->addr)) : 0;
	o->peer_hash = r->peer ? hash64_str(HASH64_INIT, r->peer->uri) : 0;
	o->flags = r->flags;
	o->metrics = metrics;
	o->grpc_status = r->grpc_status;
	o->status = r->status;
	o->reporter = (uint8_t)r->reporter;
	o->grpc = r->grpc;
	o->security = (uint8_t)security_of(r);
}

static void series_add(struct request_counts *c, uint32_t metrics, const struct telemetry *t,
		       const struct metric_override *o, const struct request_record *r,
		       const struct request_sample *sample)
{
	struct origin origin;
	if (o && needs_request(o)) {
		request_writer_add(c->writer, place_find(c, metrics, o, r), sample, seconds_of(r));
		return;
	}
	origin_fill(&origin, metrics, t, r);
	uint64_t h = 0;
	const uint64_t *words = (const uint64_t *)(const void *)&origin;
	for (size_t i = 0; i < sizeof(origin) / sizeof(*words); i++)
		h = (h ^ words[i]) * 0x9e3779b97f4a7c15ull;
	struct cached *slot = &c->cache[(h >> 40) & (CACHE_SIZE - 1)];
	/* What found no place asks again: there may be one by now. */
	if (slot->used && slot->place.slot && memcmp(&slot->origin, &origin, sizeof(origin)) == 0 &&
	    request_writer_add(c->writer, slot->place, sample, seconds_of(r)))
		return;
	slot->origin = origin;
	slot->used = true;
	slot->place = place_find(c, metrics, o, r);
	request_writer_add(c->writer, slot->place, sample, seconds_of(r));
}

void request_counts_add(struct request_counts *c, const struct telemetry *t, const struct request_record *r)
{
	uint32_t left = HTTP_METRICS | (r->grpc ? GRPC_METRICS : 0);
	const struct request_sample sample = { .duration_us = (r->end_ns - r->began_ns) / 1000,
					       .request_bytes = r->request_bytes + r->request_header_bytes,
					       .response_bytes = r->response_bytes + r->response_header_bytes,
					       .grpc_request_messages = r->grpc_request_messages,
					       .grpc_response_messages = r->grpc_response_messages };
	const struct metric_override *all = t ? t->overrides[r->reporter] : NULL;

	if (t && !t->metrics)
		return;
	for (unsigned int i = 0; all && i < REQUEST_METRIC_COUNT; i++)
		if (all[i].disabled)
			left &= ~(1u << i);
	/* Metrics with the same labels share a series: one for all, unless a Telemetry resource makes them differ. */
	while (left) {
		unsigned int first = (unsigned int)__builtin_ctz(left);
		uint32_t group = 1u << first;
		for (unsigned int i = first + 1; i < REQUEST_METRIC_COUNT; i++)
			if ((left & (1u << i)) && (!all || overrides_equal(&all[first], &all[i])))
				group |= 1u << i;
		left &= ~group;
		series_add(c, group, t, all ? &all[first] : NULL, r, &sample);
	}
}
