/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/policy_text.h"

static void show_listeners(struct cli *cli, const json_t *items)
{
	const json_t *l;
	struct grid g;
	size_t i;

	grid_init(&g, cli, 5);
	grid_row(&g, "WORKLOAD", "READY", "MTLS", "RULES", "LISTENERS");
	json_array_foreach(items, i, l)
	{
		AUTO(mem_freep) char *names = at_join(l, "listeners");
		bool ready = at_true(l, "ready");
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(l, "workload", "-"));
		grid_cell(&g, ready ? COLOR_GOOD : COLOR_WARN, "%s", ready ? "yes" : "no");
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(l, "mtls", "-"));
		grid_cell(&g, COLOR_NONE, "%lld", at_int(l, "rules"));
		grid_cell(&g, COLOR_NONE, "%s", *names ? names : "-");
	}
	grid_print(&g);
}

static void show_clusters(struct cli *cli, const json_t *items)
{
	const json_t *s, *p;
	struct grid g;
	size_t i, k;

	grid_init(&g, cli, 6);
	grid_row(&g, "SERVICE", "PORT", "KIND", "BALANCING", "ENDPOINTS", "DEFINED IN");
	json_array_foreach(items, i, s)
	{
		json_array_foreach(at(s, "ports"), k, p)
		{
			long long all = at_int(p, "endpoint_count"), healthy = at_int(p, "healthy_count");
			grid_cell(&g, COLOR_NONE, "%s", at_text_or(s, "hostname", "-"));
			grid_cell(&g, COLOR_NONE, "%lld/%s", at_int(p, "port"), at_text_or(p, "protocol", "?"));
			grid_cell(&g, COLOR_NONE, "%s", at_text_or(s, "kind", "-"));
			grid_cell(&g, COLOR_NONE, "%s", at_text_or(s, "load_balancing", "-"));
			grid_cell(&g, healthy < all || !all ? COLOR_WARN : COLOR_NONE, "%lld/%lld", healthy, all);
			grid_cell(&g, COLOR_NONE, "%s", at_text_or(s, "origin", "-"));
		}
	}
	grid_print(&g);
}

static void show_endpoints(struct cli *cli, const json_t *items)
{
	const json_t *e;
	struct grid g;
	size_t i;

	grid_init(&g, cli, 7);
	grid_row(&g, "ENDPOINT", "STATUS", "SERVICE", "WORKLOAD", "NODE", "REACHED BY", "WEIGHT");
	json_array_foreach(items, i, e)
	{
		bool healthy = at_true(e, "healthy");
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "address", "-"));
		grid_cell(&g, healthy ? COLOR_GOOD : COLOR_BAD, "%s", healthy ? "HEALTHY" : "EJECTED");
		grid_cell(&g, COLOR_NONE, "%s:%lld/%s", at_text_or(e, "service", "?"), at_int(e, "service_port"),
			  at_text_or(e, "protocol", "?"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "workload", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "node", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "reached_by", "-"));
		grid_cell(&g, COLOR_NONE, "%lld", at_int(e, "weight"));
	}
	grid_print(&g);
}

/* Of each worker that uses the cluster a row for each endpoint. */
static void show_upstreams(struct cli *cli, const json_t *items)
{
	const json_t *c, *e;
	struct grid g;
	size_t i, k;

	grid_init(&g, cli, 8);
	grid_row(&g, "CLUSTER", "ENDPOINT", "STATUS", "PRIORITY", "ACTIVE", "REQUESTS", "ERRORS", "EWMA");
	json_array_foreach(items, i, c)
	{
		json_array_foreach(at(c, "endpoints"), k, e)
		{
			const char *health = at_text_or(e, "health", "?");
			bool healthy = str_eq(health, "healthy");
			double left_s = json_number_value(at(e, "ejected_for_s"));
			grid_cell(&g, COLOR_NONE, "%s", at_text_or(c, "name", "-"));
			grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "address", "-"));
			if (str_eq(health, "ejected"))
				grid_cell(&g, COLOR_BAD, "EJECTED (%.0f s)", left_s);
			else
				grid_cell(&g, healthy ? COLOR_GOOD : COLOR_BAD, "%s",
					  healthy ? "HEALTHY" : "UNHEALTHY");
			grid_cell(&g, COLOR_NONE, "%lld", at_int(e, "priority"));
			grid_cell(&g, COLOR_NONE, "%lld", at_int(e, "active_requests"));
			grid_cell(&g, COLOR_NONE, "%lld", at_int(e, "requests"));
			grid_cell(&g, COLOR_NONE, "%lld", at_int(e, "errors"));
			grid_cell(&g, COLOR_NONE, "%.1f ms", json_number_value(at(e, "ewma_ms")));
		}
	}
	grid_print(&g);
}

/* What the helper dumps is its own business: a column for each scalar member of the first row. */
static void show_dump(struct cli *cli, const json_t *items)
{
	const json_t *row = json_array_get(items, 0);
	const char *keys[GRID_COLUMNS_MAX], *key;
	json_t *value;
	struct grid g;
	size_t n = 0, i;

	json_object_foreach((json_t *)row, key, value) if (n < GRID_COLUMNS_MAX && !json_is_object(value) &&
							   !json_is_array(value)) keys[n++] = key;
	if (!n)
		return;
	grid_init(&g, cli, n);
	for (i = 0; i < n; i++) {
		char heading[64];
		str_copy(heading, sizeof(heading), keys[i]);
		for (char *p = heading; *p; p++)
			*p = (char)(*p == '_' ? ' ' : *p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
		grid_cell(&g, COLOR_NONE, "%s", heading);
	}
	json_array_foreach(items, i, row)
	{
		for (size_t k = 0; k < n; k++) {
			const json_t *cell = json_object_get(row, keys[k]);
			char date[32];
			if (strcasestr(keys[k], "notAfter") || strcasestr(keys[k], "not_after"))
				grid_cell(&g, COLOR_NONE, "%s",
					  format_date((unsigned long long)json_integer_value(cell), date));
			else if (json_is_string(cell))
				grid_cell(&g, COLOR_NONE, "%s", json_string_value(cell));
			else if (json_is_boolean(cell))
				grid_cell(&g, COLOR_NONE, "%s", json_is_true(cell) ? "yes" : "no");
			else if (json_is_number(cell))
				grid_cell(&g, COLOR_NONE, "%.15g", json_number_value(cell));
			else
				grid_cell(&g, COLOR_NONE, "-");
		}
	}
	grid_print(&g);
}

/* A row for each match of each route; what a route says stands in its first. */
static void show_routes(struct cli *cli, const json_t *items)
{
	bool wide = cli->format == FORMAT_WIDE;
	const json_t *s, *r;
	struct grid g;
	size_t i, k;

	grid_init(&g, cli, wide ? 8 : 6);
	if (wide)
		grid_row(&g, "HOST:PORT", "MODE", "ROUTE", "MATCH", "ACTION", "RETRIES", "FROM", "OWNER");
	else
		grid_row(&g, "HOST:PORT", "MODE", "ROUTE", "MATCH", "ACTION", "FROM");
	json_array_foreach(items, i, s)
	{
		json_array_foreach(at(s, "routes"), k, r)
		{
			size_t n = at_count(r, "matches"), m = 0;
			do {
				const char *match = json_string_value(json_array_get(at(r, "matches"), m));
				bool first = m == 0;
				if (first)
					grid_cell(&g, COLOR_NONE, "%s:%lld", at_text_or(s, "service", "?"),
						  at_int(s, "port"));
				else
					grid_cell(&g, COLOR_NONE, "%s", "");
				grid_cell(&g, COLOR_NONE, "%s", first ? at_text_or(s, "mode", "-") : "");
				grid_cell(&g, COLOR_NONE, "%s", first ? at_text_or(r, "name", "-") : "");
				grid_cell(&g, COLOR_NONE, "%s", match ? match : "*");
				grid_cell(&g, COLOR_NONE, "%s", first ? at_text_or(r, "action", "-") : "");
				if (wide)
					grid_cell(&g, COLOR_NONE, "%s", first ? at_text_or(r, "retries", "-") : "");
				grid_cell(&g, COLOR_NONE, "%s", first ? at_text_or(r, "origin", "-") : "");
				if (wide)
					grid_cell(&g, COLOR_NONE, "%s", first ? at_text_or(r, "owner", "-") : "");
			} while (++m < n);
		}
	}
	grid_print(&g);
}

static const struct {
	const char *name;
	void (*show)(struct cli *cli, const json_t *items);
} parts[] = {
	{ "listeners", show_listeners }, { "clusters", show_clusters },	    { "endpoints", show_endpoints },
	{ "secrets", show_dump },	 { "connections", show_dump },	    { "pools", show_dump },
	{ "pods", show_dump },		 { "routes", show_routes },	    { "upstreams", show_upstreams },
	{ "http-pools", show_dump },	 { "http-connections", show_dump },
};

static void show_all(struct cli *cli, const json_t *answer)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		const json_t *items = at(answer, parts[i].name);
		if (!items)
			continue;
		fprintf(cli->out, "%s%s%s%s\n", i ? "\n" : "", cli_color(cli, COLOR_BOLD), parts[i].name,
			cli_plain(cli));
		if (json_array_size(items))
			parts[i].show(cli, items);
		else
			fputs("none\n", cli->out);
	}
}

int cmd_proxy_config(struct cli *cli)
{
	bool routes = str_eq(cli->args[0], "routes");
	if (cli->argc > 1 && !routes)
		return cli_usage_error(cli, "only routes are a workload's: proxy-config routes %s", cli->args[1]);
	AUTO(mem_freep) char *workload = cli->argc > 1 ? qualified(cli, cli->args[1]) : NULL;
	/* A workload's routes go to all namespaces. */
	AUTO(mem_freep) char *query = cli_query("workload", workload, "namespace", workload ? NULL : cli->ns, "service",
						routes ? cli_option(cli, "service") : NULL, NULL);
	AUTO(mem_freep) char *what = cli_escape(cli->args[0]);
	json_t *answer;
	int rc = routes ? cli_get(cli, &answer, "/v1/http/routes%s", query) :
			  cli_get(cli, &answer, "/v1/proxy-config/%s%s", what, query);
	if (rc != EXIT_OK)
		return rc;

	const json_t *items = at(answer, "items");
	const char *problem = at_text(answer, "problem");
	if (!cli_print_structured(cli, answer)) {
		if (str_eq(cli->args[0], "all"))
			show_all(cli, answer);
		else if (!json_array_size(items) && !problem)
			fprintf(cli->out, "No %s.\n", cli->args[0]);
		for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
			if (str_eq(parts[i].name, cli->args[0]) && json_array_size(items))
				parts[i].show(cli, items);
	}
	rc = problem ? cli_fail(cli, EXIT_NEGATIVE, "%s", problem) : EXIT_OK;
	json_decref(answer);
	return rc;
}
