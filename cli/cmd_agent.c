/* SPDX-License-Identifier: Apache-2.0 */
/* log, metrics, reasons, precheck, version */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "version.h"

int cmd_log(struct cli *cli)
{
	json_t *answer;
	int rc = cli->argc ? cli_change(cli, "PUT", "/v1/log", json_pack("{s:s}", "level", cli->args[0]), &answer) :
			     cli_get(cli, &answer, "/v1/log");
	if (rc != EXIT_OK)
		return rc;
	if (!cli_print_structured(cli, answer))
		fprintf(cli->out, "%s\n", at_text_or(answer, "level", "?"));
	json_decref(answer);
	return EXIT_OK;
}

int cmd_metrics(struct cli *cli)
{
	const char *filter = cli_option(cli, "filter");
	AUTO(mem_freep) char *text = NULL;
	int rc = cli_get_text(cli, &text, "/metrics");
	if (rc != EXIT_OK)
		return rc;
	if (cli_structured(cli))
		return cli_usage_error(cli, "metrics are printed as Prometheus reads them; -o is not for them");
	for (char *line = text, *end; *line; line = end) {
		end = line + strcspn(line, "\n");
		bool last = !*end;
		*end = 0;
		if (!filter || strstr(line, filter))
			fprintf(cli->out, "%s\n", line);
		end += !last;
	}
	return EXIT_OK;
}

int cmd_reasons(struct cli *cli)
{
	const char *only = cli->argc ? cli->args[0] : NULL;
	const json_t *r;
	json_t *answer;
	struct grid g;
	bool found = false;
	size_t i;
	int rc = cli_get(cli, &answer, "/v1/reasons");
	if (rc != EXIT_OK)
		return rc;

	if (!only && cli_print_structured(cli, answer)) {
		json_decref(answer);
		return EXIT_OK;
	}
	grid_init(&g, cli, 2);
	g.no_header = true;
	json_array_foreach(at(answer, "items"), i, r)
	{
		if (only && !str_eq(at_text(r, "name"), only))
			continue;
		found = true;
		if (!cli_print_structured(cli, r))
			grid_row(&g, at_text(r, "name"), at_text(r, "help"));
	}
	grid_print(&g);
	json_decref(answer);
	return found ? EXIT_OK :
		       cli_fail(cli, EXIT_NEGATIVE, "there is no reason \"%s\"; meshctl reasons lists them", only);
}

int cmd_precheck(struct cli *cli)
{
	const json_t *item;
	json_t *answer;
	size_t i;
	int rc = cli_get(cli, &answer, "/v1/precheck");
	if (rc != EXIT_OK)
		return rc;

	bool ok = at_true(answer, "ok");
	if (!cli_print_structured(cli, answer)) {
		json_array_foreach(at(answer, "items"), i, item)
		{
			bool good = at_true(item, "ok"), required = at_true(item, "required");
			fprintf(cli->out, "%s%-8s%s %s%s\n",
				cli_color(cli, good	? COLOR_GOOD :
					       required ? COLOR_BAD :
							  COLOR_WARN),
				good	 ? "ok" :
				required ? "MISSING" :
					   "absent",
				cli_plain(cli), at_text_or(item, "what", "?"), required || good ? "" : " (optional)");
			if (!good && at_text(item, "detail"))
				fprintf(cli->out, "         %s\n", at_text(item, "detail"));
		}
		fprintf(cli->out, "\n%s\n",
			ok ? "This machine runs Weft." : "Weft can't run here until what is missing is there.");
	}
	json_decref(answer);
	return ok ? EXIT_OK : EXIT_NEGATIVE;
}

int cmd_version(struct cli *cli)
{
	json_t *answer = NULL;
	int rc = cli_get(cli, &answer, "/v1/version");
	const char *agent = at_text(answer, "version");

	if (cli_structured(cli)) {
		json_t *o = json_pack("{s:s, s:s?}", "meshctl", WEFT_VERSION, "weftd", agent);
		cli_print_structured(cli, o);
		json_decref(o);
	} else {
		fprintf(cli->out, "meshctl %s\n", WEFT_VERSION);
		if (agent)
			fprintf(cli->out, "weftd   %s\n", agent);
	}
	json_decref(answer);
	return rc;
}
