/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/model/identity.h"
#include "tests/unit/compile/world.h"

static const char *const lb_names[] = { "least-request", "round-robin", "random", "hash", "passthrough" };
static const char *const kind_names[] = { "cluster", "headless", "entry" };
static const char *const mode_names[] = { "PERMISSIVE", "STRICT", "DISABLE" };
static const char *const action_names[] = { "ALLOW", "DENY", "AUDIT", "CUSTOM" };
static const char *const place_names[] = { "remote", "netns", "pid", "cgroup" };

static void slots_dump(struct sb *sb, const char *name, const struct service_port *p, const uint32_t *slots, size_t n)
{
	if (!n)
		return;
	sb_addf(sb, "    %s", name);
	for (size_t i = 0; i < n && i < 16; i++) {
		char buf[ADDR_PORT_TEXT_MAX];
		struct addr_port ap = { p->endpoints[slots[i]].addr, p->endpoints[slots[i]].port };
		sb_addf(sb, " %s", addr_port_text(&ap, buf));
	}
	sb_addf(sb, "%s\n", n > 16 ? " ..." : "");
}

static void service_dump(struct sb *sb, const struct service *s)
{
	char buf[CIDR_TEXT_MAX];

	sb_addf(sb, "service %s/%s (%s, %s)", s->ns, s->hostname, kind_names[s->kind], s->origin);
	for (size_t i = 0; i < s->vip_count; i++)
		sb_addf(sb, " %s", cidr_text(&s->vips[i], buf));
	if (s->affinity_timeout_s)
		sb_addf(sb, " affinity %us", s->affinity_timeout_s);
	sb_add(sb, "\n  dns");
	for (size_t i = 0; i < s->dns_addr_count; i++)
		sb_addf(sb, " %s", addr_text(&s->dns_addrs[i], buf));
	sb_add(sb, "\n");
	for (size_t i = 0; i < s->port_count; i++) {
		const struct service_port *p = &s->ports[i];
		sb_addf(sb, "  port %u/%s %s app %d %s\n", p->port, p->proto == IPPROTO_UDP ? "udp" : "tcp", p->name,
			p->app, lb_names[p->lb]);
		for (size_t k = 0; k < p->endpoint_count; k++) {
			const struct endpoint *e = &p->endpoints[k];
			char ap_text[ADDR_PORT_TEXT_MAX];
			struct addr_port ap = { e->addr, e->port };
			sb_addf(sb, "    endpoint %s weight %u priority %u %s%s\n", addr_port_text(&ap, ap_text),
				e->weight, e->priority, e->workload ? e->workload->uid : "-",
				e->healthy ? "" : " unhealthy");
		}
		slots_dump(sb, "v4", p, p->slots, p->slot_count);
		slots_dump(sb, "v6", p, p->slots6, p->slot6_count);
	}
}

static void strings_dump(struct sb *sb, const char *name, const struct match_strings *m)
{
	static const char *const forms[] = { "=%s", "=%s*", "=*%s", "=*%s" };
	for (size_t i = 0; i < m->n; i++) {
		sb_addf(sb, " %s", name);
		char form[16];
		str_copy(form, sizeof(form), forms[m->v[i].kind]);
		char *at = strstr(form, "%s");
		sb_add_bytes(sb, form, (size_t)(at - form));
		sb_add(sb, m->v[i].text);
		sb_add(sb, at + 2);
	}
}

static void cidrs_dump(struct sb *sb, const char *name, const struct match_cidrs *m)
{
	char buf[CIDR_TEXT_MAX];

	for (size_t i = 0; i < m->n; i++)
		sb_addf(sb, " %s=%s", name, cidr_text(&m->v[i], buf));
}

static void ports_dump(struct sb *sb, const char *name, const struct match_ports *m)
{
	for (size_t i = 0; i < m->n; i++)
		sb_addf(sb, " %s=%u", name, m->v[i]);
}

static void policy_dump(struct sb *sb, const struct policy *p)
{
	sb_addf(sb, "  mtls %s by %s\n", mode_names[p->mtls], p->mtls_origin);
	for (size_t i = 0; i < p->port_mtls_count; i++)
		sb_addf(sb, "  mtls port %u %s\n", p->port_mtls[i].port, mode_names[p->port_mtls[i].mode]);
	if (p->has_allow)
		sb_addf(sb, "  allow by %s\n", p->allow_names);
	for (size_t i = 0; i < p->rule_count; i++) {
		const struct policy_rule *r = &p->rules[i];
		sb_addf(sb, "  %s %s[%u] %s%s\n", action_names[r->action], r->name, r->index, r->origin,
			r->dry_run ? " dry-run" : "");
		for (size_t k = 0; k < r->match_count; k++) {
			const struct policy_match *m = &r->matches[k];
			sb_add(sb, "    match");
			strings_dump(sb, "principal", &m->principals);
			strings_dump(sb, "not-principal", &m->not_principals);
			strings_dump(sb, "namespace", &m->namespaces);
			strings_dump(sb, "not-namespace", &m->not_namespaces);
			strings_dump(sb, "account", &m->service_accounts);
			strings_dump(sb, "not-account", &m->not_service_accounts);
			cidrs_dump(sb, "ip", &m->ip_blocks);
			cidrs_dump(sb, "not-ip", &m->not_ip_blocks);
			cidrs_dump(sb, "remote-ip", &m->remote_ip_blocks);
			cidrs_dump(sb, "not-remote-ip", &m->not_remote_ip_blocks);
			cidrs_dump(sb, "to-ip", &m->destination_ips);
			cidrs_dump(sb, "not-to-ip", &m->not_destination_ips);
			ports_dump(sb, "port", &m->ports);
			ports_dump(sb, "not-port", &m->not_ports);
			sb_add(sb, m->has_http ? " http\n" : "\n");
		}
	}
}

static void workload_dump(struct sb *sb, const struct workload *w)
{
	char buf[ADDR_TEXT_MAX];

	sb_addf(sb, "workload %s %s", w->uid, w->identity->uri);
	for (size_t i = 0; i < w->addr_count; i++)
		sb_addf(sb, " %s", addr_text(&w->addrs[i], buf));
	sb_addf(sb, "\n  node %s locality %s canonical %s %s weight %u %s%s%s\n", w->node ? w->node : "-", w->locality,
		w->canonical_name, w->canonical_revision, w->weight, w->enrolled ? "enrolled " : "",
		w->tunnel == TUNNEL_HBONE ? "hbone " : "", place_names[w->place]);
	if (w->policy)
		policy_dump(sb, w->policy);
}

char *plan_dump(const struct plan *plan)
{
	struct sb sb = { 0 };

	sb_addf(&sb, "node %s trust domain %s %s\n", plan->node, plan->mesh.trust_domain,
		plan->mesh.outbound == OUTBOUND_REGISTRY_ONLY ? "REGISTRY_ONLY" : "ALLOW_ANY");
	for (size_t i = 0; i < plan->identity_count; i++)
		sb_addf(&sb, "identity %s\n", plan->identities[i]->uri);
	for (size_t i = 0; i < plan->workload_count; i++)
		workload_dump(&sb, plan->workloads[i]);
	for (size_t i = 0; i < plan->service_count; i++)
		service_dump(&sb, plan->services[i]);
	return sb_take(&sb);
}
