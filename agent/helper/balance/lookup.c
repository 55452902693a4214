/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/balance/internal.h"

const struct http_cluster *upstream_cluster(struct upstreams *u, const char *name)
{
	const struct entry *e = entry_get(u, name);
	return e && e->version ? e->version->cluster : NULL;
}
