/* SPDX-License-Identifier: Apache-2.0 */
/* A pod as the agent describes it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/helper/helper_internal.h"
#include "agent/link/shape.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"
#include "agent/model/workload.h"

static int spec_addrs(struct pod_spec *spec, const Weft__Link__PodSet *m)
{
	spec->addrs = calloc(m->n_addrs + 1, sizeof(*spec->addrs));
	if (!spec->addrs)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_addrs; i++) {
		if (m->addrs[i].len != 16)
			return -EINVAL;
		memcpy(spec->addrs[spec->addr_count++].b, m->addrs[i].data, 16);
	}
	return 0;
}

static int on_label_cmp(const void *a, const void *b)
{
	return strcmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

static int on_port_cmp(const void *a, const void *b)
{
	return (int)((const struct inbound_port *)a)->port - (int)((const struct inbound_port *)b)->port;
}

/* Both lists are searched: they have to be in order, whatever the agent thinks order is. */
static void spec_sort(struct pod_spec *spec)
{
	if (spec->label_count)
		qsort(spec->labels, spec->label_count, sizeof(*spec->labels), on_label_cmp);
	if (spec->l7_port_count)
		qsort(spec->l7_ports, spec->l7_port_count, sizeof(*spec->l7_ports), on_port_cmp);
}

static int spec_l7(struct pod_spec *spec, const Weft__Link__PodSet *m)
{
	int rc = 0;
	spec->l7_other_ports = m->l7_other_ports;
	if (m->inbound)
		rc = message_filters_decode(m->inbound, &spec->inbound);
	if (rc == 0 && m->outbound)
		rc = message_filters_decode(m->outbound, &spec->outbound);
	if (rc == 0 && m->telemetry)
		rc = message_telemetry_decode(m->telemetry, &spec->telemetry);
	if (rc == 0)
		rc = shape_list_decode(&shape_label, m->labels, m->n_labels, &spec->labels, &spec->label_count);
	if (rc == 0)
		rc = shape_list_decode(&shape_inbound_port, m->l7_ports, m->n_l7_ports, &spec->l7_ports,
				       &spec->l7_port_count);
	if (rc == 0)
		spec_sort(spec);
	return rc;
}

int control_pod_spec(const Weft__Link__PodSet *m, struct pod_spec **out)
{
	struct pod_spec *spec = calloc(1, sizeof(*spec));
	if (!spec)
		return -ENOMEM;
	spec->refs = 1;
	spec->cookie = m->cookie;
	spec->max_connections = m->max_connections;
	spec->uid = strdup(m->uid);
	spec->ns = strdup(m->ns);
	spec->name = strdup(m->name);
	spec->owner = strdup(*m->owner ? m->owner : m->name);
	spec->canonical_name = strdup(m->canonical_name);
	spec->canonical_revision = strdup(m->canonical_revision);
	bool texts =
		spec->uid && spec->ns && spec->name && spec->owner && spec->canonical_name && spec->canonical_revision;
	int rc = texts ? identity_parse(m->identity, &spec->identity, NULL) : -ENOMEM;
	if (rc == 0)
		rc = spec_addrs(spec, m);
	if (rc == 0 && m->policy)
		rc = message_policy_decode(m->policy, &spec->policy);
	if (rc == 0)
		rc = spec_l7(spec, m);
	if (rc < 0) {
		pod_spec_unref(spec);
		return rc;
	}
	*out = spec;
	return 0;
}
