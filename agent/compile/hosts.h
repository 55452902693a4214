/* SPDX-License-Identifier: Apache-2.0 */
/* Names that resources give in place of addresses, and what they resolved to. */
#pragma once

#include "agent/base/addr.h"

#include <stddef.h>

struct compile_input;
struct compiler;
struct resource;
struct service_node;

struct resolved {
	char *name;
	struct addr *addrs; /* sorted, unique */
	size_t n;
};

int hosts_init(struct compiler *c); /* 0 or -ENOMEM */
void hosts_done(struct compiler *c);
const struct resolved *hosts_get(const struct compiler *c, const char *name); /* NULL: not (yet) known */
/* Takes what was resolved in, and marks dirty what uses a name whose addresses changed. 0 or -ENOMEM. */
int hosts_update(struct compiler *c, const struct compile_input *in);
/* The services that use a name that resolved to this address. */
int hosts_each_user(struct compiler *c, const struct addr *a,
		    int (*fn)(struct compiler *c, struct service_node *node, void *arg), void *arg);
/* Makes compiler_hosts anew. 0 or -ENOMEM. */
int hosts_wanted_update(struct compiler *c);
/* The names that an entry needs: calls back for each. host: the ServiceEntry's host that is meant. */
int service_entry_hosts(const struct resource *r, const char *host, int (*on_name)(const char *name, void *arg),
			void *arg);
