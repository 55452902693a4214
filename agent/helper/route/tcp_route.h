/* SPDX-License-Identifier: Apache-2.0 */
/* Which cluster a connection that is not HTTP goes to. Pure. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stdint.h>

struct l7_target;

/* name: the client's TLS server name, lower case; "": none. random: any number. NULL: none. Borrowed from the target. */
const char *tcp_route_pick(const struct l7_target *target, const struct addr_port *original, const char *name,
			   uint32_t random);
/* Whether a route asks for the name, so that it is worth waiting for. */
bool tcp_route_wants_name(const struct l7_target *target);
