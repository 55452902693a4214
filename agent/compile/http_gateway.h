/* SPDX-License-Identifier: Apache-2.0 */
/* What http_gateway_api.c and http_gateway_actions.c share. */
#pragma once

#include "agent/compile/http.h"
#include "agent/config/kinds_gateway_api.h"

enum gateway_use { GATEWAY_REQUESTS, GATEWAY_COPIES, GATEWAY_CONNECTIONS };

/* The name of the cluster; NULL: not a valid backend, which was noted (or no memory). use: what goes to it. */
char *gateway_backend_cluster(struct http_routing *to, const struct resource *r, const struct route_backend *b,
			      enum gateway_use use);
/* false: a filter that can't be honoured: the route must answer 500. */
bool gateway_filters_set(struct http_routing *to, struct http_route *route, const struct route_filter *v, size_t n,
			 const struct resource *r);
void gateway_backends_set(struct http_routing *to, struct http_route *route, const struct route_backend_ref *v,
			  size_t n, const struct resource *r, bool sessions);
void gateway_session_set(struct http_routing *to, struct http_route *route, const struct route_session *from);
void gateway_retry_set(struct http_routing *to, struct http_retry *out, const struct route_retry *from);
