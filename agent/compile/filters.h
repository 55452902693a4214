/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a workload's requests besides routing: one object for each direction, made of several kinds. Each part
 * appends to it; filters.c has the list of them. */
#pragma once

#include "agent/compile/build.h"
#include "agent/model/filters.h"

/* Whose filters they are. */
struct filters_of {
	const struct compiler *c;
	const char *ns;
	const struct label *labels;
	size_t label_count;
	const struct policy *policy;
	struct notes *notes;
	const struct resource *r; /* the workload's own */
};

/* *inbound, *outbound: NULL when there are none. 0 or -ENOMEM. */
int filters_build(const struct filters_of *of, struct http_filters **inbound, struct http_filters **outbound);

/* Those that are the same as the old ones become them. Either may be NULL. */
void filters_keep(struct http_filters **fresh, struct http_filters *old);

/* --- the parts: each 0 or -ENOMEM */
int request_authn_add(const struct filters_of *of, struct http_filters *inbound); /* RequestAuthentication */
int ext_authz_add(const struct filters_of *of, struct http_filters *inbound);	  /* providers of CUSTOM rules */

int envoy_filter_inbound(const struct filters_of *of, struct http_filters *inbound); /* EnvoyFilters, the annotation */
int envoy_filter_outbound(const struct filters_of *of, struct http_filters *outbound);

/* proxy_config.c: ProxyConfig's headers, the same for both directions; notes are made of the inbound one. */
int proxy_config_add(const struct filters_of *of, struct http_filters *inbound);
int proxy_config_outbound(const struct filters_of *of, struct http_filters *outbound);
int proxy_config_look(const struct resource *r, struct notes *notes); /* of the MeshConfig; 0 or -ENOMEM */

/* Notes about a CUSTOM policy whose provider can't be asked. */
void ext_authz_look(const struct compiler *c, const struct resource *r, struct notes *notes);

/* Notes about patches for gateways. */
void envoy_filter_look(const struct resource *r, struct notes *notes);
void request_authn_look(const struct resource *r, struct notes *notes); /* inline keys that are none */

/* --- jwks.c: key sets that the agent fetches */
struct compile_input;
int jwks_update(struct compiler *c, const struct compile_input *in); /* marks this node's workloads when keys differ */
int jwks_wanted_update(struct compiler *c);			     /* after the workloads were built */
const char *jwks_get(const struct compiler *c, const char *uri);     /* NULL: not there (yet) */
void jwks_done(struct compiler *c);
