/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/format.h"

int cmd_config_history(struct cli *cli)
{
	const json_t *r;
	json_t *answer;
	struct grid g;
	size_t i;
	int rc = cli_get(cli, &answer, "/v1/config/history");
	if (rc != EXIT_OK)
		return rc;

	if (!cli_print_structured(cli, answer)) {
		grid_init(&g, cli, 4);
		grid_row(&g, "REVISION", "WHEN", "STATE", "CHANGES");
		json_array_foreach(at(answer, "items"), i, r)
		{
			bool current = at_true(r, "current");
			char when[48];
			grid_cell(&g, current ? COLOR_BOLD : COLOR_NONE, "%lld", at_int(r, "revision"));
			grid_cell(&g, COLOR_NONE, "%s",
				  format_relative((unsigned long long)at_int(r, "time_s"), cli->now_s, when));
			grid_cell(&g, COLOR_GOOD, "%s", current ? "current" : "-");
			grid_cell(&g, COLOR_NONE, "%s%s", at_true(r, "rollback") ? "rollback: " : "",
				  at_text_or(r, "summary", ""));
		}
		grid_print(&g);
	}
	json_decref(answer);
	return EXIT_OK;
}

/* False: the usage message is printed. */
static bool revision_parse(struct cli *cli, const char *text, uint64_t *out)
{
	if (str_to_u64(text, INT64_MAX, out) == 0 && *out)
		return true;
	cli_usage_error(cli, "\"%s\" is no revision; meshctl config history lists them", text);
	return false;
}

static void print_diff(struct cli *cli, const char *text)
{
	for (const char *p = text; *p;) {
		size_t len = strcspn(p, "\n");
		enum color color = str_starts(p, "+++") || str_starts(p, "---") ? COLOR_BOLD :
				   *p == '+'					? COLOR_GOOD :
				   *p == '-'					? COLOR_BAD :
				   *p == '@'					? COLOR_DIM :
										  COLOR_NONE;
		fprintf(cli->out, "%s%.*s%s\n", cli_color(cli, color), (int)len, p, color ? cli_plain(cli) : "");
		p += len + (p[len] == '\n');
	}
}

int cmd_config_diff(struct cli *cli)
{
	uint64_t from, to = 0;
	AUTO(mem_freep) char *text = NULL;
	json_t *status;
	int rc;
	if (!revision_parse(cli, cli->args[0], &from) || (cli->argc > 1 && !revision_parse(cli, cli->args[1], &to)))
		return EXIT_BAD_USAGE;

	if (cli->argc == 1) {
		rc = cli_get(cli, &status, "/v1/status");
		if (rc != EXIT_OK)
			return rc;
		to = (uint64_t)at_int(status, "config.revision");
		json_decref(status);
	}
	rc = cli_get_text(cli, &text, "/v1/config/diff?from=%llu&to=%llu", (unsigned long long)from,
			  (unsigned long long)to);
	if (rc != EXIT_OK)
		return rc;
	if (cli_structured(cli)) {
		json_t *o = json_pack("{s:I, s:I, s:s}", "from", (json_int_t)from, "to", (json_int_t)to, "diff", text);
		cli_print_structured(cli, o);
		json_decref(o);
	} else if (*text) {
		print_diff(cli, text);
	} else {
		fputs("No differences.\n", cli->out);
	}
	return *text ? EXIT_NEGATIVE : EXIT_OK;
}

int cmd_config_rollback(struct cli *cli)
{
	uint64_t to;
	json_t *answer;
	if (!revision_parse(cli, cli->args[0], &to))
		return EXIT_BAD_USAGE;

	int rc =
		cli_change(cli, "POST", "/v1/config/rollback", json_pack("{s:I}", "revision", (json_int_t)to), &answer);
	if (rc != EXIT_OK)
		return rc;
	if (!cli_print_structured(cli, answer))
		fprintf(cli->out, "Rolled back to revision %llu. It stays until the files change: correct them next.\n",
			(unsigned long long)to);
	json_decref(answer);
	return EXIT_OK;
}

int cmd_analyze(struct cli *cli)
{
	AUTO(mem_freep) char *query = cli_query("namespace", cli->ns, NULL);
	const json_t *f;
	json_t *answer;
	bool odd = false;
	size_t i;
	int rc = cli_get(cli, &answer, "/v1/analyze%s", query);
	if (rc != EXIT_OK)
		return rc;

	bool text = !cli_print_structured(cli, answer);
	json_array_foreach(at(answer, "items"), i, f)
	{
		const char *severity = at_text_or(f, "severity", "?");
		bool info = str_eq(severity, "info");
		odd |= !info;
		if (text)
			fprintf(cli->out, "%s%-7s%s %s  %s\n        %s\n",
				cli_color(cli, info			 ? COLOR_DIM :
					       str_eq(severity, "error") ? COLOR_BAD :
									   COLOR_WARN),
				severity, cli_plain(cli), at_text_or(f, "key", "?"), at_text_or(f, "origin", ""),
				at_text_or(f, "text", "?"));
	}
	if (text && i == 0)
		fputs("Nothing odd was found.\n", cli->out);
	json_decref(answer);
	return odd ? EXIT_NEGATIVE : EXIT_OK;
}
