/* SPDX-License-Identifier: Apache-2.0 */
/* The name of a cluster -> cluster: the endpoints of a service's port as the plan has them, those of a subset only, and what
 * the DestinationRule says. An entry of the cache holds while the service is the same object and the generation the same. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/hosts.h"
#include "agent/compile/http_cluster.h"
#include "agent/config/kinds_http.h"

enum { CLUSTERS_MAX = 16384, DYNAMIC_HOSTS_MAX = 1024 };

struct cached_cluster {
	uint64_t generation;
	struct service *service; /* a reference */
	struct http_cluster *cluster;
};

void http_cached_cluster_free(void *entry)
{
	struct cached_cluster *e = entry;

	service_unref(e->service);
	http_cluster_unref(e->cluster);
	free(e);
}

static void cluster_freep(struct http_cluster **c)
{
	http_cluster_unref(*c);
}

/* --- names */

struct cluster_name {
	uint16_t port;
	char subset[256], host[256], real[256];
	char rules[1024]; /* behind the subset's "@" */
	bool has_rules;
};

static bool part_take(const char **at, char *out, size_t size)
{
	size_t len = strcspn(*at, "|");
	if (len >= size)
		return false;
	memcpy(out, *at, len);
	out[len] = '\0';
	*at += len;
	if (**at == '|')
		(*at)++;
	return true;
}

static bool name_parse(const char *name, struct cluster_name *out)
{
	char direction[16], port[8], subset[sizeof(out->rules)];
	uint64_t number;

	if (!part_take(&name, direction, sizeof(direction)) || strcmp(direction, "outbound") != 0 ||
	    !part_take(&name, port, sizeof(port)) || !part_take(&name, subset, sizeof(subset)) ||
	    !part_take(&name, out->host, sizeof(out->host)) || !part_take(&name, out->real, sizeof(out->real)) || *name)
		return false;
	char *rules = strchr(subset, '@');
	if (rules)
		*rules++ = '\0';
	out->has_rules = rules != NULL;
	str_copy(out->rules, sizeof(out->rules), rules ? rules : "");
	if (str_to_u64(port, UINT16_MAX, &number) < 0 || !str_copy(out->subset, sizeof(out->subset), subset))
		return false;
	out->port = (uint16_t)number;
	return *out->host;
}

/* --- hosts that only requests name */

/* "*.example.com" covers the host: then its addresses are asked for. */
static const struct resolved *dynamic_host(struct compiler *c, const char *pattern, const char *host)
{
	if (pattern[0] != '*' || !str_ends(host, pattern + 1) || host[0] == '*')
		return NULL;
	const struct resolved *found = hosts_get(c, host);
	if (found || table_get_str(c->http.dynamic, host))
		return found;
	if (table_count(c->http.dynamic) >= DYNAMIC_HOSTS_MAX) {
		struct table *fresh = table_new(NULL);
		if (!fresh)
			return NULL;
		table_free(c->http.dynamic);
		c->http.dynamic = fresh;
	}
	if (table_set_str(c->http.dynamic, host, c) == 0)
		hosts_wanted_update(c);
	return NULL;
}

static int dynamic_endpoints_set(struct http_cluster *out, const struct resolved *host, uint16_t port)
{
	if (!host || !host->n)
		return 0;
	out->endpoints = calloc(host->n, sizeof(*out->endpoints));
	if (!out->endpoints)
		return -ENOMEM;
	for (size_t i = 0; i < host->n; i++) {
		struct cluster_endpoint *e = &out->endpoints[out->endpoint_count++];
		*e = (struct cluster_endpoint){ .addr = { host->addrs[i], port }, .weight = 1, .healthy = true };
		e->hostname = strdup(host->name);
		if (!e->hostname)
			return -ENOMEM;
	}
	return 0;
}

/* --- building */

/* Wildcards under resolutions that a name is needed for. */
static bool is_dynamic(const struct resource *r, const char *hostname)
{
	if (r->kind != KIND_SERVICE_ENTRY)
		return false;
	enum service_entry_resolution res = r->spec.service_entry->resolution;

	return res == RESOLUTION_DYNAMIC_DNS || (hostname[0] == '*' && !r->spec.service_entry->endpoints.n &&
						 (res == RESOLUTION_DNS || res == RESOLUTION_DNS_ROUND_ROBIN));
}

static uint16_t entry_target_port(const struct resource *r, uint16_t port)
{
	const struct service_entry_spec *spec = r->spec.service_entry;

	for (size_t i = 0; i < spec->ports.n; i++)
		if (spec->ports.v[i].number == port && spec->ports.v[i].target_port)
			return spec->ports.v[i].target_port;
	return port;
}

static int names_set(struct http_cluster *out, const char *name, const struct service *s,
		     const struct cluster_name *parts)
{
	out->name = strdup(name);
	out->host = strdup(*parts->real ? parts->real : s->hostname);
	out->service = strdup(s->name);
	out->ns = strdup(s->ns);
	out->subset = strdup(parts->subset);
	return out->name && out->host && out->service && out->ns && out->subset ? 0 : -ENOMEM;
}

/* What decides which endpoints come first is not what the plan's were put in order by. */
static bool orders_anew(const struct http_rule *rule, const struct rule_set *general)
{
	const struct traffic_policy *p = rule->subset ? rule->subset->traffic_policy : NULL;

	return !rules_same(rule->set, general) || (p && (p->load_balancer || p->outlier_detection));
}

static int cluster_make(struct compiler *c, const struct service_node *node, const struct service *s,
			const struct http_rule *rule, const struct cluster_name *parts, const char *name,
			struct http_cluster **out)
{
	const struct service_port *port = service_port_find(s, parts->port, IPPROTO_TCP);
	AUTO(cluster_freep) struct http_cluster *cluster = http_cluster_new();
	if (!cluster)
		return -ENOMEM;

	if (!port || (*parts->subset && !rule->subset))
		return -ENOENT;
	cluster->port = parts->port;
	cluster->app = port->app;
	cluster->external = s->external;
	if (names_set(cluster, name, s, parts) < 0 || http_cluster_settings(c, cluster, s, port, rule) < 0)
		return -ENOMEM;
	int rc;
	if (is_dynamic(node->resource, node->hostname)) {
		const struct resolved *host = *parts->real ? dynamic_host(c, node->hostname, parts->real) : NULL;
		if (!*parts->real && node->hostname[0] != '*')
			host = hosts_get(c, node->hostname);
		cluster->dynamic_dns = !*parts->real;
		rc = dynamic_endpoints_set(cluster, host, entry_target_port(node->resource, parts->port));
	} else {
		rc = http_cluster_endpoints(c, cluster, node, port, rule->subset);
	}
	if (rc < 0)
		return rc;
	http_cluster_seal(cluster);
	*out = TAKE(cluster);
	return 0;
}

static int cluster_build(struct compiler *c, struct service_node *node, const struct cluster_name *parts,
			 const char *name, struct http_cluster **out)
{
	const struct service *s = node->object;
	struct label labels[RULE_LABELS_MAX];
	struct rule_set general, set;
	struct http_rule rule;
	char rules[sizeof(parts->rules)];

	str_copy(rules, sizeof(rules), parts->rules);
	size_t label_count = rules_named_labels(rules, labels);
	rules_of(c, &(struct rule_caller){ 0 }, s->ns, s->hostname, &general);
	set = general;
	if (parts->has_rules && !str_eq(rules, "*"))
		rules_named(c, rules, s->ns, s->hostname, &set);
	http_rule_of(&set, parts->port, parts->subset, &rule);
	if (!label_count && !orders_anew(&rule, &general))
		return cluster_make(c, node, s, &rule, parts, name, out);

	const struct rules_asked asked = { .set = &set,
					   .subset = rule.subset ? parts->subset : NULL,
					   .plain = true,
					   .labels = labels,
					   .label_count = label_count };
	struct service *other;
	int rc = service_build(c, node, &asked, &other, NULL);
	if (rc < 0)
		return rc;
	rc = cluster_make(c, node, other, &rule, parts, name, out);
	service_unref(other);
	return rc;
}

static int passthrough_build(struct compiler *c, struct http_cluster **out)
{
	AUTO(cluster_freep) struct http_cluster *cluster = http_cluster_new();
	if (!cluster)
		return -ENOMEM;

	cluster->name = strdup(HTTP_PASSTHROUGH);
	cluster->host = strdup(HTTP_PASSTHROUGH);
	cluster->lb = CLUSTER_PASSTHROUGH;
	cluster->protocol = CLUSTER_AS_CLIENT;
	cluster->app = APP_UNKNOWN;
	cluster->external = true;
	cluster->tcp.connect_timeout_ms = c->mesh.connect_timeout_ms;
	if (!cluster->name || !cluster->host)
		return -ENOMEM;
	http_cluster_seal(cluster);
	*out = TAKE(cluster);
	return 0;
}

static void cache_put(struct compiler *c, const char *name, struct service *s, struct http_cluster *cluster)
{
	struct cached_cluster *e;

	if (table_count(c->http.clusters) >= CLUSTERS_MAX) {
		struct table *fresh = table_new(http_cached_cluster_free);
		if (!fresh)
			return;
		table_free(c->http.clusters);
		c->http.clusters = fresh;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return;
	*e = (struct cached_cluster){ c->http.generation, service_ref(s), http_cluster_ref(cluster) };
	if (table_set_str(c->http.clusters, name, e) < 0)
		http_cached_cluster_free(e);
}

int compiler_cluster(struct compiler *c, const char *name, struct http_cluster **out)
{
	const struct http_scope anybody = { .c = c };
	struct cluster_name parts;

	if (strcmp(name, HTTP_PASSTHROUGH) == 0)
		return passthrough_build(c, out);
	if (!name_parse(name, &parts))
		return -ENOENT;
	struct service_node *node = http_service_find(&anybody, parts.host, parts.port);
	if (!node)
		return -ENOENT;
	if (node->hostname[0] == '*' && parts.host[0] != '*' && !*parts.real)
		str_copy(parts.real, sizeof(parts.real), parts.host);

	const struct cached_cluster *e = table_get_str(c->http.clusters, name);
	if (e && e->generation == c->http.generation && e->service == node->object) {
		*out = http_cluster_ref(e->cluster);
		return 0;
	}
	int rc = cluster_build(c, node, &parts, name, out);
	if (!rc && !is_dynamic(node->resource, node->hostname))
		cache_put(c, name, node->object, *out);
	return rc;
}

/* --- all names */

struct names {
	char **v;
	size_t n, cap;
};

static int names_add(struct names *names, const struct service *s, uint16_t port, const char *subset)
{
	if (mem_reserve(&names->v, &names->cap, names->n + 1, sizeof(*names->v)) < 0)
		return -ENOMEM;
	names->v[names->n] = http_cluster_name(port, subset, s->hostname);
	return names->v[names->n++] ? 0 : -ENOMEM;
}

static int subset_names_add(struct names *names, const struct service *s, uint16_t port, const struct resource *rule)
{
	const struct destination_rule_spec *spec = rule->spec.destination_rule;
	int rc = 0;

	for (size_t i = 0; !rc && i < spec->subsets.n; i++)
		rc = names_add(names, s, port, spec->subsets.v[i].name);
	return rc;
}

static int service_names_add(const struct compiler *c, struct names *names, const struct service *s)
{
	struct rule_set rules;
	int rc = 0;

	rules_of(c, &(struct rule_caller){ 0 }, s->ns, s->hostname, &rules);

	for (size_t i = 0; !rc && i < s->port_count; i++) {
		if (s->ports[i].proto != IPPROTO_TCP)
			continue;
		rc = names_add(names, s, s->ports[i].port, NULL);
		for (size_t r = 0; !rc && r < rules.n; r++)
			rc = subset_names_add(names, s, s->ports[i].port, rules.v[r]);
	}
	return rc;
}

static int on_text_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int compiler_cluster_names(struct compiler *c, char ***out, size_t *count)
{
	struct names names = { 0 };
	struct table_iter it = { 0 };
	int rc = 0;

	while (!rc && table_next(c->services, &it)) {
		const struct service_node *node = it.value;
		if (node->object)
			rc = service_names_add(c, &names, node->object);
	}
	if (rc < 0) {
		for (size_t i = 0; i < names.n; i++)
			free(names.v[i]);
		free(names.v);
		return rc;
	}
	if (names.n)
		qsort(names.v, names.n, sizeof(*names.v), on_text_cmp);
	*out = names.v;
	*count = names.n;
	return 0;
}

void compiler_set_files(struct compiler *c, char *(*read_file)(void *arg, const char *path), void *arg)
{
	c->http.read_file = read_file;
	c->http.read_arg = arg;
	c->http.generation++;
}

void compiler_files_changed(struct compiler *c)
{
	c->http.generation++;
}
