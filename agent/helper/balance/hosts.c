/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts: a cluster's endpoints with what this worker knows of them, from one version of the cluster to the next. */
#include "agent/helper/balance/internal.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"

struct addr_key addr_key_of(const struct addr_port *a)
{
	struct addr_key key;
	memcpy(key.b, a->addr.b, 16);
	memcpy(key.b + 16, &a->port, 2);
	return key;
}

/* --- versions */

struct version *version_new(struct http_cluster *c)
{
	struct version *v = calloc(1, sizeof(*v));
	if (!v)
		return NULL;
	v->refs = 1;
	v->cluster = http_cluster_ref(c);
	return v;
}

void version_unref(struct version *v)
{
	if (!v || --v->refs)
		return;
	http_cluster_unref(v->cluster);
	free(v);
}

static uint64_t text_hash(uint64_t id, const char *text)
{
	return hash64_str(hash64(id, text ? "+" : "-", 1), text ? text : "");
}

/* All that a connection to the endpoint was made with. */
uint64_t transport_id_of(const struct http_cluster *c, const struct cluster_endpoint *e)
{
	const uint64_t numbers[] = { c->protocol, c->tls,   c->insecure,	c->proxy_protocol,
				     e->tunnel,	  e->local, e->tunnel_addr.port };
	uint64_t id = hash64(HASH64_INIT, numbers, sizeof(numbers));
	id = hash64(id, e->tunnel_addr.addr.b, sizeof(e->tunnel_addr.addr.b));
	const char *const texts[] = { c->sni,	  c->ca_pem,	 c->crl_pem, c->chain_pem,
				      c->key_pem, c->proxy_host, e->hostname };
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		id = text_hash(id, texts[i]);
	for (size_t i = 0; i < c->subject_alt_name_count; i++)
		id = text_hash(id, c->subject_alt_names[i]);
	for (size_t i = 0; i < e->identity_count; i++)
		id = text_hash(id, e->identities[i]);
	return id ? id : 1;
}

/* --- hosts */

struct host *host_new(struct entry *e, const struct addr_port *addr)
{
	struct host *h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->refs = 1;
	h->entry = e;
	h->addr = *addr;
	h->b.key = balance_key(addr);
	LIST_INIT(&h->pools);
	return h;
}

void host_unref(struct host *h)
{
	if (!h || --h->refs)
		return;
	version_unref(h->version);
	ad_hoc_free(h->own);
	free(h);
}

/* It is no endpoint any more: connections end when their streams have. */
void host_retire(struct host *h)
{
	h->gone = true;
	host_health_release(h);
	if (h->own)
		ad_hoc_retire(h);
	struct pool *p;
	LIST_FOREACH(p, &h->pools, by_host)
	{
		pool_drain(p, 0);
	}
	host_unref(h);
}

void host_transport(struct host *h, uint64_t id)
{
	if (h->transport_id && h->transport_id != id) {
		struct pool *p;
		LIST_FOREACH(p, &h->pools, by_host)
		{
			pool_drain(p, id);
		}
	}
	h->transport_id = id;
}

void host_set(struct host *h, struct version *v, const struct cluster_endpoint *endpoint, bool is_new, bool first,
	      uint64_t now_ns)
{
	bool was_healthy = !is_new && h->b.healthy;

	version_unref(h->version);
	h->version = version_ref(v);
	h->endpoint = endpoint;
	if (h->own)
		ad_hoc_retire(h); /* it is an endpoint now */
	h->b.weight = endpoint->weight;
	h->b.priority = endpoint->priority;
	h->b.healthy = endpoint->healthy;
	/* Those that the first version has may have been serving for long. */
	if (h->b.healthy && !was_healthy && !first)
		h->b.warm_from_ns = now_ns ? now_ns : 1;
	host_transport(h, transport_id_of(v->cluster, endpoint));
}

struct host *host_find(const struct entry *e, const struct addr_port *addr)
{
	struct addr_key key = addr_key_of(addr);
	return e->by_addr ? table_get(e->by_addr, &key, sizeof(key)) : NULL;
}
