/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting the sockets that the agent gives, which are of either family. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>

struct tcp_settings;

/* Begins to connect a non-blocking socket, without Nagle's delay. from: what POD_CONNECT_LOCAL shows to the application;
 * NULL: nothing. 0: it stands already (asked when `near`: in one network namespace, or one node, the handshake is over by
 * then and a turn of the loop is saved), -EINPROGRESS, or -errno. */
int transport_dial(int fd, const struct addr_port *from, const struct addr_port *to, bool near);
void transport_keepalive(int fd, const struct tcp_settings *tcp); /* as far as it says */
