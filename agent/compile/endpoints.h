/* SPDX-License-Identifier: Apache-2.0 */
/* What service.c and service_entry.c share. */
#pragma once

#include "agent/compile/build.h"

int endpoint_add(struct endpoint_list *list, const struct endpoint *e); /* 0 or -ENOMEM */
/* One for each address. */
int endpoints_add_workload(struct endpoint_list *list, struct workload *w, uint16_t port);
/* The port that an entry has for a service port's name; 0: none. */
uint16_t workload_entry_port(const struct workload_entry_spec *spec, const char *name);
/* By an appProtocol, a port's name ("http-web") or a ServiceEntry's protocol ("HTTP"); NULL: unknown. */
enum app_protocol app_protocol_of(const char *name, bool is_udp);
/* The endpoints' addresses as what the service's name resolves to. 0 or -ENOMEM. */
int dns_addrs_of_endpoints(struct service *s);
/* The single addresses among the VIPs. 0 or -ENOMEM. */
int dns_addrs_of_vips(struct service *s);
struct vip_family vip_family_of(const struct service *s);
/* A pair of VIPs from the pool; nothing when the mesh doesn't give any. 0 or -ENOMEM. */
int vips_allocate(struct compiler *c, struct service *s, const struct resource *about, struct notes *notes);
/* A host with allocated VIPs resolves to those whose family its endpoints are reached by. */
int dns_addrs_of_allocated(struct service *s);
int export_to_set(struct service *s, const char *const *names, size_t n); /* 0 or -ENOMEM */

int service_core_build(struct compiler *c, struct service *s, const struct resource *r, const struct rules_asked *asked,
		       struct notes *notes);
int service_entry_build(struct compiler *c, struct service *s, const struct resource *r,
			const struct rules_asked *asked, struct notes *notes);
