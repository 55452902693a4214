/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/service.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/model/identity.h"
#include "agent/model/workload.h"

struct service *service_new(void)
{
	struct service *s = calloc(1, sizeof(*s));
	if (s)
		s->refs = 1;
	return s;
}

struct service *service_ref(struct service *s)
{
	__atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
	return s;
}

void service_port_done(struct service_port *port)
{
	free(port->name);
	free(port->endpoints);
	free(port->slots);
	free(port->slots6);
	memset(port, 0, sizeof(*port));
}

void service_unref(struct service *s)
{
	if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;

	for (size_t i = 0; i < s->port_count; i++)
		service_port_done(&s->ports[i]);
	for (size_t i = 0; i < s->export_to_count; i++)
		free(s->export_to[i]);
	free(s->ports);
	free(s->export_to);
	free(s->name);
	free(s->ns);
	free(s->hostname);
	free(s->vips);
	free(s->dns_addrs);
	free(s->origin);
	free(s);
}

const struct service_port *service_port_find(const struct service *s, uint16_t port, uint8_t proto)
{
	for (size_t i = 0; i < s->port_count; i++)
		if (s->ports[i].port == port && s->ports[i].proto == proto)
			return &s->ports[i];
	return NULL;
}

bool app_says_host(enum app_protocol app)
{
	return app == APP_HTTP || app == APP_HTTP2 || app == APP_GRPC || app == APP_TLS;
}

bool service_visible_from(const struct service *s, const char *ns)
{
	if (!s->export_to_count || !ns)
		return true;
	for (size_t i = 0; i < s->export_to_count; i++)
		if (strcmp(s->export_to[i], "*") == 0 || strcmp(s->export_to[i], ns) == 0)
			return true;
	return false;
}

/* All that the data path knows of an endpoint: two schedules with equal ids must be interchangeable. */
static uint64_t endpoint_hash(const struct endpoint *e)
{
	const struct workload *w = e->workload;
	struct {
		uint8_t addr[16];
		uint32_t identity;
		uint16_t port;
		uint8_t enrolled, tunnel, local, known;
	} flat = { .port = e->port };

	memcpy(flat.addr, e->addr.b, sizeof(flat.addr));
	if (w) {
		flat.identity = w->identity ? w->identity->id : 0;
		flat.enrolled = w->enrolled;
		flat.tunnel = (uint8_t)w->tunnel;
		flat.local = (uint8_t)w->place;
		flat.known = 1;
	}
	return hash64(HASH64_INIT, &flat, sizeof(flat));
}

static uint64_t schedule_hash(const struct service_port *port, const uint32_t *slots, size_t count)
{
	uint64_t id = HASH64_INIT;
	uint32_t last = UINT32_MAX;
	uint64_t last_hash = 0;

	for (size_t i = 0; i < count; i++) {
		if (slots[i] != last) {
			last = slots[i];
			last_hash = endpoint_hash(&port->endpoints[last]);
		}
		/* By words, not bytes: a Maglev table has up to 65537 slots. */
		id = (id ^ last_hash) * 0x9e3779b97f4a7c15ull;
		id ^= id >> 29;
	}
	return count && !id ? 1 : count ? id : 0;
}

void service_port_seal(struct service_port *port)
{
	port->slots_id = schedule_hash(port, port->slots, port->slot_count);
	port->slots6_id = schedule_hash(port, port->slots6, port->slot6_count);
}
