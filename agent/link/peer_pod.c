/* SPDX-License-Identifier: Apache-2.0 */
/* What a helper is told of a pod. */
#include "agent/link/supervisor_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/link/shape.h"
#include "agent/model/identity.h"

/* What of a PodSet is its own; the rest is the workload's, only read when packed. */
static void pod_borrow(Weft__Link__PodSet *m, const struct supervised_pod *pod)
{
	const struct workload *w = pod->workload;
	m->cookie = pod->cookie;
	m->uid = w->uid;
	m->ns = w->ns;
	m->name = w->name;
	m->identity = w->identity->uri;
	m->max_connections = w->max_connections;
	if (w->owner)
		m->owner = w->owner;
	if (w->canonical_name)
		m->canonical_name = w->canonical_name;
	if (w->canonical_revision)
		m->canonical_revision = w->canonical_revision;
	m->l7_other_ports = w->l7_other_ports;
}

static int pod_encode(Weft__Link__PodSet *m, const struct workload *w)
{
	int rc = 0;
	if (w->policy)
		rc = message_policy_encode(w->policy, &m->policy);
	if (rc == 0 && w->inbound)
		rc = message_filters_encode(w->inbound, &m->inbound);
	if (rc == 0 && w->outbound)
		rc = message_filters_encode(w->outbound, &m->outbound);
	if (rc == 0 && w->telemetry)
		rc = message_telemetry_encode(w->telemetry, &m->telemetry);
	if (rc < 0)
		return rc;
	m->addrs = calloc(w->addr_count + 1, sizeof(*m->addrs));
	if (!m->addrs)
		return -ENOMEM;
	for (; m->n_addrs < w->addr_count; m->n_addrs++)
		m->addrs[m->n_addrs] = (ProtobufCBinaryData){ .len = 16, .data = w->addrs[m->n_addrs].b };
	rc = shape_list_encode(&shape_label, w->labels, w->label_count, &m->labels, &m->n_labels);
	if (rc == 0)
		rc = shape_list_encode(&shape_inbound_port, w->l7_ports, w->l7_port_count, &m->l7_ports,
				       &m->n_l7_ports);
	return rc;
}

static void pod_encoded_free(Weft__Link__PodSet *m)
{
	if (m->policy)
		weft__link__policy__free_unpacked(m->policy, NULL);
	if (m->inbound)
		weft__link__http_filters__free_unpacked(m->inbound, NULL);
	if (m->outbound)
		weft__link__http_filters__free_unpacked(m->outbound, NULL);
	if (m->telemetry)
		weft__link__telemetry__free_unpacked(m->telemetry, NULL);
	for (size_t i = 0; i < m->n_labels; i++)
		weft__link__label__free_unpacked(m->labels[i], NULL);
	for (size_t i = 0; i < m->n_l7_ports; i++)
		weft__link__inbound_port__free_unpacked(m->l7_ports[i], NULL);
	free(m->labels);
	free(m->l7_ports);
	free(m->addrs);
}

bool peer_pod_set(struct peer *peer, const struct supervised_pod *pod, bool with_fds, struct err *err)
{
	const struct workload *w = pod->workload;
	Weft__Link__PodSet m = WEFT__LINK__POD_SET__INIT;
	pod_borrow(&m, pod);
	m.only_known = peer->outgoing;
	int rc = pod_encode(&m, w);
	if (rc == 0) {
		int fds[POD_LISTENERS];
		uint32_t kinds[POD_LISTENERS];
		size_t count = 0;
		for (uint32_t kind = 0; with_fds && kind < POD_LISTENERS; kind++) {
			if (pod->fds[kind] < 0)
				continue;
			fds[count] = pod->fds[kind];
			kinds[count++] = kind;
		}
		m.kinds = kinds;
		m.n_kinds = count;
		rc = peer_send(peer, WEFT__LINK__TO_HELPER__MSG_POD_SET, &m, fds, count);
	}
	pod_encoded_free(&m);
	if (rc == -EMSGSIZE)
		err_set(err, rc,
			"pod %s: its policy and filters are too large to hand to the helper (over %d KiB); "
			"use fewer or shorter rules",
			w->uid, CHANNEL_MESSAGE_MAX >> 10);
	else if (rc == -EINVAL)
		err_set(err, rc, "pod %s: its policy, filters or telemetry have a value that the helper would not take",
			w->uid);
	else if (rc < 0)
		err_sys(err, rc, "pod %s: hand it to the helper", w->uid);
	return rc == 0;
}
