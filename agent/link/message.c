/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/link/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/link/channel.h"

int message_send(struct channel *channel, const ProtobufCMessage *message, const int *fds, size_t fd_count)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	if (len > CHANNEL_MESSAGE_MAX)
		return -EMSGSIZE;

	uint8_t small[2048];
	AUTO(mem_freep) uint8_t *large = len > sizeof(small) ? malloc(len) : NULL;
	if (len > sizeof(small) && !large)
		return -ENOMEM;
	uint8_t *bytes = large ? large : small;
	protobuf_c_message_pack(message, bytes);
	return channel_send(channel, bytes, len, fds, fd_count);
}

void message_addr_port_set(Weft__Link__AddrPort *to, const struct addr_port *from)
{
	weft__link__addr_port__init(to);
	to->addr.data = (uint8_t *)(uintptr_t)from->addr.b; /* only read when packed */
	to->addr.len = sizeof(from->addr.b);
	to->port = from->port;
}

int message_addr_port_get(const Weft__Link__AddrPort *from, struct addr_port *to)
{
	if (!from || from->addr.len != sizeof(to->addr.b) || from->port > UINT16_MAX)
		return -EINVAL;
	memcpy(to->addr.b, from->addr.data, sizeof(to->addr.b));
	to->port = (uint16_t)from->port;
	return 0;
}
