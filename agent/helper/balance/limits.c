/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/balance/limits.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/table.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct table *limits; /* pod, name -> struct shared_limits; NULL while there is none */

static bool limits_need(void)
{
	if (!limits)
		limits = table_new(NULL);
	return limits;
}

static void limits_drop(void)
{
	if (table_count(limits))
		return;
	table_free(limits);
	limits = NULL;
}

/* A pod's cookie and a cluster's name. */
static char *limits_key(const char *cluster, uint64_t pod, size_t *len)
{
	size_t name_len = strlen(cluster) + 1;
	char *key = malloc(sizeof(pod) + name_len);
	if (!key)
		return NULL;
	memcpy(key, &pod, sizeof(pod));
	memcpy(key + sizeof(pod), cluster, name_len);
	*len = sizeof(pod) + name_len;
	return key;
}

struct shared_limits *shared_limits_get(const char *cluster, uint64_t pod)
{
	size_t len;
	char *key = limits_key(cluster, pod, &len);
	if (!key)
		return NULL;
	struct shared_limits *l = NULL;
	pthread_mutex_lock(&lock);
	if (limits_need()) {
		l = table_get(limits, key, len);
		if (!l) {
			l = calloc(1, sizeof(*l));
			if (l && table_set(limits, key, len, l) < 0) {
				free(l);
				l = NULL;
			}
		}
		if (l)
			l->refs++;
		limits_drop();
	}
	pthread_mutex_unlock(&lock);
	free(key);
	return l;
}

void shared_limits_put(const char *cluster, uint64_t pod, struct shared_limits *l)
{
	size_t len;
	char *key = limits_key(cluster, pod, &len);
	pthread_mutex_lock(&lock);
	/* Without memory for the key it stays, with no use of its limits: harmless, and found again. */
	if (--l->refs == 0 && key) {
		table_remove(limits, key, len);
		free(l);
		limits_drop();
	}
	pthread_mutex_unlock(&lock);
	free(key);
}
