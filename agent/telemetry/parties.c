/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/telemetry/parties.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/table.h"
#include "agent/model/plan.h"

struct parties {
	struct table *by_id;  /* identity id -> struct party, owning */
	struct table *by_uri; /* the same */
};

static void agree(const char **have, const char *value, bool first)
{
	if (first)
		*have = value;
	else if (!*have || !value || strcmp(*have, value) != 0)
		*have = NULL;
}

static const char *label_of(const struct workload *w, const char *key)
{
	return w->label_count ? workload_label(w, key) : NULL;
}

/* What one of them counts is counted: the kernel's sums do not tell them apart. Workloads of other nodes say nothing. */
static void off_agree(struct party *party, const struct telemetry *t)
{
	for (int r = 0; t && r < REPORTER_COUNT; r++) {
		uint32_t off = 0;
		for (unsigned int m = 0; m < REQUEST_METRIC_COUNT; m++)
			off |= (uint32_t)t->overrides[r][m].disabled << m;
		party->off[r] = party->told ? party->off[r] & off : off;
	}
	party->told |= t != NULL;
}

static int party_add(struct parties *p, const struct workload *w)
{
	uint32_t id = w->identity->id;
	struct party *party = table_get(p->by_id, &id, sizeof(id));

	if (!party) {
		party = calloc(1, sizeof(*party));
		if (!party || table_set(p->by_id, &id, sizeof(id), party) < 0) {
			free(party);
			return -ENOMEM;
		}
		party->identity = w->identity;
		if (table_set_str(p->by_uri, w->identity->uri, party) < 0)
			return -ENOMEM;
	}
	bool first = !party->seen;
	party->seen = true;
	agree(&party->workload, w->owner ? w->owner : w->name, first);
	agree(&party->ns, w->ns, first);
	agree(&party->app, label_of(w, "app"), first);
	agree(&party->version, label_of(w, "version"), first);
	agree(&party->canonical, w->canonical_name, first);
	agree(&party->revision, w->canonical_revision, first);
	off_agree(party, w->telemetry);
	return 0;
}

int parties_new(const struct plan *plan, struct parties **out)
{
	struct parties *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->by_id = table_new(free);
	p->by_uri = table_new(NULL);
	int rc = p->by_id && p->by_uri ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && plan && i < plan->workload_count; i++)
		rc = party_add(p, plan->workloads[i]);
	if (rc < 0) {
		parties_free(p);
		return rc;
	}
	*out = p;
	return 0;
}

void parties_free(struct parties *p)
{
	if (!p)
		return;
	table_free(p->by_uri);
	table_free(p->by_id);
	free(p);
}

const struct party *parties_by_id(const struct parties *p, uint32_t identity)
{
	return table_get(p->by_id, &identity, sizeof(identity));
}

const struct party *parties_by_uri(const struct parties *p, const char *uri)
{
	return table_get_str(p->by_uri, uri);
}
