/* SPDX-License-Identifier: Apache-2.0 */
/* From what a person types ("frontend-1", "shop/frontend-1", "catalog.shop:80", "10.60.0.20") to objects of the plan.
 * Internal to agent/control; pure. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stdint.h>

struct err;
struct plan;
struct service;
struct service_port;
struct workload;

struct located_source {
	const struct workload *workload; /* NULL: nobody the mesh knows */
	struct addr addr;
};

struct located_destination {
	const struct service *service;	 /* NULL: an address or workload was meant */
	const struct service_port *port; /* of service; NULL: it has no such port */
	const struct workload *workload; /* when an address of it was meant */
	struct addr_port asked; /* what the caller would connect to; address zero: one that nothing else is known of */
	bool any;		/* of what is called at such addresses what the client says tells more */
	uint8_t proto;
	char host[254]; /* the name that was asked for; "": an address was */
};

/* -ENOENT: nothing of that name; -EINVAL: several; err says which. */
int locate_source(const struct plan *plan, const char *text, struct located_source *out, struct err *err);
/* HOST[:PORT] as seen by a workload of namespace `ns` (NULL: none). proto 0: the service port's, else TCP. */
int locate_destination(const struct plan *plan, const char *ns, const char *text, uint8_t proto,
		       struct located_destination *out, struct err *err);
