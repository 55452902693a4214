/* SPDX-License-Identifier: Apache-2.0 */
/* explain SOURCE URL: the route that a request takes, why others do not, and what its destination says. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/explain.h"
#include "cli/format.h"
#include "cli/policy_text.h"

enum { INDENT = 15 };

static void show_request(struct cli *cli, const json_t *x)
{
	const char *query = at_text(x, "request.query"), *name;
	json_t *value;

	explain_head(cli, "Request");
	fprintf(cli->out, "%s %s%s%s, Host: %s\n", at_text_or(x, "request.method", "?"),
		at_text_or(x, "request.path", "?"), query ? "?" : "", query ? query : "",
		at_text_or(x, "request.authority", "?"));
	json_object_foreach((json_t *)at(x, "request.headers"), name, value)
		fprintf(cli->out, "%*s%s: %s\n", INDENT, "", name, json_string_value(value));
}

static void show_tried(struct cli *cli, const json_t *tried)
{
	const json_t *m;
	size_t i;

	json_array_foreach(tried, i, m)
	{
		const char *why = at_text(m, "why_not");
		fprintf(cli->out, "%*s    %s", INDENT, "", at_text_or(m, "conditions", "?"));
		if (why)
			fprintf(cli->out, "  %sno: %s%s\n", cli_color(cli, COLOR_WARN), why, cli_plain(cli));
		else
			fprintf(cli->out, "  %syes%s\n", cli_color(cli, COLOR_GOOD), cli_plain(cli));
	}
}

static void show_routes(struct cli *cli, const json_t *x)
{
	const json_t *routes = at(x, "routes"), *r;
	long long all = at_int(x, "target.routes");
	size_t i;

	if (!json_array_size(routes))
		return;
	explain_head(cli, "Routes");
	json_array_foreach(routes, i, r)
	{
		bool taken = at_true(r, "taken");
		const char *owner = at_text(r, "owner"), *origin = at_text(r, "origin");
		fprintf(cli->out, "%*s%s%s %s%s  %s%s%s%s\n", i ? INDENT : 0, "",
			cli_color(cli, taken ? COLOR_GOOD : COLOR_DIM), taken ? "*" : "-", at_text_or(r, "name", "?"),
			cli_plain(cli), owner ? owner : "of the service itself, there being no document",
			origin ? " (" : "", origin ? origin : "", origin ? ")" : "");
		show_tried(cli, at(r, "tried"));
	}
	const json_t *last = json_array_get(routes, json_array_size(routes) - 1);
	long long behind = all - 1 - at_int(last, "index");
	if (at_true(last, "taken") && behind > 0)
		fprintf(cli->out, "%*s  %lld more behind it\n", INDENT, "", behind);
}

static void show_action(struct cli *cli, const json_t *x)
{
	const json_t *route = at(x, "route");

	if (json_is_object(route)) {
		explain_head(cli, "Action");
		fprintf(cli->out, "%s\n", at_text_or(route, "action", "?"));
		if (at_count(x, "clusters")) {
			explain_head(cli, "Retries");
			fprintf(cli->out, "%s\n", at_text_or(route, "retries", "none"));
		}
	}
	if (json_is_object(at(x, "response"))) {
		const char *flags = at_text(x, "response.flags");
		explain_head(cli, "Answer");
		fprintf(cli->out, "%lld by the mesh%s%s%s: %s\n", at_int(x, "response.status"), flags ? " (" : "",
			flags ? flags : "", flags ? ")" : "", at_text_or(x, "response.text", ""));
	}
	if (at_text(x, "outbound.reason")) {
		explain_head(cli, "Reason");
		fprintf(cli->out, "%s: %s\n", at_text(x, "outbound.reason"), at_text_or(x, "outbound.help", ""));
	}
}

static void show_cluster(struct cli *cli, const json_t *c)
{
	const json_t *e;
	struct grid g;
	size_t i, shown = 0;
	enum { MAX = 12 };

	explain_head(cli, "Cluster");
	fprintf(cli->out, "%s, %.4g %%%s\n", at_text_or(c, "name", "?"), at_real(c, "share") * 100,
		at_true(c, "exists") ? "" : ": does not exist");
	if (!at_count(c, "endpoints"))
		return;
	grid_init(&g, cli, 5);
	g.no_header = true;
	g.indent = INDENT + 2;
	json_array_foreach(at(c, "endpoints"), i, e)
	{
		bool ejected = at_true(e, "ejected"), healthy = at_true(e, "healthy");
		if (shown++ >= MAX)
			continue;
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "address", "?"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "workload", "outside the mesh"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "version", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "node", "-"));
		if (ejected)
			grid_cell(&g, COLOR_BAD, "ejected (%.0f s)", at_real(e, "ejected_for_s"));
		else
			grid_cell(&g, healthy ? COLOR_NONE : COLOR_BAD, "%s", healthy ? "healthy" : "unhealthy");
	}
	grid_print(&g);
	long long all = at_int(c, "endpoint_count");
	if (all > MAX)
		fprintf(cli->out, "%*s  ... and %lld more\n", INDENT, "", all - MAX);
}

static void show_rules(struct cli *cli, const json_t *end)
{
	const json_t *r;
	size_t i;

	json_array_foreach(at(end, "rules"), i, r)
	{
		AUTO(mem_freep) char *rule = policy_rule_text(r);
		const char *why = at_text(r, "why_not"), *provider = at_text(r, "provider");
		fprintf(cli->out, "%*s  %s%s%s: %s%s%s%s\n", INDENT, "", rule, provider ? ", asks " : "",
			provider ? provider : "", cli_color(cli, why ? COLOR_DIM : COLOR_BOLD),
			why ? "does not match: " : "matches", why ? why : "", cli_plain(cli));
	}
}

static void show_token(struct cli *cli, const json_t *end)
{
	const json_t *token = at(end, "token"), *issuer;
	bool matters = at_true(token, "matters"), given = at_true(token, "given");
	size_t i;

	if (!matters && !at_count(token, "issuers"))
		return;
	explain_head(cli, "Token");
	if (given)
		fputs("one is sent; whether it is good, and what it claims, is not looked at here\n", cli->out);
	else
		fputs(matters ? "none is sent, and a rule asks for one\n" : "none is sent; none is needed\n", cli->out);
	json_array_foreach(at(token, "issuers"), i, issuer)
		fprintf(cli->out, "%*staken from %s (%s)%s\n", INDENT, "", at_text_or(issuer, "issuer", "?"),
			at_text_or(issuer, "origin", "?"),
			at_true(issuer, "has_keys") ? "" : ", whose keys are not there");
}

/* Limits, authorizers and scripts, in the order in which a request meets them. */
static void show_filters(struct cli *cli, const json_t *filters)
{
	const json_t *f;
	size_t i;

	json_array_foreach(filters, i, f)
	{
		const char *kind = at_text_or(f, "kind", "?"), *text = at_text(f, "text"),
			   *origin = at_text(f, "origin");
		if (i == 0)
			explain_head(cli, "Filters");
		fprintf(cli->out, "%*s%s %s%s%s%s%s%s\n", i ? INDENT : 0, "",
			str_eq(kind, "local_limit")  ? "local limit" :
			str_eq(kind, "global_limit") ? "global limit" :
						       kind,
			at_text_or(f, "name", "?"), origin ? " (" : "", origin ? origin : "", origin ? ")" : "",
			text ? ": " : "", text ? text : "");
	}
}

static void show_end(struct cli *cli, const json_t *end)
{
	const char *problem = at_text(end, "problem"), *who = at_text(end, "workload");
	const json_t *custom;
	size_t i;

	explain_head(cli, "Destination");
	fprintf(cli->out, "%s%s%s%s", who ? who : "", who && at_text(end, "endpoint") ? " at " : "",
		at_text_or(end, "endpoint", ""),
		who || at_text(end, "endpoint") ? "" : at_text_or(end, "cluster", "?"));
	if (problem) {
		fprintf(cli->out, ": %s\n", problem);
		return;
	}
	fprintf(cli->out, ", the caller being %s\n", at_text_or(end, "peer", "anonymous"));
	explain_head(cli, "mTLS");
	fprintf(cli->out, "%s, from %s\n", at_text_or(end, "mtls_mode", "?"),
		at_text_or(end, "mtls_origin", "the default"));
	explain_head(cli, "Policy");
	if (json_is_boolean(at(end, "allowed")) || !at_true(end, "token.matters")) {
		AUTO(mem_freep) char *verdict = policy_verdict_text(end);
		fprintf(cli->out, "%s\n", verdict);
	} else {
		fputs("hangs on the token\n", cli->out);
	}
	if (at_text(end, "help"))
		fprintf(cli->out, "%*s%s: %s\n", INDENT, "", at_text_or(end, "reason", "?"), at_text(end, "help"));
	json_array_foreach(at(end, "custom"), i, custom)
		fprintf(cli->out, "%*s%s is asked first; its answer can't be known\n", INDENT, "",
			at_text_or(custom, "provider", "?"));
	show_rules(cli, end);
	show_token(cli, end);
	show_filters(cli, at(end, "filters"));
}

static void show(struct cli *cli, const json_t *x)
{
	const char *verdict = at_text_or(x, "verdict", "unknown");
	enum color color = str_eq(verdict, "allowed") ? COLOR_GOOD :
			   str_eq(verdict, "refused") ? COLOR_BAD :
							COLOR_WARN;
	const json_t *item;
	size_t i;

	fprintf(cli->out, "%s -> %s %s: %s%s%s\n\n", cli->args[0], at_text_or(x, "request.method", "?"), cli->args[1],
		cli_color(cli, color), verdict, cli_plain(cli));
	explain_source(cli, x);
	explain_destination(cli, x);
	show_request(cli, x);
	show_routes(cli, x);
	show_filters(cli, at(x, "filters"));
	show_action(cli, x);
	json_array_foreach(at(x, "clusters"), i, item) show_cluster(cli, item);
	json_array_foreach(at(x, "inbound"), i, item) show_end(cli, item);
	json_array_foreach(at(x, "notes"), i, item)
	{
		explain_head(cli, i ? "" : "Note");
		fprintf(cli->out, "%s\n", json_string_value(item));
	}
}

int explain_http(struct cli *cli, const char *source)
{
	AUTO(sb_done) struct sb headers = { 0 };
	const char *header;
	json_t *x;

	if (cli_option(cli, "proto"))
		return cli_usage_error(cli, "--proto is for connections; requests are HTTP");
	for (int i = 0; (header = cli_option_at(cli, "header", i)); i++) {
		if (strchr(header, '\n'))
			return cli_usage_error(cli, "a header is one line");
		sb_addf(&headers, "%s\n", header);
	}
	AUTO(mem_freep) char *query =
		cli_query("source", source, "url", cli->args[1], "method", cli_option(cli, "request"), "headers",
			  headers.len ? headers.p : NULL, NULL);
	int rc = cli_get(cli, &x, "/v1/http/explain%s", query);
	if (rc != EXIT_OK)
		return rc;
	if (!cli_print_structured(cli, x))
		show(cli, x);
	rc = str_eq(at_text(x, "verdict"), "allowed") ? EXIT_OK : EXIT_NEGATIVE;
	json_decref(x);
	return rc;
}
