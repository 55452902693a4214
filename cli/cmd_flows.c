/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/format.h"

struct printing {
	unsigned long long last_sequence, missed;
	bool filtered;
};

static char *end_text(const json_t *end)
{
	const char *workload = at_text(end, "workload"), *address = at_text_or(end, "address", "?");
	bool v6 = strchr(address, ':') != NULL;

	if (workload)
		return str_format("%s:%lld", workload, at_int(end, "port"));
	return str_format(v6 ? "[%s]:%lld" : "%s:%lld", address, at_int(end, "port"));
}

static char *verdict_text(const json_t *f)
{
	const char *event = at_text_or(f, "event", "?");
	char sent[32], received[32];

	if (str_eq(event, "refused"))
		return str_format("%s%s%s%s%s%s", at_text_or(f, "reason", "?"), at_text(f, "rule") ? " by " : "",
				  at_text_or(f, "rule", ""), at_text(f, "rule_origin") ? " (" : "",
				  at_text_or(f, "rule_origin", ""), at_text(f, "rule_origin") ? ")" : "");
	if (str_eq(event, "failed"))
		return strdup(at_text_or(f, "error", ""));
	if (str_eq(event, "closed"))
		return str_format("sent %s, received %s, %.0f ms, rtt %lld us%s",
				  format_bytes((unsigned long long)at_int(f, "sent_bytes"), sent),
				  format_bytes((unsigned long long)at_int(f, "received_bytes"), received),
				  at_real(f, "duration_ms"), at_int(f, "rtt_us"),
				  at_int(f, "retransmits") ? ", retransmits" : "");
	return strdup("");
}

static void show(struct cli *cli, const json_t *f)
{
	const char *event = at_text_or(f, "event", "?"), *time = at_text_or(f, "time", ""), *clock = strchr(time, 'T');
	AUTO(mem_freep) char *source = end_text(at(f, "source"));
	AUTO(mem_freep) char *destination = end_text(at(f, "destination"));
	AUTO(mem_freep) char *more = verdict_text(f);
	enum color color = str_eq(event, "refused") ? COLOR_BAD :
			   str_eq(event, "failed")  ? COLOR_WARN :
			   str_eq(event, "opened")  ? COLOR_GOOD :
						      COLOR_NONE;
	char at_second[16] = "";

	if (clock)
		snprintf(at_second, sizeof(at_second), "%.12s", clock + 1);
	bool wide = cli->format == FORMAT_WIDE;
	fprintf(cli->out, "%s%s%s %s%-7s%s %-9s %s %s -> %s%s%s%s  %s\n", cli_color(cli, COLOR_DIM),
		wide ? time : at_second, cli_plain(cli), cli_color(cli, color), event, cli_plain(cli),
		at_text_or(f, "path", "?"), at_text_or(f, "protocol", "?"), source ? source : "?",
		destination ? destination : "?", at_text(f, "service") ? " (" : "", at_text_or(f, "service", ""),
		at_text(f, "service") ? ")" : "", more ? more : "");
	if (wide)
		fprintf(cli->out, "    %s -> %s, seen at the %s\n", at_text_or(f, "source.identity", "anonymous"),
			at_text_or(f, "destination.identity", "unknown"), at_text_or(f, "side", "?"));
}

static bool on_line(struct cli *cli, const char *line, void *arg)
{
	struct printing *p = arg;
	json_t *f = json_loads(line, 0, NULL);
	if (!f)
		return true;

	unsigned long long sequence = (unsigned long long)at_int(f, "sequence");
	if (!p->filtered && p->last_sequence && sequence > p->last_sequence + 1) {
		p->missed += sequence - p->last_sequence - 1;
		fprintf(cli->err, "meshctl: %llu flows were too quick to be shown\n", sequence - p->last_sequence - 1);
	}
	p->last_sequence = sequence;
	if (cli->format == FORMAT_JSON)
		fprintf(cli->out, "%s\n", line);
	else if (cli->format == FORMAT_YAML)
		fputs("---\n", cli->out), format_yaml(cli->out, f);
	else
		show(cli, f);
	json_decref(f);
	fflush(cli->out);
	return !ferror(cli->out);
}

int cmd_flows(struct cli *cli)
{
	bool follow = cli_option(cli, "follow") != NULL;
	const char *last = cli_option(cli, "last"), *verdict = cli_option(cli, "verdict");
	struct printing printing = { 0 };
	AUTO(mem_freep) char *error_body = NULL;
	char why[400] = "";
	long status = 0;

	if (!last && !cli_option(cli, "all"))
		last = follow ? "0" : "20";
	/* A gap in the sequence only tells of loss when every flow would have been sent. */
	printing.filtered = !cli_option(cli, "both-ends") || cli->ns || verdict || cli_option(cli, "source") ||
			    cli_option(cli, "destination") || cli_option(cli, "path") || cli_option(cli, "reason");
	AUTO(mem_freep) char *query =
		cli_query("follow", follow ? "1" : NULL, "last", last, "namespace", cli->ns, "source",
			  cli_option(cli, "source"), "destination", cli_option(cli, "destination"), "verdict", verdict,
			  "path", cli_option(cli, "path"), "reason", cli_option(cli, "reason"), "unique",
			  cli_option(cli, "both-ends") ? NULL : "1", NULL);
	AUTO(mem_freep) char *path = str_format("/v1/flows%s", query);
	int rc = cli->transport->stream(cli, path, on_line, &printing, &status, &error_body, why, sizeof(why));
	if (rc < 0)
		return cli_fail(cli, EXIT_UNREACHABLE, "%s", why);
	if (status != 200)
		return cli_report_status(cli, status, error_body);
	if (!follow && !printing.last_sequence && !cli_structured(cli))
		fputs("No flows.\n", cli->out);
	return EXIT_OK;
}
