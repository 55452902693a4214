/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/l7.h"

#include <stdlib.h>

#include "agent/model/digest.h"
#include "agent/model/http_internal.h"

struct l7_target *l7_target_new(void)
{
	struct l7_target *t = calloc(1, sizeof(*t));
	if (t)
		t->refs = 1;
	return t;
}

struct l7_target *l7_target_ref(struct l7_target *t)
{
	__atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
	return t;
}

void l4_route_done(struct l4_route *route)
{
	for (size_t i = 0; i < route->sni_host_count; i++)
		free(route->sni_hosts[i]);
	for (size_t i = 0; i < route->cluster_count; i++)
		http_destination_done(&route->clusters[i]);
	free(route->sni_hosts);
	free(route->destinations);
	free(route->clusters);
	free(route->origin);
	*route = (struct l4_route){ 0 };
}

void l7_target_unref(struct l7_target *t)
{
	if (!t || __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;

	for (size_t i = 0; i < t->l4_count; i++)
		l4_route_done(&t->l4[i]);
	free(t->l4);
	http_vhost_unref(t->vhost);
	free(t->service);
	free(t->default_cluster);
	free(t);
}

static uint64_t l4_digest(uint64_t id, const struct l4_route *route)
{
	id = digest_texts(id, route->sni_hosts, route->sni_host_count);
	id = digest_number(id, route->destination_count);
	for (size_t i = 0; i < route->destination_count; i++) {
		id = hash64(id, route->destinations[i].addr.b, sizeof(route->destinations[i].addr.b));
		id = digest_number(id, route->destinations[i].bits);
	}
	id = digest_number(id, route->cluster_count);
	for (size_t i = 0; i < route->cluster_count; i++)
		id = http_destination_digest(id, &route->clusters[i]);
	return digest_text(digest_number(id, route->total_weight), route->origin);
}

void l7_target_seal(struct l7_target *t)
{
	uint64_t id = digest_number(HASH64_INIT, (uint64_t)t->mode);

	id = digest_text(digest_text(id, t->service), t->default_cluster);
	id = digest_number(digest_number(id, t->vhost ? t->vhost->id : 0), t->registry_only);
	id = digest_number(id, t->by_name);
	id = digest_number(id, t->l4_count);
	for (size_t i = 0; i < t->l4_count; i++)
		id = l4_digest(id, &t->l4[i]);
	t->id = digest_end(id);
}
