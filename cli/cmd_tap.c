/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/format.h"

struct tapping {
	uint64_t left; /* requests to be shown still */
	bool refused;  /* by the helper: the filter makes no sense */
};

/* A number, or what stands for one that is not there. */
static char *number(const json_t *r, const char *key)
{
	const json_t *v = at(r, key);

	if (json_is_number(v))
		return str_format("%.10g", json_number_value(v));
	return strdup(json_is_string(v) ? json_string_value(v) : "-");
}

static void show_dry_run(struct cli *cli, const json_t *dry, const char *action)
{
	const char *policy = at_text(dry, "policy");

	if (dry)
		fprintf(cli->out, "    dry run of %s: %s%s%s\n", action, at_text_or(dry, "result", "?"),
			policy ? " by " : "", policy ? policy : "");
}

static void show(struct cli *cli, const json_t *r)
{
	const char *time = at_text_or(r, "time", ""), *clock = strchr(time, 'T');
	bool source_side = str_eq(at_text(r, "reporter"), "source"), wide = cli->format == FORMAT_WIDE;
	AUTO(mem_freep) char *status = number(r, "status");
	AUTO(mem_freep) char *duration = number(r, "duration_ms");
	const char *from = source_side ? at_text(r, "pod") : at_text_or(r, "peer", at_text(r, "source"));
	const char *to = at_text(r, "endpoint");
	enum color color = !status || status[0] == '5' || status[0] == '-' || str_eq(status, "0") ? COLOR_BAD :
			   status[0] == '4'							  ? COLOR_WARN :
												    COLOR_GOOD;
	char at_second[16] = "";

	if (clock)
		snprintf(at_second, sizeof(at_second), "%.12s", clock + 1);
	fprintf(cli->out, "%s%s%s %s%s%s %s %s%s  %s ms  %s -> %s%s%s  %s\n", cli_color(cli, COLOR_DIM),
		wide ? time : at_second, cli_plain(cli), cli_color(cli, color), status ? status : "-", cli_plain(cli),
		at_text_or(r, "method", "-"), at_text_or(r, "authority", ""), at_text_or(r, "path", "-"),
		duration ? duration : "-", from ? from : "?", source_side ? "" : at_text_or(r, "pod", "?"),
		source_side ? "" : " at ", to ? to : "-", at_text_or(r, "route", "-"));
	const char *flags = at_text(r, "flags");
	if (flags && !str_eq(flags, "-"))
		fprintf(cli->out, "    %s, %s\n", flags, at_text_or(r, "details", "-"));
	if (at_text(r, "policy"))
		fprintf(cli->out, "    policy %s\n", at_text(r, "policy"));
	show_dry_run(cli, at(r, "dry_run_deny"), "DENY");
	show_dry_run(cli, at(r, "dry_run_allow"), "ALLOW");
	if (wide)
		fprintf(cli->out, "    seen at the %s, %s, id %s\n", at_text_or(r, "reporter", "?"),
			at_text_or(r, "cluster", "no cluster"), at_text_or(r, "request_id", "-"));
}

static bool on_line(struct cli *cli, const char *line, void *arg)
{
	struct tapping *t = arg;
	json_t *r = json_loads(line, 0, NULL);
	if (!r)
		return true;

	const char *error = at_text(r, "error");
	if (error) {
		cli_fail(cli, EXIT_BAD_USAGE, "%s", error);
		t->refused = true;
	} else if (at(r, "lost")) {
		fprintf(cli->err, "meshctl: %lld requests were too quick to be shown\n", at_int(r, "lost"));
	} else {
		t->left--;
		if (cli->format == FORMAT_JSON)
			fprintf(cli->out, "%s\n", line);
		else if (cli->format == FORMAT_YAML)
			fputs("---\n", cli->out), format_yaml(cli->out, r);
		else
			show(cli, r);
		fflush(cli->out);
	}
	json_decref(r);
	return !t->refused && t->left && !ferror(cli->out);
}

static bool is_name(const char *text)
{
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-._/", *p))
			return false;
	return *text && strlen(text) < 200;
}

/* The user's filter, and the service or workload that is meant, as one expression. NULL: none. */
static char *expression(const char *filter, const char *name, const char *ns)
{
	struct sb sb = { 0 };
	const char *slash = name ? strchr(name, '/') : NULL;

	if (filter)
		sb_addf(&sb, "(%s)", filter);
	if (slash)
		sb_addf(&sb, "%s(node.id.startsWith('%s') || xds.cluster_name.contains('|%s.%.*s.'))",
			sb.len ? " && " : "", name, slash + 1, (int)(slash - name), name);
	else if (name)
		sb_addf(&sb,
			"%s(node.id.contains('/%s') || xds.cluster_name.contains('|%s.') || "
			"xds.cluster_name.endsWith('|%s'))",
			sb.len ? " && " : "", name, name, name);
	if (ns && !slash)
		sb_addf(&sb, "%s(node.id.startsWith('%s/') || xds.cluster_name.contains('.%s.svc.'))",
			sb.len ? " && " : "", ns, ns);
	return sb.len ? sb_take(&sb) : NULL;
}

int cmd_tap(struct cli *cli)
{
	const char *name = cli->argc ? cli->args[0] : NULL, *count = cli_option(cli, "count");
	const char *rate = cli_option(cli, "rate");
	struct tapping t = { .left = UINT64_MAX };
	AUTO(mem_freep) char *error_body = NULL;
	char why[400] = "";
	uint64_t number_of;
	long status = 0;

	if ((name && !is_name(name)) || (cli->ns && !is_name(cli->ns)))
		return cli_usage_error(cli, "\"%s\" is no name", name && !is_name(name) ? name : cli->ns);
	if (count && (str_to_u64(count, UINT64_MAX, &t.left) < 0 || !t.left))
		return cli_usage_error(cli, "--count %s is no number of requests", count);
	if (rate && (str_to_u64(rate, 1000, &number_of) < 0 || !number_of))
		return cli_usage_error(cli, "--rate %s is no number from 1 to 1000", rate);
	AUTO(mem_freep) char *filter = expression(cli_option(cli, "filter"), name, cli->ns);
	AUTO(mem_freep) char *query = cli_query("filter", filter, "rate", rate, NULL);
	AUTO(mem_freep) char *path = str_format("/v1/tap%s", query);
	int rc = cli->transport->stream(cli, path, on_line, &t, &status, &error_body, why, sizeof(why));
	if (t.refused)
		return EXIT_BAD_USAGE;
	if (rc < 0)
		return cli_fail(cli, EXIT_UNREACHABLE, "%s", why);
	return status == 200 ? EXIT_OK : cli_report_status(cli, status, error_body);
}
