/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/hosts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/table.h"
#include "agent/compile/dirty.h"
#include "agent/compile/state.h"

static void on_resolved_free(void *value)
{
	struct resolved *r = value;

	free(r->name);
	free(r->addrs);
	free(r);
}

int hosts_init(struct compiler *c)
{
	c->hosts = table_new(on_resolved_free);
	return c->hosts && bag_init(&c->by_resolved) == 0 && bag_init(&c->dns_services) == 0 &&
			       bag_init(&c->dns_workloads) == 0 ?
		       0 :
		       -ENOMEM;
}

static void wanted_free(struct compiler *c)
{
	for (size_t i = 0; i < c->wanted_count; i++)
		free(c->wanted[i]);
	free(c->wanted);
	c->wanted = NULL;
	c->wanted_count = 0;
}

void hosts_done(struct compiler *c)
{
	wanted_free(c);
	table_free(c->hosts);
	bag_done(&c->by_resolved);
	bag_done(&c->dns_services);
	bag_done(&c->dns_workloads);
}

const struct resolved *hosts_get(const struct compiler *c, const char *name)
{
	return table_get_str(c->hosts, name);
}

static int users_dirty(struct compiler *c, const char *name)
{
	struct bag_items users = bag_get(&c->dns_services, name, strlen(name));
	for (size_t i = 0; i < users.n; i++)
		if (dirty_service(c, users.v[i]) < 0)
			return -ENOMEM;
	users = bag_get(&c->dns_workloads, name, strlen(name));
	for (size_t i = 0; i < users.n; i++)
		if (dirty_workload(c, users.v[i]) < 0)
			return -ENOMEM;
	return 0;
}

static int on_addr_cmp(const void *a, const void *b)
{
	return addr_cmp(a, b);
}

/* Sorted: resolvers rotate their answers, which is no change. */
static struct resolved *resolved_new(const struct compile_host *host)
{
	struct resolved *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->name = strdup(host->name);
	r->addrs = calloc(host->addr_count + 1, sizeof(*r->addrs));
	if (!r->name || !r->addrs) {
		on_resolved_free(r);
		return NULL;
	}
	if (host->addr_count)
		memcpy(r->addrs, host->addrs, host->addr_count * sizeof(*r->addrs));
	qsort(r->addrs, host->addr_count, sizeof(*r->addrs), on_addr_cmp);
	for (size_t i = 0; i < host->addr_count; i++)
		if (!r->n || !addr_eq(&r->addrs[r->n - 1], &r->addrs[i]))
			r->addrs[r->n++] = r->addrs[i];
	return r;
}

static bool resolved_same(const struct resolved *a, const struct resolved *b)
{
	return a->n == b->n && (!a->n || memcmp(a->addrs, b->addrs, a->n * sizeof(*a->addrs)) == 0);
}

static int resolved_index(struct compiler *c, struct resolved *r, bool add)
{
	for (size_t i = 0; i < r->n; i++) {
		if (!add)
			bag_remove(&c->by_resolved, r->addrs[i].b, sizeof(r->addrs[i].b), r);
		else if (bag_add(&c->by_resolved, r->addrs[i].b, sizeof(r->addrs[i].b), r) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int host_update(struct compiler *c, const struct compile_host *host)
{
	struct resolved *old = table_get_str(c->hosts, host->name), *new = resolved_new(host);
	if (!new)
		return -ENOMEM;
	if (old && resolved_same(old, new)) {
		on_resolved_free(new);
		return 0;
	}
	if (old)
		resolved_index(c, old, false);
	if (table_set_str(c->hosts, host->name, new) < 0) {
		on_resolved_free(new);
		return -ENOMEM;
	}
	return resolved_index(c, new, true) < 0 ? -ENOMEM : users_dirty(c, host->name);
}

int hosts_update(struct compiler *c, const struct compile_input *in)
{
	struct table *given = table_new(NULL);
	if (!given)
		return -ENOMEM;

	int rc = 0;
	for (size_t i = 0; !rc && i < in->host_count; i++) {
		rc = table_set_str(given, in->hosts[i].name, (void *)&in->hosts[i]);
		if (!rc)
			rc = host_update(c, &in->hosts[i]);
	}
	struct table_iter it = { 0 };
	while (!rc && table_next(c->hosts, &it)) {
		struct resolved *r = it.value;
		if (table_get(given, it.key, it.key_len))
			continue;
		rc = users_dirty(c, r->name);
		resolved_index(c, r, false);
		table_remove(c->hosts, it.key, it.key_len);
	}
	table_free(given);
	return rc;
}

int hosts_each_user(struct compiler *c, const struct addr *a,
		    int (*fn)(struct compiler *c, struct service_node *node, void *arg), void *arg)
{
	struct bag_items names = bag_get(&c->by_resolved, a->b, sizeof(a->b));
	int rc = 0;

	for (size_t i = 0; !rc && i < names.n; i++) {
		const char *name = ((const struct resolved *)names.v[i])->name;
		struct bag_items users = bag_get(&c->dns_services, name, strlen(name));
		for (size_t k = 0; !rc && k < users.n; k++)
			rc = fn(c, users.v[k], arg);
	}
	return rc;
}

static int on_text_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int wanted_add(struct compiler *c, const struct table *names, const struct table *except)
{
	struct table_iter it = { 0 };

	while (table_next(names, &it)) {
		if (except && table_get(except, it.key, it.key_len))
			continue;
		c->wanted[c->wanted_count] = strndup(it.key, it.key_len);
		if (!c->wanted[c->wanted_count])
			return -ENOMEM;
		c->wanted_count++;
	}
	return 0;
}

int hosts_wanted_update(struct compiler *c)
{
	const struct table *services = c->dns_services.table, *workloads = c->dns_workloads.table;

	wanted_free(c);
	c->wanted = calloc(table_count(services) + table_count(workloads) + table_count(c->http.dynamic) + 1,
			   sizeof(*c->wanted));
	if (!c->wanted || wanted_add(c, services, NULL) < 0 || wanted_add(c, workloads, services) < 0 ||
	    wanted_add(c, c->http.dynamic, NULL) < 0)
		return -ENOMEM;
	qsort(c->wanted, c->wanted_count, sizeof(*c->wanted), on_text_cmp);
	size_t kept = 0;
	for (size_t i = 0; i < c->wanted_count; i++) {
		if (kept && strcmp(c->wanted[kept - 1], c->wanted[i]) == 0)
			free(c->wanted[i]);
		else
			c->wanted[kept++] = c->wanted[i];
	}
	c->wanted_count = kept;
	return 0;
}

const char *const *compiler_hosts(const struct compiler *c, size_t *count)
{
	*count = c->wanted_count;
	return (const char *const *)c->wanted;
}

int service_entry_hosts(const struct resource *r, const char *host, int (*on_name)(const char *name, void *arg),
			void *arg)
{
	const struct service_entry_spec *spec = r->spec.service_entry;

	if (spec->resolution == RESOLUTION_NONE || spec->resolution == RESOLUTION_STATIC)
		return 0;
	if (!spec->endpoints.n && !spec->workload_selector)
		return host[0] == '*' ? 0 : on_name(host, arg);
	for (size_t i = 0; i < spec->endpoints.n; i++) {
		const struct workload_entry_spec *e = &spec->endpoints.v[i];
		int rc = e->address && !e->is_ip ? on_name(e->address, arg) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}
