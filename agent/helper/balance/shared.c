/* SPDX-License-Identifier: Apache-2.0 */
/* What the workers of a process know together of a cluster: who is ejected. Found by
 * name under one lock, which is taken when a worker begins or ends to use a cluster or an endpoint, never for a request;
 * the words in it are atomic. */
#include "agent/helper/balance/internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/table.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct table *clusters; /* name -> struct shared_cluster; NULL while there is none */

static bool table_need(struct table **t)
{
	if (!*t)
		*t = table_new(NULL);
	return *t;
}

static void table_drop(struct table **t)
{
	if (table_count(*t))
		return;
	table_free(*t);
	*t = NULL;
}

static void cluster_free(struct shared_cluster *c)
{
	if (!c)
		return;
	table_free(c->hosts);
	free(c->name);
	free(c);
}

static struct shared_cluster *cluster_new(const char *name)
{
	struct shared_cluster *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->name = strdup(name);
	c->hosts = table_new(NULL);
	if (!c->name || !c->hosts || table_set_str(clusters, name, c) < 0) {
		cluster_free(c);
		return NULL;
	}
	return c;
}

struct shared_cluster *shared_cluster_get(const char *name)
{
	struct shared_cluster *c = NULL;
	pthread_mutex_lock(&lock);
	if (table_need(&clusters)) {
		c = table_get_str(clusters, name);
		if (!c)
			c = cluster_new(name);
		if (c)
			c->refs++;
		table_drop(&clusters);
	}
	pthread_mutex_unlock(&lock);
	return c;
}

void shared_cluster_put(struct shared_cluster *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&lock);
	if (--c->refs == 0) {
		table_remove_str(clusters, c->name);
		cluster_free(c);
		table_drop(&clusters);
	}
	pthread_mutex_unlock(&lock);
}

struct shared_host *shared_host_get(struct shared_cluster *c, const struct addr_port *addr)
{
	struct addr_key key = addr_key_of(addr);
	pthread_mutex_lock(&lock);
	struct shared_host *h = table_get(c->hosts, &key, sizeof(key));
	if (!h) {
		h = calloc(1, sizeof(*h));
		if (h && table_set(c->hosts, &key, sizeof(key), h) < 0) {
			free(h);
			h = NULL;
		}
		if (h)
			h->addr = *addr;
	}
	if (h)
		h->refs++;
	pthread_mutex_unlock(&lock);
	return h;
}

bool shared_host_put(struct shared_cluster *c, struct shared_host *h)
{
	bool ejected = false;
	struct addr_key key = addr_key_of(&h->addr);
	pthread_mutex_lock(&lock);
	if (--h->refs == 0) {
		ejected = health_gone(&c->set, &h->health);
		table_remove(c->hosts, &key, sizeof(key));
		free(h);
	}
	pthread_mutex_unlock(&lock);
	return ejected;
}
