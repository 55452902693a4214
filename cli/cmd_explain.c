/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/explain.h"
#include "cli/format.h"
#include "cli/policy_text.h"

void explain_head(struct cli *cli, const char *what)
{
	fprintf(cli->out, "  %s%-13s%s", cli_color(cli, COLOR_BOLD), what, cli_plain(cli));
}

void explain_source(struct cli *cli, const json_t *x)
{
	const char *workload = at_text(x, "source.workload"), *address = at_text(x, "source.address");

	explain_head(cli, "Source");
	if (!workload) {
		fprintf(cli->out, "%s, nobody the mesh knows\n", address ? address : "an unknown address");
		return;
	}
	fprintf(cli->out, "%s%s%s%s on %s\n%15s%s\n", workload, address ? " (" : "", address ? address : "",
		address ? ")" : "", at_text_or(x, "source.node", "an unknown node"), "",
		at_text_or(x, "source.identity", "?"));
}

void explain_destination(struct cli *cli, const json_t *x)
{
	const json_t *service = at(x, "destination.service");
	const char *asked = at_text_or(x, "destination.asked", "?"), *proto = at_text_or(x, "destination.protocol", "");

	explain_head(cli, "Destination");
	if (!json_is_object(service)) {
		fprintf(cli->out, "%s/%s%s%s\n", asked, proto, at_text(x, "destination.workload") ? ", " : "",
			at_text_or(x, "destination.workload", ""));
		return;
	}
	fprintf(cli->out, "%s %s, called at %s/%s\n%15sdefined in %s, %s%s\n", at_text_or(service, "kind", "Service"),
		at_text_or(service, "hostname", "?"), asked, proto, "", at_text_or(service, "origin", "?"),
		at_text_or(service, "load_balancing", "?"),
		at_int(service, "affinity_timeout_s") ? ", session affinity" : "");
	if (at_text(x, "destination.problem"))
		fprintf(cli->out, "%15s%s%s%s\n", "", cli_color(cli, COLOR_BAD), at_text(x, "destination.problem"),
			cli_plain(cli));
}

static void endpoint_cells(struct grid *g, const json_t *e, const json_t *share)
{
	bool chosen = at_true(e, "chosen"), healthy = at_true(e, "healthy");

	grid_cell(g, COLOR_GOOD, "%s", chosen ? "*" : " ");
	grid_cell(g, chosen ? COLOR_BOLD : COLOR_NONE, "%s", at_text_or(e, "address", "?"));
	grid_cell(g, COLOR_NONE, "%s", at_text_or(e, "workload", "outside the mesh"));
	grid_cell(g, COLOR_NONE, "%s", at_text_or(e, "node", "-"));
	if (json_is_real(share))
		grid_cell(g, COLOR_NONE, "%.0f%%", json_real_value(share) * 100);
	else
		grid_cell(g, COLOR_NONE, "-");
	grid_cell(g, healthy ? COLOR_NONE : COLOR_BAD, "%s", healthy ? "healthy" : "ejected");
}

/* Those that a caller by this address family may get; of the others only how many they are. */
static void show_endpoints(struct cli *cli, const json_t *x)
{
	const json_t *endpoints = at(x, "destination.endpoints"), *e;
	bool v6 = str_starts(at_text_or(x, "destination.asked", ""), "[");
	size_t i, shown = 0, others = 0, more = 0;
	struct grid g;
	enum { MAX = 12 };

	if (!json_array_size(endpoints))
		return;
	explain_head(cli, "Endpoints");
	grid_init(&g, cli, 6);
	g.no_header = true;
	json_array_foreach(endpoints, i, e)
	{
		const json_t *share = at(e, v6 ? "share6" : "share");
		bool chosen = at_true(e, "chosen"), other_family = str_starts(at_text_or(e, "address", ""), "[") != v6;
		if (!chosen && other_family && json_real_value(share) <= 0) {
			others++;
		} else if (!chosen && shown >= MAX) {
			more++;
		} else {
			shown++;
			endpoint_cells(&g, e, share);
		}
	}
	grid_print_after(&g, 15);
	if (more || others)
		fprintf(cli->out, "%15s", "");
	if (more)
		fprintf(cli->out, "... and %zu more%s", more, others ? "; " : "\n");
	if (others)
		fprintf(cli->out, "%zu by %s\n", others, v6 ? "IPv4" : "IPv6");
}

static const struct {
	const char *path, *text;
} paths[] = {
	{ "attested", "attested: both on this node; the kernel vouches for the caller, no TLS" },
	{ "hbone", "mutual TLS (HBONE, port 15008)" },
	{ "http",
	  "the HTTP engine on the caller's node; from there mutual TLS or attested where the endpoint is in the mesh" },
	{ "direct", "direct: not a mesh destination, or nothing to add; not encrypted by the mesh" },
	{ "plaintext", "plaintext: one end is not in the mesh" },
	{ "refused", "none: refused where the caller connects" },
};

static void show_path(struct cli *cli, const json_t *x)
{
	const char *path = at_text_or(x, "path", "?"), *text = path;
	const char *identity = at_text(x, "destination.identity");

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (str_eq(paths[i].path, path))
			text = paths[i].text;
	if (str_eq(at_text(x, "destination.protocol"), "udp") && !str_eq(path, "refused"))
		text = "plaintext: UDP is balanced and judged, not encrypted";
	explain_head(cli, "Path");
	fprintf(cli->out, "%s\n", text);
	if (identity) {
		explain_head(cli, "Peer");
		fprintf(cli->out, "must be %s\n", identity);
	}
	if (!at_true(x, "outbound.allowed")) {
		explain_head(cli, "Reason");
		fprintf(cli->out, "%s: %s\n", at_text_or(x, "outbound.reason", "?"),
			at_text_or(x, "outbound.help", ""));
	}
}

static void show_inbound(struct cli *cli, const json_t *x)
{
	const json_t *in = at(x, "inbound");
	AUTO(mem_freep) char *policy = NULL;

	if (!json_is_object(in))
		return;
	explain_head(cli, "mTLS");
	fprintf(cli->out, "%s, from %s\n", at_text_or(in, "mtls_mode", "?"),
		at_text_or(in, "mtls_origin", "the default"));
	explain_head(cli, "Policy");
	policy = policy_verdict_text(in);
	fprintf(cli->out, "%s\n",
		at_true(in, "by_request") ? "each request is judged by its rules" :
		at_true(in, "by_name")	  ? "the rules ask for the TLS server name (connection.sni)" :
					    policy);
	if (at_text(in, "help"))
		fprintf(cli->out, "%15s%s: %s\n", "", at_text_or(in, "reason", "?"), at_text(in, "help"));
	if (json_is_object(at(in, "audit"))) {
		AUTO(mem_freep) char *audit = policy_rule_text(at(in, "audit"));
		explain_head(cli, "Audit");
		fprintf(cli->out, "%s\n", audit);
	}
}

static int exit_of(const char *verdict)
{
	return str_eq(verdict, "allowed") ? EXIT_OK : EXIT_NEGATIVE;
}

static void show(struct cli *cli, const json_t *x)
{
	const char *verdict = at_text_or(x, "verdict", "unknown");
	enum color color = str_eq(verdict, "allowed") ? COLOR_GOOD :
			   str_eq(verdict, "refused") ? COLOR_BAD :
							COLOR_WARN;
	size_t i;
	const json_t *note;

	fprintf(cli->out, "%s -> %s: %s%s%s\n\n", cli->args[0], cli->args[1], cli_color(cli, color), verdict,
		cli_plain(cli));
	explain_source(cli, x);
	explain_destination(cli, x);
	show_endpoints(cli, x);
	show_path(cli, x);
	show_inbound(cli, x);
	json_array_foreach(at(x, "notes"), i, note)
	{
		explain_head(cli, i ? "" : "Note");
		fprintf(cli->out, "%s\n", json_string_value(note));
	}
}

/* A bare name is looked up in -n's namespace when one is given. */
char *qualified(const struct cli *cli, const char *name)
{
	bool bare = cli->ns && !strpbrk(name, "/.:[");
	char *text = bare ? str_format("%s/%s", cli->ns, name) : strdup(name);

	return text;
}

int cmd_explain(struct cli *cli)
{
	AUTO(mem_freep) char *source = qualified(cli, cli->args[0]);
	AUTO(mem_freep) char *query =
		cli_query("source", source, "destination", cli->args[1], "proto", cli_option(cli, "proto"), NULL);
	json_t *x;
	if (strstr(cli->args[1], "://"))
		return explain_http(cli, source);
	if (cli_option(cli, "header") || cli_option(cli, "request"))
		return cli_usage_error(cli, "-H and -X are for a request: give a URL, http://%s/", cli->args[1]);
	int rc = cli_get(cli, &x, "/v1/explain%s", query);
	if (rc != EXIT_OK)
		return rc;
	if (!cli_print_structured(cli, x))
		show(cli, x);
	rc = exit_of(at_text_or(x, "verdict", "unknown"));
	json_decref(x);
	return rc;
}
