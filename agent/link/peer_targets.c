/* SPDX-License-Identifier: Apache-2.0 */
/* What a helper asks about calls above L4: targets (what a pod's call means) and clusters (where it goes). Each is answered,
 * and followed until the helper forgets it: when the plan changes, what differs is said again. */
#include "agent/link/supervisor_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/model/cluster.h"
#include "agent/model/l7.h"

enum { TARGETS_MAX = 8192, CLUSTERS_MAX = 16384, HOST_TEXT_MAX = 255, CLUSTER_NAME_MAX = 1024 };

/* Visible ASCII: what the helper lets through. */
static bool text_valid(const char *text, size_t max)
{
	size_t n = 0;
	for (; text[n]; n++)
		if (n >= max || text[n] <= ' ' || text[n] > '~')
			return false;
	return true;
}

/* Whether this is something new to say. */
static bool sent_differs(const struct sent_object *sent, int what, uint64_t id)
{
	return (int)sent->what != what || sent->id != id;
}

static const char *unfit(int rc)
{
	return rc == -EINVAL ? "have a value that the helper would not take" :
			       "are too large to hand to the helper (over 8 MiB)";
}

/* --- routes --- */

static int vhost_send(struct peer *peer, const struct sent_vhost *v, Weft__Link__HttpVhost *encoded)
{
	Weft__Link__Vhost m = WEFT__LINK__VHOST__INIT;
	m.id = v->id;
	m.vhost = encoded;
	return peer_send(peer, WEFT__LINK__TO_HELPER__MSG_VHOST, &m, NULL, 0);
}

/* One more target has these routes: the helper is told them if it does not have them. */
static int vhost_use(struct peer *peer, Weft__Link__HttpVhost *encoded, struct sent_vhost **out)
{
	size_t len = weft__link__http_vhost__get_packed_size(encoded);
	AUTO(mem_freep) uint8_t *packed = malloc(len + 1);
	if (!packed)
		return -ENOMEM;
	weft__link__http_vhost__pack(encoded, packed);
	uint64_t hash = hash_keyed(packed, len);
	struct sent_vhost *v = table_get(peer->vhosts, &hash, sizeof(hash));
	if (!v) {
		v = calloc(1, sizeof(*v));
		if (!v || table_set(peer->vhosts, &hash, sizeof(hash), v) < 0) {
			free(v);
			return -ENOMEM;
		}
		v->hash = hash;
		v->id = ++peer->vhost_ids;
		int rc = vhost_send(peer, v, encoded);
		if (rc < 0) {
			table_remove(peer->vhosts, &hash, sizeof(hash));
			return rc;
		}
	}
	v->targets++;
	*out = v;
	return 0;
}

static void vhost_release(struct peer *peer, struct sent_vhost *v)
{
	if (!v || --v->targets > 0)
		return;
	Weft__Link__VhostForget m = WEFT__LINK__VHOST_FORGET__INIT;
	m.id = v->id;
	peer_send(peer, WEFT__LINK__TO_HELPER__MSG_VHOST_FORGET, &m, NULL, 0);
	table_remove(peer->vhosts, &v->hash, sizeof(v->hash));
}

/* --- targets --- */

struct target_key {
	uint8_t b[8 + 18 + HOST_TEXT_MAX];
	size_t len;
};

static void target_key(uint64_t cookie, const struct addr_port *at, const char *host, struct target_key *key)
{
	size_t n = strlen(host);
	memcpy(key->b, &cookie, 8);
	memcpy(key->b + 8, at->addr.b, 16);
	memcpy(key->b + 24, &at->port, 2);
	memcpy(key->b + 26, host, n);
	key->len = 26 + n;
}

static struct l7_target *target_ask(struct peer *peer, const struct sent_target *t, const char *host)
{
	struct l7_target *target = NULL;
	if (peer->s->events.target && table_get(peer->s->pods, &t->cookie, sizeof(t->cookie)))
		peer->s->events.target(t->cookie, &t->original, host, &target, peer->s->events.arg);
	return target;
}

static int target_answer(struct peer *peer, struct sent_target *t, int what, const struct l7_target *target)
{
	Weft__Link__TargetAnswer m = WEFT__LINK__TARGET_ANSWER__INIT;
	Weft__Link__AddrPort at;
	message_addr_port_set(&at, &t->original);
	m.cookie = t->cookie;
	m.original = &at;
	m.host = t->host;
	m.own = what == SENT_OWN;
	int rc = what == SENT_OBJECT ? message_target_encode(target, &m.target) : 0;
	Weft__Link__HttpVhost *routes = m.target ? m.target->vhost : NULL;
	struct sent_vhost *vhost = NULL;
	if (rc == 0 && routes)
		rc = vhost_use(peer, routes, &vhost);
	if (rc == 0) {
		if (vhost) {
			m.vhost = vhost->id;
			m.target->vhost = NULL;
		}
		rc = peer_send(peer, WEFT__LINK__TO_HELPER__MSG_TARGET, &m, NULL, 0);
	}
	if (m.target) {
		m.target->vhost = routes;
		weft__link__l7_target__free_unpacked(m.target, NULL);
	}
	/* What it had before is let go when it has something else. */
	vhost_release(peer, rc == 0 ? t->vhost : vhost);
	if (rc == 0)
		t->vhost = vhost;
	return rc;
}

static void target_send(struct peer *peer, struct sent_target *t)
{
	struct l7_target *target = target_ask(peer, t, *t->host ? t->host : NULL);
	int what = target ? SENT_OBJECT : SENT_NONE;
	uint64_t id = target ? target->id : 0;
	if (*t->host) {
		/* A host that makes no difference is not worth an object of its own. */
		struct l7_target *own = target_ask(peer, t, NULL);
		if (!target || (own && own->id == target->id)) {
			what = SENT_OWN;
			id = 0;
		}
		l7_target_unref(own);
	}
	if (sent_differs(&t->sent, what, id)) {
		int rc = target_answer(peer, t, what, target);
		if (rc == -EMSGSIZE || rc == -EINVAL) {
			peer_log(peer->s, LOG_ERROR, "the routes of %s %s: calls to it fail",
				 target && target->service ? target->service : "a service", unfit(rc));
			rc = target_answer(peer, t, SENT_NONE, NULL);
		}
		/* When there was no memory, the question times out or the old answer holds until the next change. */
		if (rc == 0)
			t->sent = (struct sent_object){ .what = what, .id = id };
	}
	l7_target_unref(target);
}

void peer_on_target_query(struct peer *peer, const Weft__Link__TargetQuery *m)
{
	struct addr_port at;
	if (message_addr_port_get(m->original, &at) < 0 || !text_valid(m->host, HOST_TEXT_MAX)) {
		peer_condemn(peer, "it asked for a target that is none");
		return;
	}
	if (!peer_within(peer, &peer->target_rate, 1))
		return;
	struct target_key key;
	target_key(m->cookie, &at, m->host, &key);
	struct sent_target *t = table_get(peer->targets, key.b, key.len);
	if (!t) {
		if (table_count(peer->targets) >= TARGETS_MAX) {
			peer_condemn(peer, "it follows too many targets");
			return;
		}
		t = calloc(1, sizeof(*t) + strlen(m->host) + 1);
		if (!t || table_set(peer->targets, key.b, key.len, t) < 0) {
			free(t);
			return; /* no answer: the call fails after its timeout */
		}
		t->cookie = m->cookie;
		t->original = at;
		memcpy(t->host, m->host, strlen(m->host) + 1);
	}
	t->sent = (struct sent_object){ 0 };
	target_send(peer, t);
}

void peer_on_target_forget(struct peer *peer, const Weft__Link__TargetForget *m)
{
	struct addr_port at;
	if (message_addr_port_get(m->original, &at) < 0 || !text_valid(m->host, HOST_TEXT_MAX)) {
		peer_condemn(peer, "it forgot a target that is none");
		return;
	}
	struct target_key key;
	target_key(m->cookie, &at, m->host, &key);
	struct sent_target *t = table_get(peer->targets, key.b, key.len);
	if (!t)
		return;
	vhost_release(peer, t->vhost);
	table_remove(peer->targets, key.b, key.len);
}

/* --- clusters --- */

static int cluster_answer(struct peer *peer, struct sent_cluster *c, const struct http_cluster *cluster)
{
	Weft__Link__ClusterAnswer m = WEFT__LINK__CLUSTER_ANSWER__INIT;
	m.name = c->name;
	int rc = cluster ? message_cluster_encode(cluster, &m.cluster) : 0;
	if (rc < 0)
		return rc;
	rc = peer_send(peer, WEFT__LINK__TO_HELPER__MSG_CLUSTER, &m, NULL, 0);
	if (m.cluster)
		weft__link__http_cluster__free_unpacked(m.cluster, NULL);
	return rc;
}

/* later: an end is only noted. */
static void cluster_send(struct peer *peer, struct sent_cluster *c, bool later)
{
	struct http_cluster *cluster = NULL;
	if (peer->s->events.cluster)
		peer->s->events.cluster(c->name, &cluster, peer->s->events.arg);
	int what = cluster ? SENT_OBJECT : SENT_NONE;
	uint64_t id = cluster ? cluster->id : 0;
	c->gone = later && !cluster;
	if (!c->gone && sent_differs(&c->sent, what, id)) {
		int rc = cluster_answer(peer, c, cluster);
		if (rc == -EMSGSIZE || rc == -EINVAL) {
			peer_log(peer->s, LOG_ERROR, "the endpoints and settings of %s %s: calls to it fail", c->name,
				 unfit(rc));
			rc = cluster_answer(peer, c, NULL);
		}
		if (rc == 0)
			c->sent = (struct sent_object){ .what = what, .id = id };
	}
	http_cluster_unref(cluster);
}

void peer_on_cluster_query(struct peer *peer, const Weft__Link__ClusterQuery *m)
{
	if (!*m->name || !text_valid(m->name, CLUSTER_NAME_MAX)) {
		peer_condemn(peer, "it asked for a cluster that is none");
		return;
	}
	if (!peer_within(peer, &peer->cluster_rate, 1))
		return;
	struct sent_cluster *c = table_get_str(peer->clusters, m->name);
	if (!c) {
		if (table_count(peer->clusters) >= CLUSTERS_MAX) {
			peer_condemn(peer, "it follows too many clusters");
			return;
		}
		c = calloc(1, sizeof(*c) + strlen(m->name) + 1);
		if (!c || table_set_str(peer->clusters, m->name, c) < 0) {
			free(c);
			return;
		}
		memcpy(c->name, m->name, strlen(m->name) + 1);
	}
	c->sent = (struct sent_object){ 0 };
	cluster_send(peer, c, false);
}

void peer_on_cluster_forget(struct peer *peer, const Weft__Link__ClusterForget *m)
{
	table_remove_str(peer->clusters, m->name);
}

void peer_targets_refresh(struct peer *peer)
{
	struct table_iter clusters = { 0 }, targets = { 0 }, gone = { 0 };
	/* Clusters before the routes that lead to them, and their end after the routes that no longer do. */
	while (peer->channel && table_next(peer->clusters, &clusters))
		cluster_send(peer, clusters.value, true);
	while (peer->channel && table_next(peer->targets, &targets))
		target_send(peer, targets.value);
	while (peer->channel && table_next(peer->clusters, &gone)) {
		struct sent_cluster *c = gone.value;
		if (c->gone)
			cluster_send(peer, c, false);
	}
}
