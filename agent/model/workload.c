/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/workload.h"

#include <stdlib.h>
#include <string.h>

#include "agent/model/filters.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"
#include "agent/model/telemetry.h"

struct workload *workload_new(void)
{
	struct workload *w = calloc(1, sizeof(*w));
	if (w) {
		w->refs = 1;
		w->weight = 1;
	}
	return w;
}

struct workload *workload_ref(struct workload *w)
{
	__atomic_add_fetch(&w->refs, 1, __ATOMIC_RELAXED);
	return w;
}

void workload_unref(struct workload *w)
{
	if (!w || __atomic_sub_fetch(&w->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;

	for (size_t i = 0; i < w->label_count; i++) {
		free(w->labels[i].key);
		free(w->labels[i].value);
	}
	char *texts[] = { w->uid,   w->name,	  w->ns, w->node, w->locality, w->canonical_name, w->canonical_revision,
			  w->owner, w->place_name };
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		free(texts[i]);
	free(w->labels);
	free(w->addrs);
	free(w->ports);
	identity_unref(w->identity);
	policy_unref(w->policy);
	http_filters_unref(w->inbound);
	http_filters_unref(w->outbound);
	telemetry_unref(w->telemetry);
	free(w->l7_ports);
	free(w);
}

static int label_cmp(const void *key, const void *label)
{
	return strcmp(key, ((const struct label *)label)->key);
}

const char *workload_label(const struct workload *w, const char *key)
{
	if (!w->label_count)
		return NULL;
	const struct label *found = bsearch(key, w->labels, w->label_count, sizeof(*w->labels), label_cmp);

	return found ? found->value : NULL;
}

bool workload_has_addr(const struct workload *w, const struct addr *a)
{
	for (size_t i = 0; i < w->addr_count; i++)
		if (addr_eq(&w->addrs[i], a))
			return true;
	return false;
}
