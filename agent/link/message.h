/* SPDX-License-Identifier: Apache-2.0 */
/* Between the protocol's generated structs and ours: packing, addresses, policies. Decoders believe nothing: lengths,
 * enums and ranges are checked. Pure, but for message_send(). */
#pragma once

#include "agent/base/addr.h"
#include "agent/link/link.pb-c.h"

#include <stddef.h>

enum { LINK_VERSION = 1, LINK_HELPER_MESSAGE_MAX = 64 << 10 }; /* what a helper may send at once */

struct channel;
struct policy;

/* Packs and sends; errors as channel_send(). */
int message_send(struct channel *channel, const ProtobufCMessage *message, const int *fds, size_t fd_count);

/* to points into from, which must outlive it. */
void message_addr_port_set(Weft__Link__AddrPort *to, const struct addr_port *from);
int message_addr_port_get(const Weft__Link__AddrPort *from, struct addr_port *to); /* 0 or -EINVAL; NULL is invalid */

/* NULL: no memory. Freed with weft__link__policy__free_unpacked(). */
Weft__Link__Policy *message_policy_encode(const struct policy *policy);
int message_policy_decode(const Weft__Link__Policy *from, struct policy **out); /* 0, -EINVAL or -ENOMEM */
