/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/format.h"

static void line(struct cli *cli, const char *what, enum color color, const char *state, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
static void line(struct cli *cli, const char *what, enum color color, const char *state, const char *format, ...)
{
	va_list args;

	fprintf(cli->out, "%s%-15s%s%s%-9s%s ", cli_color(cli, COLOR_BOLD), what, cli_plain(cli), cli_color(cli, color),
		state, cli_plain(cli));
	va_start(args, format);
	vfprintf(cli->out, format, args);
	va_end(args);
	fputc('\n', cli->out);
}

static void show_agent(struct cli *cli, const json_t *s)
{
	bool ready = at_true(s, "ready");
	char up[32];

	line(cli, "Agent", ready ? COLOR_GOOD : COLOR_BAD, ready ? "ready" : "not ready",
	     "%s%snode %s, %s, instance %s, up %s", at_text_or(s, "not_ready", ""), at_text(s, "not_ready") ? "; " : "",
	     at_text_or(s, "node", "?"), at_text_or(s, "version", "?"), at_text_or(s, "instance", "default"),
	     format_duration((unsigned long long)at_int(s, "uptime_s"), up));
}

static void show_helper(struct cli *cli, const json_t *s)
{
	bool ready = at_true(s, "helper.ready");
	long long restarts = at_int(s, "helper.restarts"), draining = at_int(s, "helper.draining");
	AUTO(sb_done) struct sb more = { 0 };
	char up[32];

	if (draining)
		sb_addf(&more, ", %lld draining", draining);
	if (at_int(s, "helper.orphans"))
		sb_addf(&more, ", %lld of an earlier agent", at_int(s, "helper.orphans"));
	if (at_is_null(s, "helper.pid"))
		line(cli, "Helper", COLOR_BAD, "down", "no process; %lld restarts%s", restarts, more.p ? more.p : "");
	else
		line(cli, "Helper", ready ? COLOR_GOOD : COLOR_WARN, ready ? "ready" : "starting",
		     "pid %lld, up %s, %lld restart%s%s", at_int(s, "helper.pid"),
		     format_duration((unsigned long long)at_int(s, "helper.uptime_s"), up), restarts,
		     restarts == 1 ? "" : "s", more.p ? more.p : "");
}

static void show_config(struct cli *cli, const json_t *s)
{
	long long rejected = at_int(s, "config.rejected"), warnings = at_int(s, "config.warnings");
	bool settled = at_true(s, "config.settled");
	AUTO(sb_done) struct sb more = { 0 };

	if (rejected)
		sb_addf(&more, ", %lld rejected", rejected);
	if (warnings)
		sb_addf(&more, ", %lld warning%s", warnings, warnings == 1 ? "" : "s");
	if (at_int(s, "config.rolled_back_to"))
		sb_addf(&more, ", rolled back to revision %lld until the files change",
			at_int(s, "config.rolled_back_to"));
	line(cli, "Configuration", rejected ? COLOR_BAD : COLOR_GOOD,
	     rejected ? "problems" :
	     settled  ? "ok" :
			"changing",
	     "revision %lld, %lld resources from %s%s", at_int(s, "config.revision"), at_int(s, "config.resources"),
	     at_text_or(s, "config.dir", "?"), more.p ? more.p : "");
}

static void show_pods(struct cli *cli, const json_t *s)
{
	long long local = at_int(s, "pods.local"), ready = at_int(s, "pods.ready");
	size_t failed = at_count(s, "pods.failed");
	char state[32];

	snprintf(state, sizeof(state), "%lld/%lld", ready, local);
	line(cli, "Pods",
	     ready == local ? COLOR_GOOD :
	     failed	    ? COLOR_BAD :
			      COLOR_WARN,
	     state, "ready on this node%s%lld%s", failed ? ", " : ", of ",
	     failed ? (long long)failed : at_int(s, "workloads"),
	     failed ? " could not be enrolled" : " workloads in all");
	line(cli, "Mesh", COLOR_NONE, "", "%lld services, trust domain %s", at_int(s, "services"),
	     at_text_or(s, "trust_domain", "?"));
}

static void show_certificates(struct cli *cli, const json_t *s)
{
	long long root = at_int(s, "certificates.root_not_after_s");
	const char *warning = at_text(s, "certificates.warning");
	char when[48];

	if (!root)
		return;
	line(cli, "Certificates", warning ? COLOR_WARN : COLOR_GOOD, warning ? "warning" : "ok",
	     "%lld issued, %lld revoked; the root expires %s", at_int(s, "certificates.issued"),
	     at_int(s, "certificates.revoked"), format_relative((unsigned long long)root, cli->now_s, when));
}

/* Only what can't be fetched is worth a line each. */
static void show_keys(struct cli *cli, const json_t *s)
{
	const json_t *keys;
	size_t i, bad = 0;

	json_array_foreach((json_t *)at(s, "token_keys"), i, keys) bad += at_text(keys, "error") != NULL;
	if (at_count(s, "token_keys"))
		line(cli, "Token keys", bad ? COLOR_BAD : COLOR_GOOD, bad ? "failing" : "ok",
		     "%zu key sets, %zu can't be fetched", at_count(s, "token_keys"), bad);
	json_array_foreach((json_t *)at(s, "token_keys"), i, keys) if (at_text(keys, "error"))
		line(cli, "", COLOR_NONE, "", "%s: %s%s", at_text_or(keys, "uri", "?"), at_text(keys, "error"),
		     at_int(keys, "last_ok_s") ? " (those of before are in force)" : "; its tokens are refused");
}

/* "Connections    24        1 direct, 20 attested, ..." */
static void show_counts(struct cli *cli, const char *title, const json_t *counts)
{
	AUTO(sb_done) struct sb text = { 0 };
	const char *key;
	json_t *value;
	long long total = 0;

	json_object_foreach((json_t *)counts, key, value)
	{
		long long n = json_integer_value(value);
		if (n)
			sb_addf(&text, "%s%lld %s", text.len ? ", " : "", n, key);
		total += n;
	}
	char count[32];
	snprintf(count, sizeof(count), "%lld", total);
	line(cli, title, COLOR_NONE, count, "%s", text.p ? text.p : "");
}

static void show_counters(struct cli *cli, const json_t *s)
{
	show_counts(cli, "Opened", at(s, "connections"));
	show_counts(cli, "Accepted", at(s, "accepted"));
	show_counts(cli, "Refused", at(s, "drops"));
	if (at_int(s, "flows_lost"))
		line(cli, "Flow events", COLOR_WARN, "lost",
		     "%lld: the ring was full; raise weft.maps.flows in mesh.yaml", at_int(s, "flows_lost"));
}

/* Only tables that are more than three quarters full are worth a line. */
static size_t show_tables(struct cli *cli, const json_t *s)
{
	size_t i, full = 0;
	const json_t *map;

	json_array_foreach(at(s, "maps"), i, map)
	{
		long long entries = at_int(map, "entries"), max = at_int(map, "max_entries");
		if (max <= 0 || entries * 4 < max * 3)
			continue;
		full++;
		line(cli, "Table", entries >= max ? COLOR_BAD : COLOR_WARN, entries >= max ? "full" : "filling",
		     "%s: %lld of %lld entries", at_text_or(map, "name", "?"), entries, max);
	}
	return full;
}

static void show_problems(struct cli *cli, const json_t *s)
{
	size_t i;
	const json_t *p;

	json_array_foreach(at(s, "pods.failed"), i, p)
		fprintf(cli->out, "\n%sPod %s%s\n    %s\n", cli_color(cli, COLOR_BAD), at_text_or(p, "workload", "?"),
			cli_plain(cli), at_text_or(p, "error", "?"));
	json_array_foreach(at(s, "config.problems"), i, p)
	{
		bool warning = at_true(p, "warning");
		fprintf(cli->out, "\n%s%s %s%s  %s\n    %s\n", cli_color(cli, warning ? COLOR_WARN : COLOR_BAD),
			warning ? "Warning" : "Rejected", at_text_or(p, "key", "?"), cli_plain(cli),
			at_text_or(p, "origin", ""), at_text_or(p, "text", "?"));
		if (!warning)
			fprintf(cli->out, "    %s\n",
				at_true(p, "last_good") ? "The last good version stays in force." :
							  "Nothing of it is in force.");
	}
	if (at_text(s, "certificates.warning"))
		fprintf(cli->out, "\n%sCertificates%s\n    %s\n", cli_color(cli, COLOR_WARN), cli_plain(cli),
			at_text(s, "certificates.warning"));
}

int cmd_status(struct cli *cli)
{
	json_t *s;
	int rc = cli_get(cli, &s, "/v1/status");
	if (rc != EXIT_OK)
		return rc;

	bool well = at_true(s, "ready") && at_true(s, "helper.ready") && at_int(s, "config.rejected") == 0 &&
		    at_count(s, "pods.failed") == 0;
	if (!cli_print_structured(cli, s)) {
		show_agent(cli, s);
		show_helper(cli, s);
		show_config(cli, s);
		show_pods(cli, s);
		show_keys(cli, s);
		show_certificates(cli, s);
		show_counters(cli, s);
		show_tables(cli, s);
		show_problems(cli, s);
	}
	json_decref(s);
	return well ? EXIT_OK : EXIT_NEGATIVE;
}
