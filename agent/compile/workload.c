/* SPDX-License-Identifier: Apache-2.0 */
/* WorkloadEntry -> workload: where it lives, who it is, whether it is in the mesh. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/build.h"
#include "agent/compile/filters.h"
#include "agent/compile/hosts.h"
#include "agent/compile/http.h"
#include "agent/compile/identities.h"
#include "agent/compile/telemetry.h"
#include "agent/model/telemetry.h"

/* --- labels */

bool labels_selected(const struct string_map *selector, const struct label *labels, size_t n)
{
	for (size_t i = 0, at = 0; i < selector->n; i++) {
		/* Both are sorted by key. */
		while (at < n && strcmp(labels[at].key, selector->v[i].key) < 0)
			at++;
		if (at == n || strcmp(labels[at].key, selector->v[i].key) != 0 ||
		    strcmp(labels[at].value, selector->v[i].value) != 0)
			return false;
	}
	return true;
}

static int label_add(struct workload *w, const struct string_pair *pair)
{
	struct label *label = &w->labels[w->label_count++];

	label->key = strdup(pair->key);
	label->value = strdup(pair->value);
	return label->key && label->value ? 0 : -ENOMEM;
}

/* The entry's own labels and those of its spec; the spec's win, as in Istio. */
static int labels_merge(struct workload *w, const struct string_map *own, const struct string_map *spec)
{
	if (!own->n && !spec->n)
		return 0;
	w->labels = calloc(own->n + spec->n, sizeof(*w->labels));
	if (!w->labels)
		return -ENOMEM;
	for (size_t i = 0, k = 0; i < own->n || k < spec->n;) {
		int order = i == own->n ? 1 : k == spec->n ? -1 : strcmp(own->v[i].key, spec->v[k].key);
		if (label_add(w, order < 0 ? &own->v[i] : &spec->v[k]) < 0)
			return -ENOMEM;
		i += order <= 0;
		k += order >= 0;
	}
	return 0;
}

/* --- enrolment */

enum wish { WISH_NONE, WISH_IN, WISH_OUT };

static enum wish wish_of(const char *value, const char *yes, const char *no)
{
	if (!value)
		return WISH_NONE;
	return strcmp(value, yes) == 0 ? WISH_IN : strcmp(value, no) == 0 ? WISH_OUT : WISH_NONE;
}

/* Out wins over in. Some write `none`, some `disabled`, so each label takes both. */
static enum wish wish_join(const char *weft, const char *mode, const char *injection)
{
	const enum wish all[] = {
		wish_of(weft, "enabled", "disabled"),	   wish_of(weft, "enabled", "none"),
		wish_of(mode, "ambient", "none"),	   wish_of(mode, "ambient", "disabled"),
		wish_of(injection, "enabled", "disabled"), wish_of(injection, "enabled", "none"),
	};
	enum wish wish = WISH_NONE;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i] > wish)
			wish = all[i];
	return wish;
}

static const char weft_label[] = "weft.dev/mesh", mode_label[] = "istio.io/dataplane-mode",
		  injection_label[] = "istio-injection";

static bool is_enrolled(const struct compiler *c, const struct workload *w)
{
	enum wish wish = wish_join(workload_label(w, weft_label), workload_label(w, mode_label),
				   workload_label(w, injection_label));
	if (wish == WISH_NONE) {
		const struct resource *ns = table_get_str(c->namespaces, w->ns);
		if (ns)
			wish = wish_join(string_map_get(&ns->labels, weft_label),
					 string_map_get(&ns->labels, mode_label),
					 string_map_get(&ns->labels, injection_label));
	}
	return wish == WISH_IN;
}

/* --- place */

static const struct {
	const char *annotation;
	enum workload_place place;
} places[] = {
	{ "weft.dev/netns", WORKLOAD_NETNS },
	{ "weft.dev/pid", WORKLOAD_PID },
	{ "weft.dev/cgroup", WORKLOAD_CGROUP },
};

static int place_set(const struct compiler *c, struct workload *w, const struct resource *r, struct notes *notes)
{
	const char *node = string_map_get(&r->annotations, "weft.dev/node");
	const char *name = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const char *value = string_map_get(&r->annotations, places[i].annotation);
		if (!value || !*value)
			continue;
		if (name) {
			NOTE(notes, FINDING_WARNING, r, "%s is ignored: the workload has another place already",
			     places[i].annotation);
			continue;
		}
		name = value;
		w->place = places[i].place;
	}
	if (!name || (node && strcmp(node, c->node) != 0))
		w->place = WORKLOAD_REMOTE;
	if (w->place != WORKLOAD_REMOTE) {
		w->place_name = strdup(name);
		if (!w->place_name)
			return -ENOMEM;
		node = c->node;
	}
	if (node) {
		w->node = strdup(node);
		if (!w->node)
			return -ENOMEM;
	}
	return 0;
}

/* --- addresses, ports */

static int addr_add(struct workload *w, size_t *cap, const struct addr *a)
{
	if (workload_has_addr(w, a))
		return 0;
	if (mem_reserve(&w->addrs, cap, w->addr_count + 1, sizeof(*w->addrs)) < 0)
		return -ENOMEM;
	w->addrs[w->addr_count++] = *a;
	return 0;
}

/* Calls back for each part of "a, b,c"; parts are cut to 63 bytes. */
static int each_part(const char *list, int (*on_part)(const char *part, void *arg), void *arg)
{
	while (*list) {
		char part[64];
		size_t len;
		list += strspn(list, ", \t");
		len = strcspn(list, ", \t");
		if (!len)
			break;
		snprintf(part, sizeof(part), "%.*s", (int)(len < sizeof(part) ? len : sizeof(part) - 1), list);
		int rc = on_part(part, arg);
		if (rc < 0)
			return rc;
		list += len;
	}
	return 0;
}

struct building {
	struct workload *w;
	const struct resource *r;
	struct notes *notes;
	size_t addr_cap, port_cap;
};

static int on_address(const char *part, void *arg)
{
	struct building *b = arg;
	struct addr a;

	if (addr_parse(part, &a) < 0) {
		NOTE(b->notes, FINDING_ERROR, b->r, "weft.dev/addresses: \"%s\" is not an IP address; it is left out",
		     part);
		return 0;
	}
	return addr_add(b->w, &b->addr_cap, &a);
}

static int addrs_set(const struct compiler *c, struct building *b)
{
	const struct workload_entry_spec *spec = b->r->spec.workload_entry;
	const char *more = string_map_get(&b->r->annotations, "weft.dev/addresses");

	if (spec->is_ip && addr_add(b->w, &b->addr_cap, &spec->ip) < 0)
		return -ENOMEM;
	if (!spec->is_ip && spec->address) {
		const struct resolved *host = hosts_get(c, spec->address);
		for (size_t i = 0; host && i < host->n; i++)
			if (addr_add(b->w, &b->addr_cap, &host->addrs[i]) < 0)
				return -ENOMEM;
	}
	return more ? each_part(more, on_address, b) : 0;
}

static int port_range_add(struct building *b, uint16_t first, uint16_t last)
{
	if (mem_reserve(&b->w->ports, &b->port_cap, b->w->port_count + 1, sizeof(*b->w->ports)) < 0)
		return -ENOMEM;
	b->w->ports[b->w->port_count++] = (struct port_range){ first, last };
	return 0;
}

static int on_port(const char *part, void *arg)
{
	struct building *b = arg;
	char text[64];
	uint64_t first, last;

	str_copy(text, sizeof(text), part);
	char *dash = strchr(text, '-');
	if (dash)
		*dash = '\0';
	if (str_to_u64(text, UINT16_MAX, &first) < 0 || str_to_u64(dash ? dash + 1 : text, UINT16_MAX, &last) < 0 ||
	    !first || last < first) {
		NOTE(b->notes, FINDING_ERROR, b->r, "weft.dev/ports: \"%s\" is not a port or a range FIRST-LAST", part);
		return 0;
	}
	return port_range_add(b, (uint16_t)first, (uint16_t)last);
}

/* A host process shares its address with others, so its ports say what is its own. */
static int ports_set(struct building *b)
{
	const struct workload_entry_spec *spec = b->r->spec.workload_entry;
	const char *annotated = string_map_get(&b->r->annotations, "weft.dev/ports");

	if (b->w->place != WORKLOAD_CGROUP)
		return 0;
	for (size_t i = 0; i < spec->ports.n; i++)
		if (port_range_add(b, spec->ports.v[i].port, spec->ports.v[i].port) < 0)
			return -ENOMEM;
	if (annotated && each_part(annotated, on_port, b) < 0)
		return -ENOMEM;
	if (!b->w->port_count)
		NOTE(b->notes, FINDING_WARNING, b->r,
		     "the workload is a control group without ports of its own: nothing inbound is policed; "
		     "list them in spec.ports or weft.dev/ports");
	return 0;
}

static int limits_set(struct building *b)
{
	const char *text = string_map_get(&b->r->annotations, "weft.dev/max-connections");
	uint64_t n;

	if (!text)
		return 0;
	if (str_to_u64(text, UINT32_MAX, &n) < 0)
		NOTE(b->notes, FINDING_ERROR, b->r, "weft.dev/max-connections: \"%s\" is not a number", text);
	else
		b->w->max_connections = (uint32_t)n;
	return 0;
}

/* --- names */

static const char *first_label(const struct workload *w, const char *const *keys)
{
	for (; *keys; keys++) {
		const char *value = workload_label(w, *keys);
		if (value && *value)
			return value;
	}
	return NULL;
}

static int names_set(const struct compiler *c, struct workload *w, const struct resource *r)
{
	static const char *const name_keys[] = { "service.istio.io/canonical-name", "app.kubernetes.io/name", "app",
						 NULL };
	static const char *const revision_keys[] = { "service.istio.io/canonical-revision", "app.kubernetes.io/version",
						     "version", NULL };
	static const char *const workload_keys[] = { "service.istio.io/workload-name", NULL };
	const char *owner = first_label(w, workload_keys), *name = first_label(w, name_keys);
	const char *revision = first_label(w, revision_keys);

	if (!owner)
		owner = r->name;
	w->owner = strdup(owner);
	w->canonical_name = strdup(name ? name : owner);
	w->canonical_revision = strdup(revision ? revision : "latest");
	w->locality = strdup(r->spec.workload_entry->locality ? r->spec.workload_entry->locality : "");
	(void)c;
	return w->owner && w->canonical_name && w->canonical_revision && w->locality ? 0 : -ENOMEM;
}

static int identity_set(struct compiler *c, struct workload *w, const struct resource *r)
{
	const char *account = r->spec.workload_entry->service_account;

	w->identity = identities_take(c, w->ns, account && *account ? account : "default");
	return w->identity ? 0 : -ENOMEM;
}

static enum workload_tunnel tunnel_of(const struct workload *w, const struct resource *r)
{
	const char *mark = workload_label(w, "networking.istio.io/tunnel");

	if (mark && strcmp(mark, "http") == 0)
		return TUNNEL_HBONE;
	return w->enrolled && w->node && (workload_is_local(w) || string_map_get(&r->annotations, "weft.dev/node")) ?
		       TUNNEL_HBONE :
		       TUNNEL_NONE;
}

static void workload_freep(struct workload **w)
{
	workload_unref(*w);
}

int workload_build(struct compiler *c, const struct resource *r, struct workload **out, struct notes *notes)
{
	const struct workload_entry_spec *spec = r->spec.workload_entry;
	AUTO(workload_freep) struct workload *w = workload_new();
	if (!w)
		return -ENOMEM;

	struct building b = { .w = w, .r = r, .notes = notes };
	w->weight = spec->weight ? spec->weight : 1;
	w->uid = str_format("%s/%s", r->ns, r->name);
	w->name = strdup(r->name);
	w->ns = strdup(r->ns);
	if (!w->uid || !w->name || !w->ns || labels_merge(w, &r->labels, &spec->labels) < 0 ||
	    place_set(c, w, r, notes) < 0 || names_set(c, w, r) < 0 || addrs_set(c, &b) < 0 || ports_set(&b) < 0 ||
	    limits_set(&b) < 0)
		return -ENOMEM;

	*out = NULL;
	if (!w->addr_count) {
		NOTE(notes, FINDING_WARNING, r,
		     spec->address ? "the address \"%s\" does not resolve to an IP address (yet)" :
				     "the entry has no address%s: it takes no part",
		     spec->address ? spec->address : "");
		return 0;
	}
	w->enrolled = is_enrolled(c, w);
	w->tunnel = tunnel_of(w, r);
	if (identity_set(c, w, r) < 0)
		return -ENOMEM;
	if (w->enrolled && workload_is_local(w) &&
	    policy_build(c, w->ns, w->labels, w->label_count, &w->policy, notes) < 0)
		return -ENOMEM;
	const struct filters_of of = { c, w->ns, w->labels, w->label_count, w->policy, notes, r };
	if (w->policy && (filters_build(&of, &w->inbound, &w->outbound) < 0 ||
			  telemetry_build(c, w->ns, w->labels, w->label_count, &w->telemetry, notes) < 0))
		return -ENOMEM;
	if (w->policy)
		sidecar_outbound_set(c, w);
	if (w->policy && http_workload_ports(c, w, r) < 0)
		return -ENOMEM;
	*out = TAKE(w);
	return 0;
}

static uint64_t text_hash(uint64_t h, const char *text)
{
	return text ? hash64_str(hash64(h, "+", 1), text) : hash64(h, "-", 1);
}

uint64_t workload_content(const struct workload *w)
{
	const char *texts[] = { w->uid,	  w->node,	w->locality, w->canonical_name, w->canonical_revision,
				w->owner, w->place_name };
	uint64_t h = HASH64_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		h = text_hash(h, texts[i]);
	for (size_t i = 0; i < w->label_count; i++)
		h = hash64_str(hash64_str(h, w->labels[i].key), w->labels[i].value);
	h = hash64(h, w->addrs, w->addr_count * sizeof(*w->addrs));
	for (size_t i = 0; i < w->port_count; i++)
		h = hash64(hash64(h, &w->ports[i].first, 2), &w->ports[i].last, 2);
	for (size_t i = 0; i < w->l7_port_count; i++)
		h = hash64(h, &w->l7_ports[i], sizeof(w->l7_ports[i]));

	const uint64_t numbers[] = { (uintptr_t)w->identity,
				     (uintptr_t)w->policy,
				     w->weight,
				     w->enrolled,
				     w->tunnel,
				     w->place,
				     w->l7_other_ports,
				     w->max_connections,
				     w->outbound_policy,
				     w->addr_count,
				     (uintptr_t)w->inbound,
				     (uintptr_t)w->outbound,
				     w->telemetry ? w->telemetry->id : 0 };
	return hash64(h, numbers, sizeof(numbers));
}
