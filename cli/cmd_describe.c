/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/objects.h"
#include "cli/policy_text.h"

static void field(struct cli *cli, const char *name, const char *value)
{
	fprintf(cli->out, "%s%-14s%s%s\n", cli_color(cli, COLOR_BOLD), name, cli_plain(cli),
		value && *value ? value : "-");
}

static void labels(struct cli *cli, const json_t *object)
{
	const char *key, *heading = "Labels:";
	json_t *value;

	json_object_foreach((json_t *)at(object, "labels"), key, value)
	{
		AUTO(mem_freep) char *text = str_format("%s=%s", key, json_string_value(value));
		field(cli, heading, text);
		heading = "";
	}
}

static void describe_policy(struct cli *cli, const json_t *p)
{
	const json_t *item;
	size_t i;

	AUTO(mem_freep) char *mtls =
		str_format("%s, from %s", at_text_or(p, "mtls", "?"), at_text_or(p, "mtls_origin", "?"));
	field(cli, "mTLS:", mtls);
	json_array_foreach(at(p, "port_mtls"), i, item)
	{
		AUTO(mem_freep) char *port =
			str_format("port %lld: %s", at_int(item, "port"), at_text_or(item, "mode", "?"));
		field(cli, "", port);
	}
	json_array_foreach(at(p, "rules"), i, item)
	{
		AUTO(mem_freep) char *rule = policy_rule_text(item);
		field(cli, i ? "" : "Rules:", rule);
	}
	field(cli, "Otherwise:",
	      at_true(p, "default_allow") ? "allowed (no ALLOW policy selects it)" :
					    "refused (an ALLOW policy selects it)");
}

static void describe_workload(struct cli *cli, const json_t *w)
{
	AUTO(mem_freep) char *addresses = at_join(w, "addresses");
	AUTO(mem_freep) char *ns = cli_escape(at_text_or(w, "namespace", ""));
	AUTO(mem_freep) char *name = cli_escape(at_text_or(w, "name", ""));
	AUTO(mem_freep) char *place = str_format("%s%s%s", at_text_or(w, "node", "?"), at_text(w, "place") ? ", " : "",
						 at_text_or(w, "place", ""));
	json_t *policy;

	field(cli, "Workload:", at_text(w, "uid"));
	field(cli, "Identity:", at_text(w, "identity"));
	field(cli, "Node:", place);
	field(cli, "Addresses:", addresses);
	field(cli, "Locality:", at_text(w, "locality"));
	field(cli, "In the mesh:", at_true(w, "enrolled") ? "yes" : "no");
	field(cli, "State:", at_text_or(w, "state", "on another node"));
	if (at_text(w, "error"))
		field(cli, "Error:", at_text(w, "error"));
	field(cli, "Reached by:", at_text(w, "reached_by"));
	labels(cli, w);
	if (!at_true(w, "enrolled") || !at_true(w, "local"))
		return;
	if (cli_get(cli, &policy, "/v1/policies/%s/%s", ns, name) != EXIT_OK)
		return;
	fputc('\n', cli->out);
	describe_policy(cli, json_array_get(at(policy, "items"), 0));
	json_decref(policy);
}

static void describe_port(struct cli *cli, const json_t *p)
{
	struct grid g;
	const json_t *e;
	size_t i;

	const char *http = at_text(p, "http");
	fprintf(cli->out, "\n%sPort %lld/%s%s  %s%s%lld of %lld endpoints healthy%s\n", cli_color(cli, COLOR_BOLD),
		at_int(p, "port"), at_text_or(p, "protocol", "?"), cli_plain(cli), at_text_or(p, "name", ""),
		at_text(p, "name") ? ", " : "", at_int(p, "healthy_count"), at_int(p, "endpoint_count"),
		!http			? "" :
		str_eq(http, "http")	? ", HTTP: requests are routed one by one" :
		str_eq(http, "sniffed") ? ", HTTP when the first bytes say so" :
					  ", routed by TCP or TLS routes");
	if (!at_count(p, "endpoints"))
		return;
	grid_init(&g, cli, 7);
	g.indent = 2;
	grid_row(&g, "ENDPOINT", "WORKLOAD", "NODE", "REACHED BY", "WEIGHT", "SHARE V4/V6", "HEALTH");
	json_array_foreach(at(p, "endpoints"), i, e)
	{
		const json_t *v4 = at(e, "share"), *v6 = at(e, "share6");
		bool healthy = at_true(e, "healthy");
		char shares[2][16] = { "-", "-" };
		if (json_is_real(v4))
			snprintf(shares[0], sizeof(shares[0]), "%.0f%%", json_real_value(v4) * 100);
		if (json_is_real(v6))
			snprintf(shares[1], sizeof(shares[1]), "%.0f%%", json_real_value(v6) * 100);
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "address", "?"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "workload", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "node", "-"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(e, "reached_by", "-"));
		grid_cell(&g, COLOR_NONE, "%lld", at_int(e, "weight"));
		grid_cell(&g, COLOR_NONE, "%s / %s", shares[0], shares[1]);
		grid_cell(&g, healthy ? COLOR_GOOD : COLOR_BAD, "%s", healthy ? "healthy" : "ejected");
	}
	grid_print(&g);
}

static void describe_service(struct cli *cli, const json_t *s)
{
	AUTO(mem_freep) char *vips = at_join(s, "vips");
	const json_t *p;
	size_t i;

	field(cli, "Service:", at_text(s, "hostname"));
	field(cli, "Kind:", at_text(s, "kind"));
	field(cli, "Defined in:", at_text(s, "origin"));
	field(cli, "Addresses:", vips);
	field(cli, "Balancing:", at_text(s, "load_balancing"));
	if (at_int(s, "affinity_timeout_s")) {
		char duration[32];
		field(cli, "Affinity:", format_duration((unsigned long long)at_int(s, "affinity_timeout_s"), duration));
	}
	json_array_foreach(at(s, "ports"), i, p) describe_port(cli, p);
}

static void describe_resource(struct cli *cli, const json_t *r)
{
	field(cli, "Kind:", at_text(r, "kind"));
	field(cli, "Name:", at_text(r, "name"));
	field(cli, "Namespace:", at_text(r, "namespace"));
	field(cli, "Defined in:", at_text(r, "origin"));
	labels(cli, r);
	if (at_text(r, "text"))
		fprintf(cli->out, "\n%s", at_text(r, "text"));
}

int cmd_describe(struct cli *cli)
{
	enum object_kind kind = object_kind_of(cli->args[0]);
	const json_t *item;
	json_t *answer;
	size_t i;
	int rc = object_fetch(cli, kind, cli->args[0], cli->args[1], &answer);
	if (rc != EXIT_OK)
		return rc;

	const json_t *items = at(answer, "items");
	if (!cli_print_structured(cli, json_array_size(items) == 1 ? json_array_get(items, 0) : answer)) {
		json_array_foreach(items, i, item)
		{
			if (i)
				fputc('\n', cli->out);
			if (kind == OBJECT_WORKLOAD) {
				describe_workload(cli, item);
			} else if (kind == OBJECT_SERVICE) {
				describe_service(cli, item);
			} else if (kind == OBJECT_POLICY) {
				field(cli, "Policy of:", at_text(item, "workload"));
				describe_policy(cli, item);
			} else {
				describe_resource(cli, item);
			}
		}
	}
	json_decref(answer);
	return EXIT_OK;
}
