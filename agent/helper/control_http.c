/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's answers about calls above L4. */
#include <errno.h>

#include "agent/base/log.h"
#include "agent/helper/helper_internal.h"

void control_on_target(struct helper *h, const Weft__Link__TargetAnswer *m)
{
	struct addr_port original;
	struct l7_target *target = NULL;
	int rc = message_addr_port_get(m->original, &original);
	if (rc == 0 && m->target)
		rc = message_target_decode(m->target, &target);
	if (rc == -EINVAL) {
		control_fail(h, "a target that makes no sense");
		return;
	}
	if (rc < 0)
		return; /* the question times out */
	enum news what = target ? NEWS_OBJECT : m->own ? NEWS_OWN : NEWS_NONE;
	target_hub_target(h->targets, m->cookie, &original, m->host, what, target);
}

void control_on_cluster(struct helper *h, const Weft__Link__ClusterAnswer *m)
{
	struct http_cluster *cluster = NULL;
	int rc = m->cluster ? message_cluster_decode(m->cluster, &cluster) : 0;
	if (rc == -EINVAL) {
		control_fail(h, "a cluster that makes no sense");
		return;
	}
	if (rc == 0)
		target_hub_cluster(h->targets, m->name, cluster ? NEWS_OBJECT : NEWS_NONE, cluster);
}
