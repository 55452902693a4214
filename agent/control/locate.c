/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control/locate.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/json.h"
#include "agent/model/l7.h"
#include "agent/model/plan.h"

enum { HOST_MAX = 254, NAME_MAX_LEN = 600 };

static bool named(const struct workload *w, const char *text)
{
	char dotted[NAME_MAX_LEN];

	if (str_eq(w->name, text))
		return true;
	snprintf(dotted, sizeof(dotted), "%s.%s", w->name, w->ns);
	return str_eq(dotted, text);
}

static bool app_named(const struct workload *w, const char *text)
{
	char app[NAME_MAX_LEN];
	const char *label = w->label_count ? workload_label(w, "app") : NULL;

	if (!label)
		return false;
	snprintf(app, sizeof(app), "%s/%s", w->ns, label);
	return str_eq(label, text) || str_eq(app, text);
}

/* Of those that a name fits, one of this node is meant rather than one of another. NULL with *count 0: none; with more
 * than one: they are of different namespaces, or (unless any will do) of one. */
static const struct workload *find(const struct plan *plan, const char *text,
				   bool (*fits)(const struct workload *w, const char *text), bool any, size_t *count)
{
	const struct workload *found = NULL;

	*count = 0;
	for (size_t i = 0; i < plan->workload_count; i++) {
		const struct workload *w = plan->workloads[i];
		if (!fits(w, text))
			continue;
		if (!found || !any || !str_eq(found->ns, w->ns))
			++*count;
		if (!found || (!workload_is_local(found) && workload_is_local(w)))
			found = w;
	}
	return found;
}

static const struct workload *find_workload(const struct plan *plan, const char *text, size_t *count)
{
	const struct workload *w = plan_workload_by_uid(plan, text);

	*count = w ? 1 : 0;
	if (!w)
		w = find(plan, text, named, false, count);
	if (!w)
		w = find(plan, text, app_named, true, count);
	return w;
}

int locate_source(const struct plan *plan, const char *text, struct located_source *out, struct err *err)
{
	size_t count;

	*out = (struct located_source){ 0 };
	if (addr_parse(text, &out->addr) == 0) {
		out->workload = plan_workload_by_addr(plan, &out->addr);
		return 0;
	}
	const struct workload *w = find_workload(plan, text, &count);
	if (!w)
		return err_set(err, -ENOENT,
			       "there is no workload \"%.100s\"; write it as NAMESPACE/NAME, NAME or an address "
			       "(`meshctl get workloads` lists them)",
			       text);
	if (count > 1)
		return err_set(err, -EINVAL, "\"%.100s\" is the name of %zu workloads; write it as NAMESPACE/NAME",
			       text, count);
	out->workload = w;
	if (w->addr_count)
		out->addr = w->addrs[0];
	return 0;
}

static bool service_named(const struct service *s, const char *ns, const char *host)
{
	char slash[NAME_MAX_LEN];

	if (str_eq(s->hostname, host))
		return true;
	snprintf(slash, sizeof(slash), "%s/%s", s->ns, s->name);
	if (str_eq(slash, host))
		return true;
	snprintf(slash, sizeof(slash), "%s.%s", s->name, s->ns);
	if (str_eq(slash, host))
		return true;
	return ns && str_eq(s->ns, ns) && str_eq(s->name, host);
}

static const struct service *find_service(const struct plan *plan, const char *ns, const char *host)
{
	const struct dns_name *name = plan_dns_lookup_from(plan, ns, host);
	const struct service *s = name ? name->service : NULL, *by_name = NULL;

	for (size_t i = 0; !s && i < plan->service_count; i++)
		if (service_named(plan->services[i], ns, host))
			s = plan->services[i];
	/* A source outside the mesh has no namespace: a name that is the only one of its kind is still clear. */
	for (size_t i = 0; !s && i < plan->service_count; i++) {
		if (!str_eq(plan->services[i]->name, host))
			continue;
		if (by_name)
			return NULL;
		by_name = plan->services[i];
	}
	return s ? s : by_name;
}

/* Of what is called at any address: the most specific that has the name, of the caller's namespace first. */
static const struct service *find_any(const struct plan *plan, const char *ns, const char *host, uint16_t port)
{
	const struct service *best = NULL;
	size_t n = strlen(host), best_len = 0;

	for (size_t i = 0; i < plan->service_count; i++) {
		const struct service *s = plan->services[i];
		size_t len = strlen(s->hostname);
		if (!s->any_address || s->hostname[0] != '*' || !service_visible_from(s, ns) ||
		    (port && !service_port_find(s, port, IPPROTO_TCP)))
			continue;
		if (n < len || strcasecmp(host + n - (len - 1), s->hostname + 1) != 0)
			continue;
		if (len > best_len || (len == best_len && ns && str_eq(s->ns, ns))) {
			best = s;
			best_len = len;
		}
	}
	return best;
}

static int pick_port(const struct service *s, uint16_t port, uint8_t proto, struct located_destination *out,
		     struct err *err)
{
	struct sb list = { 0 };

	if (!port && s->port_count == 1) {
		out->port = &s->ports[0];
	} else if (!port) {
		for (size_t i = 0; i < s->port_count; i++)
			sb_addf(&list, "%s%u/%s", i ? ", " : "", s->ports[i].port, text_of_proto(s->ports[i].proto));
		int rc = err_set(err, -EINVAL, "%s has several ports (%s); say which: %s:PORT", s->hostname,
				 list.p ? list.p : "none", s->name);
		sb_done(&list);
		return rc;
	} else if (proto) {
		out->port = service_port_find(s, port, proto);
	} else {
		out->port = service_port_find(s, port, IPPROTO_TCP);
		if (!out->port)
			out->port = service_port_find(s, port, IPPROTO_UDP);
	}
	out->service = s;
	out->proto = out->port ? out->port->proto : proto ? proto : IPPROTO_TCP;
	out->asked.port = out->port ? out->port->port : port;
	out->any = s->any_address && out->port && out->port->l7 != L7_NONE;
	for (size_t i = 0; i < s->vip_count; i++) {
		if (s->vips[i].bits != 128)
			continue;
		out->asked.addr = s->vips[i].addr;
		break;
	}
	/* Headless: DNS gives the endpoints' own addresses. */
	if (addr_is_zero(&out->asked.addr) && out->port && out->port->endpoint_count) {
		out->asked.addr = out->port->endpoints[0].addr;
		out->asked.port = out->port->endpoints[0].port;
	}
	return 0;
}

static int locate_address(const struct plan *plan, const struct addr_port *at, uint8_t proto,
			  struct located_destination *out, struct err *err)
{
	uint8_t p = proto ? proto : IPPROTO_TCP;
	const struct plan_vip *vip = plan_vip_find(plan, &at->addr, at->port, p);
	char buf[ADDR_TEXT_MAX];

	if (!vip && !proto && at->port) {
		vip = plan_vip_find(plan, &at->addr, at->port, IPPROTO_UDP);
		p = vip ? IPPROTO_UDP : p;
	}
	if (vip && vip->service->any_address) {
		const struct service_port *port = service_port_find(vip->service, vip->service_port, p);
		out->workload = plan_workload_by_addr(plan, &at->addr);
		out->any = !out->workload && port && port->l7 != L7_NONE;
		if (out->workload || out->any || !at->port)
			vip = NULL; /* a workload's address is its own; else only what is said tells whose it is */
	}
	if (vip && !(vip->endpoint && !at->port)) {
		int rc = pick_port(vip->service, at->port ? vip->service_port : 0, p, out, err);
		out->asked.addr = at->addr;
		if (at->port)
			out->asked.port = at->port;
		if (vip->endpoint)
			out->workload = plan_workload_by_addr(plan, &at->addr);
		return rc;
	}
	if (!at->port)
		return err_set(err, -EINVAL, "say the port of %s: ADDRESS:PORT, [V6]:PORT", addr_text(&at->addr, buf));
	out->asked = *at;
	out->proto = p;
	out->workload = plan_workload_by_addr(plan, &at->addr);
	return 0;
}

/* "host", "host:80", "10.0.0.1", "10.0.0.1:80", "fd00::1", "[fd00::1]:80" */
static int split(const char *text, char host[HOST_MAX], struct addr_port *at, bool *is_addr, struct err *err)
{
	uint64_t port = 0;

	*at = (struct addr_port){ 0 };
	*is_addr = addr_port_parse(text, at) == 0 || addr_parse(text, &at->addr) == 0;
	if (*is_addr)
		return 0;
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : strlen(text);
	if (colon && (str_to_u64(colon + 1, 65535, &port) < 0 || port == 0))
		return err_set(err, -EINVAL, "\"%.100s\": \"%.20s\" is no port", text, colon + 1);
	if (!len || len >= HOST_MAX)
		return err_set(err, -EINVAL, "\"%.100s\" is no destination: write HOST[:PORT]", text);
	memcpy(host, text, len);
	host[len] = 0;
	at->port = (uint16_t)port;
	return 0;
}

int locate_destination(const struct plan *plan, const char *ns, const char *text, uint8_t proto,
		       struct located_destination *out, struct err *err)
{
	char host[HOST_MAX];
	struct addr_port at;
	bool is_addr;
	size_t count;

	*out = (struct located_destination){ 0 };
	int rc = split(text, host, &at, &is_addr, err);
	if (rc < 0)
		return rc;
	if (is_addr)
		return locate_address(plan, &at, proto, out, err);
	str_copy(out->host, sizeof(out->host), host);
	const struct service *s = find_service(plan, ns, host);
	if (!s)
		s = find_any(plan, ns, host, at.port);
	if (s)
		return pick_port(s, at.port, proto, out, err);

	const struct workload *w = find_workload(plan, host, &count);
	if (!w) {
		w = plan_dns_pod_lookup(plan, ns, host);
		count = w ? 1 : 0;
	}
	const struct plan_vip *vip = w || !at.port ? NULL : plan_vip_find(plan, &at.addr, at.port, IPPROTO_TCP);
	if (vip && vip->service->any_address) /* no entry has the name, but connections to its port are looked at */
		return locate_address(plan, &at, IPPROTO_TCP, out, err);
	if (!w)
		return err_set(err, -ENOENT,
			       "there is no service or workload \"%.100s\"%s%s; `meshctl get services` lists them (of "
			       "a host outside the "
			       "mesh give the address)",
			       host, ns ? " as seen from namespace " : "", ns ? ns : "");
	if (count > 1)
		return err_set(err, -EINVAL, "\"%.100s\" is the name of %zu workloads; write it as NAMESPACE/NAME",
			       host, count);
	if (!at.port)
		return err_set(err, -EINVAL, "say the port of %s: %.100s:PORT", w->uid, host);
	out->workload = w;
	out->proto = proto ? proto : IPPROTO_TCP;
	out->asked = (struct addr_port){ .port = at.port };
	if (w->addr_count)
		out->asked.addr = w->addrs[0];
	return 0;
}
