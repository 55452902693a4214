/* SPDX-License-Identifier: Apache-2.0 */
/* Targets and clusters of a world, and requests as a table writes them. Everything fails the test when it can't be done. */
#pragma once

#include "agent/model/cluster.h"
#include "agent/model/http.h"
#include "agent/model/l7.h"
#include "tests/unit/compile/world.h"

/* caller: "shop/frontend-1", or NULL. addr: "10.60.0.20:80". The caller unrefs. */
struct l7_target *http_target(const struct world *w, const char *caller, const char *addr, const char *host);
struct http_cluster *http_cluster(const struct world *w, const char *name);
bool http_cluster_missing(const struct world *w, const char *name);

/* A request in words: "GET /path?query host=a x-canary=true"; what it is matched against, from the caller's labels. */
struct http_request_view http_request(const struct world *w, const char *caller, const char *text);
/* The name of the route that it takes, or "-". */
const char *http_taken(const struct world *w, const struct l7_target *t, const char *caller, const char *text);
const struct http_route *http_route_named(const struct l7_target *t, const char *name);
/* "outbound|80|v1|catalog... 95, outbound|... 5"; static. */
const char *http_clusters_of(const struct http_route *route);
/* "10.0.0.1:8080 p1 w2, ..."; static. */
const char *http_endpoints_of(const struct http_cluster *c);
