/* SPDX-License-Identifier: Apache-2.0 */
/* Which TLS a cluster originates: whom it trusts, whom it expects, who it is. Contexts are kept, because a bundle of roots
 * takes milliseconds to read: first by the cluster's id, and when that changed (its endpoints did), by what TLS has of it. */
#include "agent/helper/transport_internal.h"

#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/tls_client.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXTS_MAX = 64 };

struct kept_context {
	uint64_t id, content; /* of the cluster, and of its TLS */
	uint64_t used;
	struct tls_client_context *context;
};

struct tls_contexts {
	struct kept_context kept[CONTEXTS_MAX];
	size_t count;
	uint64_t clock;
};

static void contexts_free(struct tls_contexts *all)
{
	for (size_t i = 0; i < all->count; i++)
		tls_client_context_unref(all->kept[i].context);
	free(all);
}

bool transport_wants_tls(const struct http_cluster *cluster, const struct cluster_endpoint *endpoint)
{
	switch (cluster->tls) {
	case CLUSTER_TLS_SIMPLE:
	case CLUSTER_TLS_MUTUAL:
		return true;
	case CLUSTER_TLS_ISTIO_MUTUAL: /* a tunnel and the kernel's word are as good */
		return endpoint->tunnel != ENDPOINT_HBONE && !(endpoint->enrolled && endpoint->local);
	default:
		return false;
	}
}

static struct kept_context *find(struct tls_contexts *all, uint64_t id, uint64_t content)
{
	for (size_t i = 0; i < all->count; i++)
		if (id ? all->kept[i].id == id : all->kept[i].content == content)
			return &all->kept[i];
	return NULL;
}

static struct kept_context *make_room(struct tls_contexts *all)
{
	if (all->count < CONTEXTS_MAX)
		return &all->kept[all->count++];
	struct kept_context *oldest = &all->kept[0];
	for (size_t i = 1; i < all->count; i++)
		if (all->kept[i].used < oldest->used)
			oldest = &all->kept[i];
	tls_client_context_unref(oldest->context);
	return oldest;
}

static uint64_t text_hash(uint64_t hash, const char *text)
{
	return text ? hash64(hash, text, strlen(text) + 1) : hash64(hash, "\1", 1);
}

static uint64_t content_of(const struct tls_client_config *config)
{
	uint64_t hash = text_hash(HASH64_INIT, config->ca_pem);
	hash = text_hash(hash, config->crl_pem);
	hash = text_hash(hash, config->chain_pem);
	hash = text_hash(hash, config->key_pem);
	const void *const kept[] = { config->trust,
				     config->credentials }; /* referenced by the context: no other has it */
	hash = hash64(hash, kept, sizeof(kept));
	return hash64(hash, &config->insecure, sizeof(config->insecure));
}

/* id: 0 when what it stands for may change under it. Borrowed. */
static int context_get(struct transports *ts, uint64_t id, const struct tls_client_config *config,
		       struct tls_client_context **out, struct err *err)
{
	if (!ts->contexts && !(ts->contexts = calloc(1, sizeof(*ts->contexts))))
		return -ENOMEM;
	struct tls_contexts *all = ts->contexts;
	ts->contexts_free = contexts_free;
	struct kept_context *k = id ? find(all, id, 0) : NULL;
	if (!k) {
		uint64_t content = content_of(config);
		k = find(all, 0, content);
		if (!k) {
			struct tls_client_context *context;
			int rc = tls_client_context_new(config, &context, err);
			if (rc < 0)
				return rc;
			k = make_room(all);
			*k = (struct kept_context){ .content = content, .context = context };
		}
		k->id = id;
	}
	k->used = ++all->clock;
	*out = k->context;
	return 0;
}

/* --- whom we expect --- */

static bool is_address(const char *name)
{
	struct addr a;
	return addr_parse(name, &a) == 0;
}

/* What the call was for, unless the rule says what to send. */
static const char *name_of(const struct http_cluster *cluster, const char *sni)
{
	return cluster->sni				? cluster->sni :
	       sni					? sni :
	       cluster->host && cluster->host[0] != '*' ? cluster->host :
							  NULL;
}

static int client_outside(struct transports *ts, const struct http_cluster *cluster, const char *alpn, const char *sni,
			  struct tls_client **out, struct err *err)
{
	struct tls_client_config config = { .ca_pem = cluster->ca_pem,
					    .crl_pem = cluster->crl_pem,
					    .insecure = cluster->insecure };
	if (cluster->tls == CLUSTER_TLS_MUTUAL) {
		if (!cluster->chain_pem || !cluster->key_pem)
			return err_set(err, -EINVAL, "tls: the client's certificate or key is missing");
		config.chain_pem = cluster->chain_pem;
		config.key_pem = cluster->key_pem;
	}
	const char *name = name_of(cluster, sni);
	struct tls_client_target target = {
		.sni = name && !is_address(name) ? name : NULL,
		.names = &name,
		.name_count = name != NULL,
		.alpn = &alpn,
		.alpn_count = alpn != NULL,
	};
	if (cluster->subject_alt_name_count) {
		target.names = (const char *const *)cluster->subject_alt_names;
		target.name_count = cluster->subject_alt_name_count;
	}
	struct tls_client_context *context;
	int rc = context_get(ts, cluster->id, &config, &context, err);
	return rc < 0 ? rc : tls_client_new(context, &target, out);
}

/* To a sidecar of Istio, on the application's own port. */
static int client_mesh(struct worker *w, const struct worker_pod *pod, const struct http_cluster *cluster,
		       const struct cluster_endpoint *endpoint, const char *alpn, struct tls_client **out,
		       struct err *err)
{
	static const char *const h2[] = { "istio-h2", "istio", "h2" };
	static const char *const h1[] = { "istio-http/1.1", "istio", "http/1.1" };
	static const char *const bytes[] = { "istio" };
	struct tls_client_config config = { 0 };
	if (hbone_material(worker_hbone(w), pod->identity->uri, &config.credentials, &config.trust) < 0)
		return err_set(err, -EPERM, "tls: no certificate for %s yet", pod->identity->uri);
	AUTO(mem_freep) char *sni =
		str_format("outbound_.%u_.%s_.%s", cluster->port, cluster->subset ? cluster->subset : "",
			   cluster->host ? cluster->host : "");
	if (!sni)
		return -ENOMEM;
	bool named = cluster->subject_alt_name_count > 0;
	struct tls_client_target target = {
		.sni = cluster->sni ? cluster->sni : sni,
		.names = (const char *const *)(named ? cluster->subject_alt_names : endpoint->identities),
		.name_count = named ? cluster->subject_alt_name_count : endpoint->identity_count,
		.alpn = !alpn		   ? bytes :
			str_eq(alpn, "h2") ? h2 :
					     h1,
		.alpn_count = alpn ? 3 : 1,
	};
	struct tls_client_context *context;
	int rc = context_get(worker_transports(w), 0, &config, &context, err);
	return rc < 0 ? rc : tls_client_new(context, &target, out);
}

int transport_tls_client(struct worker *w, const struct worker_pod *pod, const struct http_cluster *cluster,
			 const struct cluster_endpoint *endpoint, const char *alpn, const char *sni,
			 struct tls_client **out, struct err *err)
{
	if (cluster->tls == CLUSTER_TLS_ISTIO_MUTUAL)
		return client_mesh(w, pod, cluster, endpoint, alpn, out, err);
	return client_outside(worker_transports(w), cluster, alpn, sni, out, err);
}
