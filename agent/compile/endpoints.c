/* SPDX-License-Identifier: Apache-2.0 */
/* Which workloads a selector chooses, and what endpoints of a port they are. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/build.h"
#include "agent/compile/endpoints.h"

void bag_key_label(struct bag_key *key, const char *ns, const char *label, const char *value)
{
	const char *parts[] = { ns, label, value };

	/* Namespaces, label keys and values, and host names are at most 253, 317, 63 and 255 bytes. */
	key->len = 0;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		size_t len = strnlen(parts[i], sizeof(key->bytes) / 3 - 1);
		memcpy(key->bytes + key->len, parts[i], len);
		key->len += len;
		key->bytes[key->len++] = '\0';
	}
}

int workloads_selected(const struct compiler *c, const char *ns, const struct string_map *selector,
		       int (*on_workload)(struct workload_node *node, void *arg), void *arg)
{
	struct bag_items fewest = { 0 };

	for (size_t i = 0; i < selector->n; i++) {
		struct bag_key key;
		bag_key_label(&key, ns, selector->v[i].key, selector->v[i].value);
		struct bag_items items = bag_get(&c->by_label, key.bytes, key.len);
		if (!items.n)
			return 0;
		if (!fewest.n || items.n < fewest.n)
			fewest = items;
	}
	for (size_t i = 0; i < fewest.n; i++) {
		struct workload_node *node = fewest.v[i];
		if (!labels_selected(selector, node->object->labels, node->object->label_count))
			continue;
		int rc = on_workload(node, arg);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int endpoint_add(struct endpoint_list *list, const struct endpoint *e)
{
	if (mem_reserve(&list->v, &list->cap, list->n + 1, sizeof(*list->v)) < 0)
		return -ENOMEM;
	list->v[list->n++] = *e;
	return 0;
}

int endpoints_add_workload(struct endpoint_list *list, struct workload *w, uint16_t port)
{
	for (size_t i = 0; i < w->addr_count; i++) {
		struct endpoint e = { .addr = w->addrs[i], .port = port, .weight = w->weight, .workload = w };
		if (endpoint_add(list, &e) < 0)
			return -ENOMEM;
	}
	return 0;
}

uint16_t workload_entry_port(const struct workload_entry_spec *spec, const char *name)
{
	for (size_t i = 0; name && i < spec->ports.n; i++)
		if (strcmp(spec->ports.v[i].key, name) == 0)
			return spec->ports.v[i].port;
	return 0;
}

static bool name_is(const char *name, const char *word)
{
	size_t len = strlen(word);

	return strncasecmp(name, word, len) == 0 && (name[len] == '\0' || name[len] == '-');
}

enum app_protocol app_protocol_of(const char *name, bool is_udp)
{
	static const struct {
		const char *word;
		enum app_protocol app;
	} words[] = {
		{ "http2", APP_HTTP2 },
		{ "http", APP_HTTP },
		{ "grpc", APP_GRPC },
		{ "https", APP_TLS },
		{ "tls", APP_TLS },
		{ "tcp", APP_TCP },
		{ "mongo", APP_TCP },
		{ "mysql", APP_TCP },
		{ "redis", APP_TCP },
		{ "udp", APP_UDP },
		{ "kubernetes.io/h2c", APP_HTTP2 },
		{ "kubernetes.io/ws", APP_HTTP },
	};

	if (is_udp)
		return APP_UDP;
	for (size_t i = 0; name && i < ARRAY_SIZE(words); i++)
		if (name_is(name, words[i].word))
			return words[i].app;
	return APP_UNKNOWN;
}

static int on_addr_cmp(const void *a, const void *b)
{
	return addr_cmp(a, b);
}

int dns_addrs_of_endpoints(struct service *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->port_count; i++)
		n += s->ports[i].endpoint_count;
	s->dns_addrs = calloc(n + 1, sizeof(*s->dns_addrs));
	if (!s->dns_addrs)
		return -ENOMEM;
	n = 0;
	for (size_t i = 0; i < s->port_count; i++)
		for (size_t k = 0; k < s->ports[i].endpoint_count; k++)
			if (s->ports[i].endpoints[k].healthy)
				s->dns_addrs[n++] = s->ports[i].endpoints[k].addr;
	qsort(s->dns_addrs, n, sizeof(*s->dns_addrs), on_addr_cmp);
	for (size_t i = 0; i < n; i++)
		if (!s->dns_addr_count || !addr_eq(&s->dns_addrs[s->dns_addr_count - 1], &s->dns_addrs[i]))
			s->dns_addrs[s->dns_addr_count++] = s->dns_addrs[i];
	return 0;
}

int dns_addrs_of_vips(struct service *s)
{
	s->dns_addrs = calloc(s->vip_count + 1, sizeof(*s->dns_addrs));
	if (!s->dns_addrs)
		return -ENOMEM;
	for (size_t i = 0; i < s->vip_count; i++)
		if (s->vips[i].bits == 128)
			s->dns_addrs[s->dns_addr_count++] = s->vips[i].addr;
	return 0;
}

struct vip_family vip_family_of(const struct service *s)
{
	struct vip_family family = { 0 };

	for (size_t i = 0; i < s->vip_count; i++) {
		/* ::/0 holds the IPv4 addresses too. */
		bool v4 = s->vips[i].bits >= 96 && addr_is_v4(&s->vips[i].addr);
		family.v4 |= v4;
		family.v6 |= !v4;
	}
	return family;
}

int vips_allocate(struct compiler *c, struct service *s, const struct resource *about, struct notes *notes)
{
	if (!c->mesh.auto_allocate_vips)
		return 0;

	char key[ADDR_TEXT_MAX + 640];
	snprintf(key, sizeof(key), "%s/%s", s->ns, s->hostname);
	struct addr v4, v6;
	int rc = vip_pool_get(&c->vips, key, &v4, &v6);
	if (rc == -ENOSPC) {
		NOTE(notes, FINDING_ERROR, about, "%s: all %d addresses that can be allocated are taken", s->hostname,
		     VIP_POOL_SIZE);
		return 0;
	}
	if (rc < 0)
		return rc;
	s->vips = calloc(2, sizeof(*s->vips));
	if (!s->vips)
		return -ENOMEM;
	s->vips[0] = (struct cidr){ v4, 128 };
	s->vips[1] = (struct cidr){ v6, 128 };
	s->vip_count = 2;
	return 0;
}

static bool any_native(const struct service *s, bool v4)
{
	for (size_t i = 0; i < s->port_count; i++) {
		const struct service_port *port = &s->ports[i];
		if (v4 && port->slot_count)
			return true;
		/* An IPv6 schedule of IPv4 endpoints only is the makeshift of service.h. */
		for (size_t k = 0; !v4 && k < port->slot6_count; k++) {
			const struct endpoint *e = &port->endpoints[port->slots6[k]];
			if (!addr_is_v4(&e->addr) || port->slots_id != port->slots6_id)
				return true;
		}
	}
	return false;
}

int dns_addrs_of_allocated(struct service *s)
{
	bool v4 = any_native(s, true), v6 = any_native(s, false);
	if (!s->vip_count)
		return 0;

	s->dns_addrs = calloc(2, sizeof(*s->dns_addrs));
	if (!s->dns_addrs)
		return -ENOMEM;
	if (v4 || !v6)
		s->dns_addrs[s->dns_addr_count++] = s->vips[0].addr;
	if (v6)
		s->dns_addrs[s->dns_addr_count++] = s->vips[1].addr;
	return 0;
}

int export_to_set(struct service *s, const char *const *names, size_t n)
{
	if (!n)
		return 0;
	s->export_to = calloc(n, sizeof(*s->export_to));
	if (!s->export_to)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const char *name = strcmp(names[i], ".") == 0 ? s->ns : strcmp(names[i], "~") == 0 ? "" : names[i];
		s->export_to[i] = strdup(name);
		if (!s->export_to[i])
			return -ENOMEM;
		s->export_to_count++;
	}
	return 0;
}
