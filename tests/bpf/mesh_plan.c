// SPDX-License-Identifier: Apache-2.0
/* What a test's mesh consists of: workloads, policies and services made by hand, and the plan of them. */
#include "tests/bpf/mesh.h"

#include "agent/base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct workload *workload_build(const struct mesh *m, int i)
{
	const struct mesh_pod *p = &m->pods[i];
	struct workload *w = workload_new();
	bool remote = i == 1 && m->remote_b;

	w->uid = str_format("t/%s", p->name);
	w->name = strdup(p->name);
	w->ns = strdup("t");
	w->node = strdup(remote ? "other" : "here");
	w->locality = strdup("");
	w->canonical_name = strdup(p->name);
	w->canonical_revision = strdup("v1");
	w->owner = strdup(p->name);
	w->identity = identity_new("cluster.local", "t", p->name);
	w->identity->id = 100 + (uint32_t)i;
	w->addrs = calloc(2, sizeof(*w->addrs));
	addr_parse(p->v4, &w->addrs[0]);
	addr_parse(p->v6, &w->addrs[1]);
	w->addr_count = 2;
	w->enrolled = !(i == 1 && m->plain_b);
	w->tunnel = w->enrolled ? TUNNEL_HBONE : TUNNEL_NONE;
	w->place = remote || !w->enrolled ? WORKLOAD_REMOTE : WORKLOAD_NETNS;
	w->place_name = strdup(p->netns);
	if (w->enrolled && !remote) {
		w->l7_ports = calloc(p->l7_port_count + 1, sizeof(*w->l7_ports));
		for (size_t port = 0; port < p->l7_port_count; port++)
			w->l7_ports[port] = p->l7_ports[port];
		w->l7_port_count = p->l7_port_count;
		w->l7_other_ports = p->l7_other_ports;
		w->policy = p->policy ? policy_ref(p->policy) : policy_new();
		if (!p->policy)
			w->policy->id = 1;
	}
	return w;
}

static struct workload *extra_build(const struct mesh *m)
{
	struct workload *w = workload_new();

	w->uid = strdup("t/host");
	w->name = strdup("host");
	w->ns = strdup("t");
	w->node = strdup("here");
	w->locality = strdup("");
	w->canonical_name = strdup("host");
	w->canonical_revision = strdup("v1");
	w->owner = strdup("host");
	w->identity = identity_new("cluster.local", "t", "host");
	w->identity->id = 200;
	w->addrs = calloc(1, sizeof(*w->addrs));
	addr_parse(m->extra.v4, &w->addrs[0]);
	w->addr_count = 1;
	w->enrolled = true;
	w->tunnel = TUNNEL_HBONE;
	w->place = WORKLOAD_CGROUP;
	w->place_name = strdup(m->extra.cgroup);
	w->ports = calloc(1, sizeof(*w->ports));
	w->ports[0] = (struct port_range){ m->extra.port, m->extra.port };
	w->port_count = 1;
	w->policy = m->extra.policy ? policy_ref(m->extra.policy) : policy_new();
	if (!m->extra.policy)
		w->policy->id = 1;
	return w;
}

/* Endpoints refer to workloads of one plan, so services are made anew for each. */
static void endpoint_resolve(const struct plan *plan, struct service *s)
{
	for (size_t i = 0; i < s->port_count; i++)
		for (size_t j = 0; j < s->ports[i].endpoint_count; j++) {
			struct endpoint *e = &s->ports[i].endpoints[j];

			e->workload = plan_workload_by_addr(plan, &e->addr);
		}
}

static struct service *service_copy(const struct service *s)
{
	struct service *c = service_new();

	c->id = s->id;
	c->name = strdup(s->name);
	c->ns = strdup(s->ns);
	c->hostname = strdup(s->hostname);
	c->kind = s->kind;
	c->by_endpoint = s->by_endpoint;
	c->any_address = s->any_address;
	c->vip_count = s->vip_count;
	c->vips = calloc(s->vip_count + 1, sizeof(*c->vips));
	memcpy(c->vips, s->vips, s->vip_count * sizeof(*c->vips));
	c->affinity_timeout_s = s->affinity_timeout_s;
	c->lb = s->lb;
	c->port_count = 1;
	c->ports = calloc(1, sizeof(*c->ports));
	const struct service_port *from = &s->ports[0];
	struct service_port *to = &c->ports[0];

	*to = *from;
	to->name = strdup(from->name);
	to->lb = c->lb;
	to->endpoints = calloc(from->endpoint_count + 1, sizeof(*to->endpoints));
	memcpy(to->endpoints, from->endpoints, from->endpoint_count * sizeof(*to->endpoints));
	to->slots = calloc(from->endpoint_count + 1, sizeof(uint32_t));
	to->slots6 = calloc(from->endpoint_count + 1, sizeof(uint32_t));
	to->slot_count = to->slot6_count = 0;
	for (uint32_t i = 0; i < from->endpoint_count; i++)
		if (addr_is_v4(&from->endpoints[i].addr))
			to->slots[to->slot_count++] = i;
		else
			to->slots6[to->slot6_count++] = i;
	return c;
}

struct plan *mesh_plan(struct mesh *m)
{
	struct plan *plan = plan_new();

	plan->revision = ++m->revision;
	plan->node = strdup("here");
	plan->mesh.same_node = m->same_node;
	plan->mesh.outbound = m->outbound;
	plan->workloads = calloc(MESH_PODS + 1, sizeof(*plan->workloads));
	plan->workload_count = MESH_PODS;
	for (int i = 0; i < MESH_PODS; i++)
		plan->workloads[i] = workload_build(m, i);
	if (m->extra.cgroup)
		plan->workloads[plan->workload_count++] = extra_build(m);
	for (size_t i = 0; i < plan->workload_count; i++)
		plan->workloads[i]->outbound_policy = (uint8_t)m->outbound;
	plan->services = calloc(m->service_count + 1, sizeof(*plan->services));
	plan->service_count = m->service_count;
	for (size_t i = 0; i < m->service_count; i++)
		plan->services[i] = service_copy(m->services[i]);
	assert_int_equal(plan_seal(plan), 0);
	for (size_t i = 0; i < plan->service_count; i++)
		endpoint_resolve(plan, plan->services[i]);
	return plan;
}

static struct policy *policy_build(void)
{
	static uint64_t last_id = 1000;
	struct policy *p = policy_new();

	p->id = ++last_id;
	return p;
}

struct policy *mesh_policy_strict(void)
{
	struct policy *p = policy_build();

	p->mtls = MTLS_STRICT;
	return p;
}

struct policy *mesh_policy_of(enum policy_action action, const char *principal)
{
	struct policy *p = policy_build();

	p->has_allow = action == POLICY_ALLOW;
	p->rules = calloc(1, sizeof(*p->rules));
	p->rule_count = 1;
	p->rules[0] = (struct policy_rule){
		.action = action, .name = strdup("t/rule"), .origin = strdup("x.yaml:1"), .match_count = 1
	};
	p->rules[0].matches = calloc(1, sizeof(struct policy_match));
	struct match_strings *s = &p->rules[0].matches[0].principals;

	s->v = calloc(1, sizeof(*s->v));
	s->n = 1;
	char *full = str_format("cluster.local/ns/t/sa/%s", principal);

	match_string_init(&s->v[0], full);
	free(full);
	return p;
}

struct service *mesh_service(struct mesh *m, const char *name, const char *vips, uint16_t port, uint8_t proto,
			     const char *endpoints, enum lb_algorithm lb)
{
	struct service *s = service_new();
	char text[256], *save = NULL;

	s->name = strdup(name);
	s->ns = strdup("t");
	s->hostname = str_format("%s.t.svc.cluster.local", name);
	s->id = 1000 + (uint32_t)m->service_count;
	s->lb = lb;
	s->vips = calloc(8, sizeof(*s->vips));
	snprintf(text, sizeof(text), "%s", vips);
	for (char *v = strtok_r(text, " ", &save); v; v = strtok_r(NULL, " ", &save))
		assert_int_equal(cidr_parse(v, &s->vips[s->vip_count++]), 0);
	s->port_count = 1;
	s->ports = calloc(1, sizeof(*s->ports));
	s->ports[0] = (struct service_port){ .port = port, .proto = proto, .name = strdup("p"), .lb = lb };
	s->ports[0].endpoints = calloc(16, sizeof(struct endpoint));
	snprintf(text, sizeof(text), "%s", mesh_text(m, endpoints));
	for (char *v = strtok_r(text, " ", &save); v; v = strtok_r(NULL, " ", &save)) {
		struct endpoint *e = &s->ports[0].endpoints[s->ports[0].endpoint_count++];
		struct addr_port a;

		assert_int_equal(addr_port_parse(v, &a), 0);
		*e = (struct endpoint){ .addr = a.addr, .port = a.port, .weight = 1, .healthy = true };
	}
	m->services[m->service_count++] = s;
	return s;
}

const char *mesh_text(const struct mesh *m, const char *text)
{
	static char buffers[8][512];
	static int next;
	char *out = buffers[next++ % 8];
	size_t n = 0;

	for (const char *p = text; *p && n < 400; p++) {
		if (p[0] == '$' && p[1] >= 'a' && p[1] < 'a' + MESH_PODS) {
			const struct mesh_pod *pod = &m->pods[p[1] - 'a'];

			n += (size_t)snprintf(out + n, 512 - n, "%s", p[2] == '6' ? pod->v6 : pod->v4);
			p += 2;
		} else {
			out[n++] = *p;
		}
	}
	out[n] = '\0';
	return out;
}
