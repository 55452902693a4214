/* SPDX-License-Identifier: Apache-2.0 */
/* BackendTLSPolicies: TLS to the endpoints of a service for all its callers, where no DestinationRule says something of TLS
 * for the port. Of several for a port the one that names it, then the first by name. */
#pragma once

#include "agent/compile/http.h"

struct http_cluster;

int http_on_backend_tls(struct compiler *c, const struct resource *old, const struct resource *new);
/* The policy in force for a port of a service, DestinationRules apart; NULL: none. */
const struct resource *http_backend_tls(const struct compiler *c, const struct service *s,
					const struct service_port *port);
/* 0 or -ENOMEM. What can't be found trusts nobody. */
int http_backend_tls_set(struct compiler *c, struct http_cluster *out, const struct resource *policy);
void http_backend_tls_look(const struct compiler *c, const struct resource *policy, struct notes *notes);
