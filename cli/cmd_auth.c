/* SPDX-License-Identifier: Apache-2.0 */
/* authn tls-check, authz check */
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/explain.h"
#include "cli/format.h"
#include "cli/objects.h"
#include "cli/policy_text.h"

static bool tls_conflict(const json_t *items)
{
	const json_t *row;
	size_t i;

	json_array_foreach(items, i, row) if (str_eq(at_text(row, "status"), "CONFLICT")) return true;
	return false;
}

static void show_tls(struct cli *cli, const json_t *items)
{
	const json_t *row;
	struct grid g;
	size_t i;

	grid_init(&g, cli, 5);
	grid_row(&g, "HOST:PORT", "STATUS", "SERVER", "CLIENT", "AUTHN POLICY");
	json_array_foreach(items, i, row)
	{
		const char *status = at_text_or(row, "status", "?");
		bool bad = str_eq(status, "CONFLICT");
		grid_cell(&g, COLOR_NONE, "%s:%lld%s", at_text_or(row, "host", "?"), at_int(row, "port"),
			  str_eq(at_text(row, "protocol"), "udp") ? "/udp" : "");
		grid_cell(&g, bad ? COLOR_BAD : str_eq(status, "OK") ? COLOR_GOOD : COLOR_WARN, "%s", status);
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(row, "server", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(row, "client", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(row, "policy", "-"));
	}
	grid_print(&g);
}

int cmd_tls_check(struct cli *cli)
{
	AUTO(mem_freep) char *query = cli_query("namespace", cli->ns, "service", cli->argc ? cli->args[0] : NULL, NULL);
	json_t *answer;
	int rc = cli_get(cli, &answer, "/v1/tls-check%s", query);
	if (rc != EXIT_OK)
		return rc;
	const json_t *items = at(answer, "items");
	if (!cli_print_structured(cli, answer)) {
		if (json_array_size(items))
			show_tls(cli, items);
		else
			fputs("No such service.\n", cli->out);
	}
	bool bad = tls_conflict(items) || (cli->argc && !json_array_size(items));
	json_decref(answer);
	return bad ? EXIT_NEGATIVE : EXIT_OK;
}

static int show_rules(struct cli *cli)
{
	const json_t *p, *rule;
	json_t *answer;
	size_t i, k;
	int rc = object_fetch(cli, OBJECT_POLICY, "policy", cli->args[0], &answer);
	if (rc != EXIT_OK)
		return rc;

	if (!cli_print_structured(cli, answer)) {
		json_array_foreach(at(answer, "items"), i, p)
		{
			struct grid g;
			fprintf(cli->out, "%s%s: mTLS %s (%s)\n", i ? "\n" : "", at_text_or(p, "workload", "?"),
				at_text_or(p, "mtls", "?"), at_text_or(p, "mtls_origin", "?"));
			grid_init(&g, cli, 4);
			grid_row(&g, "ACTION", "POLICY", "RULE", "DEFINED IN");
			json_array_foreach(at(p, "rules"), k, rule)
			{
				const char *action = at_text_or(rule, "action", "?");
				grid_cell(&g, str_eq(action, "DENY") ? COLOR_BAD : COLOR_NONE, "%s%s", action,
					  at_true(rule, "dry_run") ? " (dry run)" : "");
				grid_cell(&g, COLOR_NONE, "%s", at_text_or(rule, "name", "-"));
				grid_cell(&g, COLOR_NONE, "%lld", at_int(rule, "rule") + 1);
				grid_cell(&g, COLOR_NONE, "%s", at_text_or(rule, "origin", "-"));
			}
			bool allow = at_true(p, "default_allow");
			grid_row(&g, allow ? "ALLOW" : "DENY", "otherwise", "-", "-");
			grid_print(&g);
		}
	}
	json_decref(answer);
	return EXIT_OK;
}

int cmd_authz_check(struct cli *cli)
{
	bool refused = false, unknown = false;
	const json_t *item;
	json_t *answer;
	size_t i;
	if (cli->argc == 1)
		return show_rules(cli);

	AUTO(mem_freep) char *source = qualified(cli, cli->args[0]);
	if (strstr(cli->args[1], "://"))
		return explain_http(cli, source);
	AUTO(mem_freep) char *query =
		cli_query("source", source, "destination", cli->args[1], "proto", cli_option(cli, "proto"), NULL);
	int rc = cli_get(cli, &answer, "/v1/authz/check%s", query);
	if (rc != EXIT_OK)
		return rc;
	bool text = !cli_print_structured(cli, answer);
	json_array_foreach(at(answer, "items"), i, item)
	{
		if (at_is_null(item, "allowed")) {
			unknown = true;
			if (text)
				fprintf(cli->out, "%s: %s%s%s\n", at_text_or(item, "workload", cli->args[1]),
					at_text_or(item, "problem", "?"), at_text(item, "node") ? ", on " : "",
					at_text_or(item, "node", ""));
			continue;
		}
		bool allowed = at_true(item, "allowed");
		refused |= !allowed;
		AUTO(mem_freep) char *verdict = policy_verdict_text(item);
		if (text)
			fprintf(cli->out, "%s port %lld: %s%s%s\n", at_text_or(item, "workload", "?"),
				at_int(item, "port"), cli_color(cli, allowed ? COLOR_GOOD : COLOR_BAD), verdict,
				cli_plain(cli));
	}
	if (text && !json_array_size(at(answer, "items")))
		fputs("The service has no endpoints.\n", cli->out);
	unknown |= !json_array_size(at(answer, "items"));
	json_decref(answer);
	return refused || unknown ? EXIT_NEGATIVE : EXIT_OK;
}
