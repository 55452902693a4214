/* SPDX-License-Identifier: Apache-2.0 */
/* What http_virtual_service.c and http_delegate.c share, and some that the Gateway API's routes need too. */
#pragma once

#include "agent/compile/http.h"

struct destination;
struct opt_ms;
struct string_match;
struct vs_retry;
struct vs_route;

uint32_t http_ppm(double percent);
uint32_t http_ms(const struct opt_ms *t);				  /* 0: not set, or zero */
char *http_join(struct http_routing *to, const struct string_list *list); /* with commas; NULL: it is empty */
struct l4_route *http_l4_add(struct http_routing *to, const struct resource *r, uint32_t line); /* NULL: no memory */
void http_vs_string(struct http_routing *to, struct http_text *out, const struct string_match *m, bool ignore_case);
char *http_vs_cluster(struct http_routing *to, const struct resource *r, const struct destination *d);
void http_vs_actions(struct http_routing *to, struct http_route *route, const struct vs_route *from,
		     const struct resource *r);
/* from NULL: out stays as it is. */
void http_vs_retry(struct http_routing *to, struct http_retry *out, const struct vs_retry *from, const char *route,
		   const struct resource *r);
/* One route of a document, which may be a delegate with the conditions of its root merged in. */
void http_vs_route(struct http_routing *to, const struct vs_route *from, const struct resource *r);
/* The routes of the VirtualService that a route delegates to. */
void http_vs_delegate(struct http_routing *to, const struct vs_route *root, const struct resource *r);
