/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/format.h"

enum { SOON_S = 3600 };

static void show_certs(struct cli *cli, const json_t *items)
{
	const json_t *c;
	struct grid g;
	size_t i;

	if (!json_array_size(items)) {
		fputs("No certificates were issued since the agent started (meshctl proxy-config secrets: those in "
		      "use).\n",
		      cli->out);
		return;
	}
	grid_init(&g, cli, 4);
	grid_row(&g, "IDENTITY", "SERIAL", "EXPIRES", "STATE");
	json_array_foreach(items, i, c)
	{
		unsigned long long end = (unsigned long long)at_int(c, "not_after_s");
		bool revoked = at_true(c, "revoked"), soon = end < cli->now_s + SOON_S;
		char when[48];
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(c, "identity", "?"));
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(c, "serial", "?"));
		grid_cell(&g, COLOR_NONE, "%s", format_relative(end, cli->now_s, when));
		grid_cell(&g,
			  revoked ? COLOR_BAD :
			  soon	  ? COLOR_WARN :
				    COLOR_GOOD,
			  "%s",
			  revoked ? "revoked" :
			  soon	  ? "expires soon" :
				    "valid");
	}
	grid_print(&g);
}

static void show_roots(struct cli *cli, const json_t *roots)
{
	const json_t *r;
	struct grid g;
	size_t i;

	grid_init(&g, cli, 4);
	grid_row(&g, "TRUSTED ROOT", "SHA-256", "EXPIRES", "ROLE");
	json_array_foreach(roots, i, r)
	{
		unsigned long long until = (unsigned long long)at_int(r, "trusted_until_s");
		char when[48], date[32];
		grid_cell(&g, COLOR_NONE, "%s", at_text_or(r, "subject", "?"));
		grid_cell(&g, COLOR_NONE, "%.*s", cli->format == FORMAT_WIDE ? 64 : 16,
			  at_text_or(r, "fingerprint", "?"));
		grid_cell(&g, COLOR_NONE, "%s",
			  format_relative((unsigned long long)at_int(r, "not_after_s"), cli->now_s, when));
		if (until)
			grid_cell(&g, COLOR_WARN, "replaced, trusted until %s", format_date(until, date));
		else
			grid_cell(&g, COLOR_NONE, "%s",
				  at_true(r, "signs") ? "signs" :
				  at_true(r, "extra") ? "trusted (mesh.yaml)" :
							"trusted");
	}
	grid_print(&g);
}

int cmd_cert_list(struct cli *cli)
{
	json_t *answer;
	int rc = cli_get(cli, &answer, "/v1/certs");
	if (rc != EXIT_OK)
		return rc;
	if (!cli_print_structured(cli, answer)) {
		show_certs(cli, at(answer, "items"));
		fputc('\n', cli->out);
		show_roots(cli, at(answer, "roots"));
	}
	json_decref(answer);
	return EXIT_OK;
}

/* "spiffe://...", "ns/account" or "account" names this identity. */
static bool identity_named(const char *uri, const char *typed, const char *ns)
{
	const char *at_ns = uri ? strstr(uri, "/ns/") : NULL;
	char tail[600], full[600];

	if (str_eq(uri, typed))
		return true;
	if (!at_ns)
		return false;
	const char *slash = strchr(typed, '/');
	if (!slash && !ns) {
		snprintf(tail, sizeof(tail), "/sa/%s", typed);
		return str_ends(uri, tail);
	}
	int len = slash ? (int)(slash - typed) : (int)strlen(ns);
	snprintf(full, sizeof(full), "/ns/%.*s/sa/%s", len, slash ? typed : ns, slash ? slash + 1 : typed);
	return str_eq(at_ns, full);
}

int cmd_cert_show(struct cli *cli)
{
	const json_t *c, *found = NULL;
	json_t *answer;
	size_t i;
	int rc = cli_get(cli, &answer, "/v1/certs");
	if (rc != EXIT_OK)
		return rc;
	json_array_foreach(at(answer, "items"), i, c) /* newest last */
		if (str_eq(at_text(c, "serial"), cli->args[0]) ||
		    identity_named(at_text(c, "identity"), cli->args[0], cli->ns)) found = c;
	if (!found) {
		rc = cli_fail(cli, EXIT_NEGATIVE,
			      "no certificate that was issued here has the serial or identity %s; see meshctl "
			      "cert list",
			      cli->args[0]);
	} else if (!cli_print_structured(cli, found)) {
		unsigned long long from = (unsigned long long)at_int(found, "not_before_s");
		unsigned long long to = (unsigned long long)at_int(found, "not_after_s");
		char date[32], when[48];
		fprintf(cli->out, "Identity:   %s\nSerial:     %s\n", at_text_or(found, "identity", "?"),
			at_text_or(found, "serial", "?"));
		fprintf(cli->out, "Not before: %s (%s)\n", format_date(from, date),
			format_relative(from, cli->now_s, when));
		fprintf(cli->out, "Not after:  %s (%s)\n", format_date(to, date),
			format_relative(to, cli->now_s, when));
		fprintf(cli->out, "Revoked:    %s\n", at_true(found, "revoked") ? "yes" : "no");
	}
	json_decref(answer);
	return rc;
}

/* The full URI of what was typed: among the identities of this node's workloads. NULL: the message is printed. */
static char *identity_resolve(struct cli *cli, const char *typed, int *rc)
{
	const json_t *w;
	json_t *answer;
	char *uri = NULL;
	size_t i;

	*rc = EXIT_OK;
	if (str_starts(typed, "spiffe://"))
		return strdup(typed);
	*rc = cli_get(cli, &answer, "/v1/workloads?local=1");
	if (*rc != EXIT_OK)
		return NULL;
	json_array_foreach(at(answer, "items"), i, w)
	{
		const char *identity = at_text(w, "identity");
		if (!identity_named(identity, typed, cli->ns) || str_eq(uri, identity))
			continue;
		if (uri) {
			*rc = cli_usage_error(cli, "%s may be %s or %s; write NAMESPACE/ACCOUNT", typed, uri, identity);
			break;
		}
		uri = strdup(identity);
	}
	json_decref(answer);
	if (!uri)
		*rc = cli_fail(cli, EXIT_NEGATIVE, "no workload of this node has the identity %s", typed);
	if (*rc != EXIT_OK) {
		free(uri);
		return NULL;
	}
	return uri;
}

int cmd_cert_rotate(struct cli *cli)
{
	bool all = cli_option(cli, "all") != NULL;
	AUTO(mem_freep) char *identity = NULL;
	json_t *answer;
	int rc;
	if (all == (cli->argc == 1))
		return cli_usage_error(cli, "say which identity, or --all");

	if (!all) {
		identity = identity_resolve(cli, cli->args[0], &rc);
		if (!identity)
			return rc;
	}
	json_t *body = identity ? json_pack("{s:s}", "identity", identity) : json_object();
	rc = cli_change(cli, "POST", "/v1/certs/rotate", body, &answer);
	if (rc != EXIT_OK)
		return rc;
	if (!cli_print_structured(cli, answer))
		fprintf(cli->out, "%s: a new certificate is being asked for; connections go on.\n",
			identity ? identity : "All identities of this node");
	json_decref(answer);
	return EXIT_OK;
}

int cmd_cert_revoke(struct cli *cli)
{
	json_t *answer;
	int rc = cli_change(cli, "POST", "/v1/certs/revoke", json_pack("{s:s}", "serial", cli->args[0]), &answer);
	if (rc != EXIT_OK)
		return rc;
	if (!cli_print_structured(cli, answer))
		fprintf(cli->out, "%s is revoked.\n", cli->args[0]);
	json_decref(answer);
	return EXIT_OK;
}
