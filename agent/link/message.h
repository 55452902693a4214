/* SPDX-License-Identifier: Apache-2.0 */
/* Between the protocol's generated structs and ours: packing, addresses, policies. Decoders believe nothing: lengths,
 * enums and ranges are checked. Pure, but for message_send(). */
#pragma once

#include "agent/base/addr.h"
#include "agent/link/link.pb-c.h"

#include <stddef.h>

enum { LINK_VERSION = 3, LINK_HELPER_MESSAGE_MAX = 256 << 10 }; /* what a helper may send at once */

struct channel;
struct http_cluster;
struct http_filters;
struct http_vhost;
struct l7_target;
struct policy;
struct telemetry;

/* Packs and sends; errors as channel_send(). */
int message_send(struct channel *channel, const ProtobufCMessage *message, const int *fds, size_t fd_count);

/* to points into from, which must outlive it. */
void message_addr_port_set(Weft__Link__AddrPort *to, const struct addr_port *from);
int message_addr_port_get(const Weft__Link__AddrPort *from, struct addr_port *to); /* 0 or -EINVAL; NULL is invalid */

/* The objects of the model, both ways 0, -EINVAL or -ENOMEM: encoded ones are freed with
 * weft__link__*__free_unpacked(), decoded ones of HTTP are sealed and so have the id that they had. */
int message_policy_encode(const struct policy *policy, Weft__Link__Policy **out);
int message_policy_decode(const Weft__Link__Policy *from, struct policy **out);
int message_target_encode(const struct l7_target *target, Weft__Link__L7Target **out);
int message_target_decode(const Weft__Link__L7Target *from, struct l7_target **out);
int message_vhost_decode(const Weft__Link__HttpVhost *from, struct http_vhost **out);
int message_cluster_encode(const struct http_cluster *cluster, Weft__Link__HttpCluster **out);
int message_cluster_decode(const Weft__Link__HttpCluster *from, struct http_cluster **out);
int message_filters_encode(const struct http_filters *filters, Weft__Link__HttpFilters **out);
int message_filters_decode(const Weft__Link__HttpFilters *from, struct http_filters **out);
int message_telemetry_encode(const struct telemetry *telemetry, Weft__Link__Telemetry **out);
int message_telemetry_decode(const Weft__Link__Telemetry *from, struct telemetry **out);
