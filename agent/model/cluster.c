/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/cluster.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/str.h"

struct http_cluster *http_cluster_new(void)
{
	struct http_cluster *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->refs = 1;
	c->ring_size_min = 1024;
	c->maglev_size = 65537;
	c->warmup_min_percent = 10;
	c->warmup_aggression = 1.0;
	c->tcp.connect_timeout_ms = 10000;
	return c;
}

struct http_cluster *http_cluster_ref(struct http_cluster *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
	return c;
}

static void strings_free(char **texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(texts[i]);
	free(texts);
}

static void endpoint_done(struct cluster_endpoint *e)
{
	strings_free(e->identities, e->identity_count);
	free(e->hostname);
	free(e->workload);
	free(e->ns);
	free(e->principal);
	free(e->app);
	free(e->version);
	free(e->canonical_name);
	free(e->canonical_revision);
	free(e->locality);
}

void http_cluster_unref(struct http_cluster *c)
{
	if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;

	for (size_t i = 0; i < c->endpoint_count; i++)
		endpoint_done(&c->endpoints[i]);
	free(c->endpoints);
	strings_free(c->subject_alt_names, c->subject_alt_name_count);
	if (c->shown != c->name)
		free(c->shown);
	free(c->name);
	free(c->host);
	free(c->service);
	free(c->ns);
	free(c->subset);
	free(c->hash_key);
	free(c->cookie_path);
	free(c->cookie_attributes);
	free(c->sni);
	free(c->ca_pem);
	free(c->crl_pem);
	free(c->chain_pem);
	free(c->key_pem);
	free(c->proxy_host);
	free(c);
}

static int on_endpoint_cmp(const void *a, const void *b)
{
	const struct cluster_endpoint *x = a, *y = b;
	if (x->priority != y->priority)
		return (int)x->priority - (int)y->priority;
	int c = addr_cmp(&x->addr.addr, &y->addr.addr);
	if (c)
		return c;
	return (int)x->addr.port - (int)y->addr.port;
}

/* A NULL is not an empty text. */
static uint64_t text_hash(uint64_t id, const char *text)
{
	return text ? hash64_str(hash64(id, "+", 1), text) : hash64(id, "-", 1);
}

static uint64_t texts_hash(uint64_t id, char *const *texts, size_t count)
{
	id = hash64(id, &count, sizeof(count));
	for (size_t i = 0; i < count; i++)
		id = text_hash(id, texts[i]);
	return id;
}

static uint64_t numbers_hash(uint64_t id, const uint64_t *numbers, size_t count)
{
	return hash64(id, numbers, count * sizeof(*numbers));
}

static uint64_t addr_port_hash(uint64_t id, const struct addr_port *a)
{
	return hash64(hash64(id, a->addr.b, sizeof(a->addr.b)), &a->port, sizeof(a->port));
}

#define NUMBERS(...) (const uint64_t[]){ __VA_ARGS__ }, sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t)

static uint64_t endpoint_hash(uint64_t id, const struct cluster_endpoint *e)
{
	id = addr_port_hash(id, &e->addr);
	id = addr_port_hash(id, &e->tunnel_addr);
	id = numbers_hash(id, NUMBERS(e->weight, e->priority, e->healthy, e->local, e->enrolled, e->tunnel));
	id = texts_hash(id, e->identities, e->identity_count);
	id = texts_hash(id,
			(char *[]){ e->hostname, e->workload, e->ns, e->principal, e->app, e->version,
				    e->canonical_name, e->canonical_revision, e->locality },
			9);
	return id;
}

static uint64_t limits_hash(uint64_t id, const struct http_cluster *c)
{
	const struct tcp_settings *t = &c->tcp;
	const struct cluster_outlier *o = &c->outlier;

	id = numbers_hash(id, NUMBERS(t->max_connections, t->connect_timeout_ms, t->keepalive_time_s,
				      t->keepalive_interval_s, t->keepalive_probes, t->max_connection_duration_ms,
				      t->idle_timeout_ms));
	id = numbers_hash(id, NUMBERS(c->max_pending, c->max_requests, c->max_requests_per_connection, c->max_retries,
				      c->retry_budget_percent, c->retry_budget_min, c->http_idle_ms,
				      c->max_concurrent_streams));
	return numbers_hash(id, NUMBERS(o->consecutive_5xx, o->consecutive_gateway, o->consecutive_local,
					o->split_local, o->interval_ms, o->base_ejection_ms, o->max_ejection_percent,
					o->min_health_percent));
}

const char *http_cluster_qualifier(const char *name, size_t *len)
{
	const char *subset = name;

	*len = 0;
	for (int i = 0; subset && i < 2; i++)
		subset = strchr(subset, '|') ? strchr(subset, '|') + 1 : NULL;
	const char *at = subset ? subset + strcspn(subset, "|@") : NULL;
	if (!at || *at != '@')
		return NULL;
	*len = strcspn(at, "|");
	return at;
}

const char *http_cluster_shown(const struct http_cluster *c)
{
	return c->shown ? c->shown : c->name;
}

/* Without memory the name is shown as it is. */
static void shown_set(struct http_cluster *c)
{
	size_t len;
	const char *at = http_cluster_qualifier(c->name, &len);

	if (len && !c->shown)
		c->shown = str_format("%.*s%s", (int)(at - c->name), c->name, at + len);
}

void http_cluster_seal(struct http_cluster *c)
{
	shown_set(c);
	if (c->endpoint_count)
		qsort(c->endpoints, c->endpoint_count, sizeof(*c->endpoints), on_endpoint_cmp);

	uint64_t id = texts_hash(HASH64_INIT,
				 (char *[]){ c->name, c->host, c->service, c->ns, c->subset, c->hash_key,
					     c->cookie_path, c->cookie_attributes, c->sni, c->ca_pem, c->crl_pem,
					     c->chain_pem, c->key_pem, c->proxy_host },
				 14);
	id = numbers_hash(id, NUMBERS(c->port, c->app, c->protocol, c->lb, c->hash, c->cookie_ttl_s, c->cookie_make,
				      c->ring_size_min, c->maglev_size, c->warmup_ms, c->warmup_min_percent));
	id = hash64(id, &c->warmup_aggression, sizeof(c->warmup_aggression));
	id = numbers_hash(id, NUMBERS(c->tls, c->insecure, c->proxy_protocol, c->dynamic_dns, c->external,
				      c->original_port, c->endpoint_count));
	id = texts_hash(id, c->subject_alt_names, c->subject_alt_name_count);
	id = limits_hash(id, c);
	for (size_t i = 0; i < c->endpoint_count; i++)
		id = endpoint_hash(id, &c->endpoints[i]);
	c->id = id ? id : 1;
}

char *http_cluster_name(uint16_t port, const char *subset, const char *host)
{
	return str_format("outbound|%u|%s|%s", port, subset ? subset : "", host);
}
