/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/objects.h"

/* Words for what the mesh has compiled; all others are kinds of resources. */
static const struct {
	const char *word;
	enum object_kind kind;
} words[] = {
	{ "workload", OBJECT_WORKLOAD }, { "workloads", OBJECT_WORKLOAD }, { "wl", OBJECT_WORKLOAD },
	{ "pod", OBJECT_WORKLOAD },	 { "pods", OBJECT_WORKLOAD },	   { "po", OBJECT_WORKLOAD },
	{ "service", OBJECT_SERVICE },	 { "services", OBJECT_SERVICE },   { "svc", OBJECT_SERVICE },
	{ "policy", OBJECT_POLICY },	 { "policies", OBJECT_POLICY },
};

enum object_kind object_kind_of(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcasecmp(words[i].word, word) == 0)
			return words[i].kind;
	return OBJECT_RESOURCE;
}

void object_name_split(struct cli *cli, const char *typed, char *ns, char *name, size_t size)
{
	const char *slash = strchr(typed, '/');

	str_copy(ns, size, cli->ns ? cli->ns : "default");
	if (slash) {
		size_t len = (size_t)(slash - typed);
		if (len < size) {
			memcpy(ns, typed, len);
			ns[len] = 0;
		}
	}
	str_copy(name, size, slash ? slash + 1 : typed);
}

static const char *const collections[] = {
	[OBJECT_WORKLOAD] = "workloads",
	[OBJECT_SERVICE] = "services",
	[OBJECT_POLICY] = "policies",
};

/* Without -n a bare name is looked for in all namespaces: the list is asked and searched. */
static int fetch_by_bare_name(struct cli *cli, const char *collection, const char *name, json_t **out)
{
	json_t *all, *item;
	size_t i;
	int rc = cli_get(cli, &all, "/v1/%s", collection);
	if (rc != EXIT_OK)
		return rc;
	json_t *found = json_array();
	json_array_foreach(at(all, "items"), i, item)
	{
		const char *uid = at_text(item, "workload"), *slash = uid ? strchr(uid, '/') : NULL;
		const char *bare = slash ? slash + 1 : at_text(item, "name");
		if (!str_eq(bare, name) && !str_eq(at_text(item, "hostname"), name))
			continue;
		/* The list leaves out what one object has (endpoints): ask for it. */
		AUTO(mem_freep) char *ns =
			uid ? strndup(uid, (size_t)(slash - uid)) : strdup(at_text_or(item, "namespace", ""));
		AUTO(mem_freep) char *ens = cli_escape(ns);
		AUTO(mem_freep) char *ename = cli_escape(bare);
		json_t *one;
		rc = cli_get(cli, &one, "/v1/%s/%s/%s", collection, ens, ename);
		if (rc != EXIT_OK)
			break;
		if (at(one, "items"))
			json_array_extend(found, (json_t *)at(one, "items"));
		else
			json_array_append(found, one);
		json_decref(one);
	}
	json_decref(all);
	if (rc == EXIT_OK && !json_array_size(found))
		rc = cli_fail(cli, EXIT_NEGATIVE, "there is no %s among the %s", name, collection);
	if (rc != EXIT_OK) {
		json_decref(found);
		return rc;
	}
	*out = json_pack("{s:o}", "items", found);
	return EXIT_OK;
}

static int fetch_resource_by_bare_name(struct cli *cli, const char *kind, const char *name, json_t **out)
{
	json_t *all, *item;
	size_t i;
	int rc = cli_get(cli, &all, "/v1/resources/%s?text=1", kind);
	if (rc != EXIT_OK)
		return rc;
	json_t *found = json_array();
	json_array_foreach(at(all, "items"), i, item) if (str_eq(at_text(item, "name"), name))
		json_array_append(found, item);
	json_decref(all);
	if (!json_array_size(found)) {
		json_decref(found);
		return cli_fail(cli, EXIT_NEGATIVE, "there is no %s %s in force", kind, name);
	}
	*out = json_pack("{s:o}", "items", found);
	return EXIT_OK;
}

static int fetch_named(struct cli *cli, enum object_kind kind, const char *word, const char *typed, json_t **out)
{
	char ns[300], name[300];
	json_t *one;
	int rc;

	object_name_split(cli, typed, ns, name, sizeof(ns));
	AUTO(mem_freep) char *ens = cli_escape(ns);
	AUTO(mem_freep) char *ename = cli_escape(name);
	bool bare = !cli->ns && !strchr(typed, '/');
	if (bare)
		return kind == OBJECT_RESOURCE ? fetch_resource_by_bare_name(cli, word, name, out) :
						 fetch_by_bare_name(cli, collections[kind], name, out);
	if (kind == OBJECT_RESOURCE)
		rc = cli_get(cli, &one, "/v1/resources/%s/%s/%s", word, ens, ename);
	else
		rc = cli_get(cli, &one, "/v1/%s/%s/%s", collections[kind], ens, ename);
	if (rc == EXIT_OK)
		*out = at(one, "items") ? one : json_pack("{s:[o]}", "items", one);
	return rc;
}

int object_fetch(struct cli *cli, enum object_kind kind, const char *word, const char *typed, json_t **out)
{
	AUTO(mem_freep) char *query =
		cli_query("namespace", cli->ns, "text", cli->format == FORMAT_YAML ? "1" : NULL, NULL);
	AUTO(mem_freep) char *escaped = cli_escape(word);

	if (typed)
		return fetch_named(cli, kind, escaped, typed, out);
	return kind == OBJECT_RESOURCE ? cli_get(cli, out, "/v1/resources/%s%s", escaped, query) :
					 cli_get(cli, out, "/v1/%s%s", collections[kind], query);
}

static void list_workloads(struct cli *cli, const json_t *items)
{
	bool wide = cli->format == FORMAT_WIDE;
	struct grid g;
	const json_t *w;
	size_t i;

	grid_init(&g, cli, wide ? 8 : 6);
	if (wide)
		grid_row(&g, "NAMESPACE", "NAME", "NODE", "STATE", "ADDRESSES", "REACHED BY", "IDENTITY", "LOCALITY");
	else
		grid_row(&g, "NAMESPACE", "NAME", "NODE", "STATE", "ADDRESSES", "REACHED BY");
	json_array_foreach(items, i, w)
	{
		AUTO(mem_freep) char *addresses = at_join(w, "addresses");
		const char *state = at_text_or(w, "state", at_true(w, "enrolled") ? "remote" : "not in the mesh");
		enum color color = str_eq(state, "failed") ? COLOR_BAD :
				   str_eq(state, "ready")  ? COLOR_GOOD :
							     COLOR_NONE;
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(w, "namespace", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(w, "name", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(w, "node", "-"));
		grid_cell(&g, color, "%s", state);
		grid_cell(&g, COLOR_NONE, "%s", addresses);
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(w, "reached_by", "-"));
		if (!wide)
			continue;
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(w, "identity", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(w, "locality", "-"));
	}
	grid_print(&g);
}

static char *ports_text(const json_t *service)
{
	struct sb sb = { 0 };
	const json_t *p;
	size_t i;

	json_array_foreach(at(service, "ports"), i, p)
		sb_addf(&sb, "%s%lld/%s", i ? ", " : "", at_int(p, "port"), at_text_or(p, "protocol", "?"));
	return sb_take(&sb);
}

static void list_services(struct cli *cli, const json_t *items)
{
	bool wide = cli->format == FORMAT_WIDE;
	struct grid g;
	const json_t *s, *p;
	size_t i, k;

	grid_init(&g, cli, wide ? 8 : 6);
	if (wide)
		grid_row(&g, "NAMESPACE", "NAME", "KIND", "ADDRESSES", "PORTS", "ENDPOINTS", "BALANCING", "DEFINED IN");
	else
		grid_row(&g, "NAMESPACE", "NAME", "KIND", "ADDRESSES", "PORTS", "ENDPOINTS");
	json_array_foreach(items, i, s)
	{
		AUTO(mem_freep) char *vips = at_join(s, "vips");
		AUTO(mem_freep) char *ports = ports_text(s);
		long long total = 0, healthy = 0;
		json_array_foreach(at(s, "ports"), k, p)
		{
			total = at_int(p, "endpoint_count") > total ? at_int(p, "endpoint_count") : total;
			healthy = at_int(p, "healthy_count") > healthy ? at_int(p, "healthy_count") : healthy;
		}
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(s, "namespace", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(s, "name", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(s, "kind", "-"));
		grid_cell(&g, COLOR_NONE, "%s", *vips ? vips : "-");
		grid_cell(&g, COLOR_NONE, "%s", ports && *ports ? ports : "-");
		grid_cell(&g, healthy < total || !total ? COLOR_WARN : COLOR_NONE, "%lld/%lld", healthy, total);
		if (!wide)
			continue;
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(s, "load_balancing", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(s, "origin", "-"));
	}
	grid_print(&g);
}

static void list_policies(struct cli *cli, const json_t *items)
{
	struct grid g;
	const json_t *p, *rule;
	size_t i, k;

	grid_init(&g, cli, 5);
	grid_row(&g, "WORKLOAD", "MTLS", "FROM", "RULES", "DEFAULT");
	json_array_foreach(items, i, p)
	{
		size_t counts[3] = { 0 };
		json_array_foreach(at(p, "rules"), k, rule) counts[str_eq(at_text(rule, "action"), "DENY")  ? 0 :
								   str_eq(at_text(rule, "action"), "ALLOW") ? 1 :
													      2]++;
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(p, "workload", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(p, "mtls", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(p, "mtls_origin", "-"));
		grid_cell(&g, COLOR_NONE, "%zu deny, %zu allow, %zu audit", counts[0], counts[1], counts[2]);
		grid_cell(&g, COLOR_NONE, "%s", at_true(p, "default_allow") ? "allow" : "deny");
	}
	grid_print(&g);
}

static void list_resources(struct cli *cli, const json_t *items)
{
	struct grid g;
	const json_t *r;
	size_t i;

	grid_init(&g, cli, 4);
	grid_row(&g, "KIND", "NAMESPACE", "NAME", "DEFINED IN");
	json_array_foreach(items, i, r)
		grid_row(&g, at_text(r, "kind"), at_text(r, "namespace"), at_text(r, "name"), at_text(r, "origin"));
	grid_print(&g);
}

/* -o yaml of resources is their text, not the API's view of it. */
static bool print_texts(struct cli *cli, const json_t *items)
{
	const json_t *r;
	size_t i;

	json_array_foreach(items, i, r) if (!at_text(r, "text")) return false;
	json_array_foreach(items, i, r)
	{
		const char *text = at_text(r, "text");
		fprintf(cli->out, "%s# %s\n%s%s", i ? "---\n" : "", at_text_or(r, "origin", "?"), text,
			str_ends(text, "\n") ? "" : "\n");
	}
	return true;
}

int cmd_get(struct cli *cli)
{
	enum object_kind kind = object_kind_of(cli->args[0]);
	const char *name = cli->argc > 1 ? cli->args[1] : NULL;
	json_t *answer;

	/* As written is what -o yaml of a Service means. */
	if (kind == OBJECT_SERVICE && cli->format == FORMAT_YAML)
		kind = OBJECT_RESOURCE;
	int rc = object_fetch(cli, kind, cli->args[0], name, &answer);
	if (rc != EXIT_OK)
		return rc;
	const json_t *items = at(answer, "items");
	if (kind == OBJECT_RESOURCE && cli->format == FORMAT_YAML && json_array_size(items) &&
	    print_texts(cli, items)) {
		json_decref(answer);
		return EXIT_OK;
	}
	if (!cli_print_structured(cli, name && json_array_size(items) == 1 ? json_array_get(items, 0) : answer)) {
		if (!json_array_size(items))
			fprintf(cli->out, "No %s%s%s.\n", cli->args[0], cli->ns ? " in namespace " : "",
				cli->ns ? cli->ns : "");
		else if (kind == OBJECT_WORKLOAD)
			list_workloads(cli, items);
		else if (kind == OBJECT_SERVICE)
			list_services(cli, items);
		else if (kind == OBJECT_POLICY)
			list_policies(cli, items);
		else
			list_resources(cli, items);
	}
	json_decref(answer);
	return EXIT_OK;
}
