/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/top.h"

struct watching {
	enum top_by by;
	const char *heading, *reporter;
	double interval_s;
	bool once;
	struct top_reading before;
	double before_s; /* monotonic */
};

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void rest(double seconds)
{
	struct timespec ts = { .tv_sec = (time_t)seconds };

	ts.tv_nsec = (long)((seconds - (double)ts.tv_sec) * 1e9);
	nanosleep(&ts, NULL);
}

static const char *latency(double ms, char buf[32])
{
	if (ms < 0)
		return "-";
	snprintf(buf, 32, ms < 10 ? "%.1f ms" : "%.0f ms", ms);
	return buf;
}

static const char *bytes_rate(double bytes, char buf[48])
{
	char size[32];

	snprintf(buf, 48, "%s/s", format_bytes((unsigned long long)bytes, size));
	return buf;
}

static json_t *rows_json(const struct top_rows *rows, double seconds)
{
	json_t *items = json_array();

	for (size_t i = 0; i < rows->n; i++) {
		const struct top_row *r = &rows->v[i];
		json_array_append_new(items, json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "name", r->name,
						       "requests_per_s", r->requests, "success", r->success, "p50_ms",
						       r->p50_ms, "p90_ms", r->p90_ms, "p99_ms", r->p99_ms,
						       "received_bytes_per_s", r->received_bytes, "sent_bytes_per_s",
						       r->sent_bytes));
	}
	return json_pack("{s:f, s:o}", "seconds", seconds, "items", items);
}

/* What fits on a terminal; everything elsewhere. */
static void show(struct cli *cli, const struct watching *w, const struct top_rows *rows, size_t lines)
{
	struct grid g;

	if (!rows->n) {
		fprintf(cli->out, "No requests in the last %.4g s.\n", w->interval_s);
		return;
	}
	grid_init(&g, cli, 8);
	grid_row(&g, w->heading, "REQUESTS/S", "SUCCESS", "P50", "P90", "P99", "RECEIVED", "SENT");
	for (size_t i = 0; i < rows->n && i < lines; i++) {
		const struct top_row *r = &rows->v[i];
		char text[48], ms[32];
		enum color color = r->success >= 0.999 ? COLOR_GOOD : r->success >= 0.95 ? COLOR_WARN : COLOR_BAD;
		grid_cell(&g, COLOR_NONE, "%s", r->name);
		grid_cell(&g, COLOR_NONE, r->requests < 10 ? "%.1f" : "%.0f", r->requests);
		/* Never rounded up to all. */
		grid_cell(&g, color, "%.2f%%", r->success < 1 && r->success > 0.9999 ? 99.99 : r->success * 100);
		grid_cell(&g, COLOR_NONE, "%s", latency(r->p50_ms, ms));
		grid_cell(&g, COLOR_NONE, "%s", latency(r->p90_ms, ms));
		grid_cell(&g, COLOR_NONE, "%s", latency(r->p99_ms, ms));
		grid_cell(&g, COLOR_NONE, "%s", bytes_rate(r->received_bytes, text));
		grid_cell(&g, COLOR_NONE, "%s", bytes_rate(r->sent_bytes, text));
	}
	grid_print(&g);
	if (rows->n > lines)
		fprintf(cli->out, "... and %zu more\n", rows->n - lines);
}

static int reading(struct cli *cli, const struct watching *w, struct top_reading *out)
{
	AUTO(mem_freep) char *text = NULL;
	int rc = cli_get_text(cli, &text, "/metrics");

	if (rc != EXIT_OK)
		return rc;
	if (top_read(text, w->by, w->reporter, out) == 0)
		return EXIT_OK;
	top_reading_done(out);
	return cli_fail(cli, EXIT_NEGATIVE, "no memory");
}

/* One interval and what came in it. */
static int round_of(struct cli *cli, struct watching *w)
{
	struct top_reading now;
	struct top_rows rows = { 0 };

	rest(w->interval_s);
	int rc = reading(cli, w, &now);
	if (rc != EXIT_OK)
		return rc;
	double at_s = now_s(), seconds = at_s - w->before_s;
	if (top_diff(&w->before, &now, seconds > 0 ? seconds : w->interval_s, &rows) < 0)
		rc = cli_fail(cli, EXIT_NEGATIVE, "no memory");
	json_t *json = cli_structured(cli) ? rows_json(&rows, seconds) : NULL;
	if (!w->once && !json)
		fputs("\033[H\033[2J", cli->out);
	if (json)
		cli_print_structured(cli, json);
	else if (rc == EXIT_OK)
		show(cli, w, &rows, w->once ? SIZE_MAX : 40);
	fflush(cli->out);
	json_decref(json);
	top_rows_done(&rows);
	top_reading_done(&w->before);
	w->before = now;
	w->before_s = at_s;
	return rc;
}

static int settle(struct cli *cli, struct watching *w)
{
	static const char *const names[] = { "service", "workload", "source" };
	static const char *const headings[] = { "SERVICE", "WORKLOAD", "SOURCE" };
	const char *by = cli_option(cli, "by"), *interval = cli_option(cli, "interval");
	size_t i = 0;
	char *end = NULL;

	while (by && i < ARRAY_SIZE(names) && !str_eq(by, names[i]))
		i++;
	if (i == ARRAY_SIZE(names))
		return cli_usage_error(cli, "--by %s: it is service, workload or source", by);
	w->by = (enum top_by)i;
	w->heading = headings[i];
	w->reporter = cli_option(cli, "reporter") ? cli_option(cli, "reporter") : "source";
	if (!str_eq(w->reporter, "source") && !str_eq(w->reporter, "destination"))
		return cli_usage_error(cli, "--reporter %s: it is source or destination", w->reporter);
	w->interval_s = interval ? strtod(interval, &end) : 2;
	if ((interval && (end == interval || *end)) || !(w->interval_s >= 0.01 && w->interval_s <= 3600))
		return cli_usage_error(cli, "--interval %s is no number of seconds", interval);
	w->once = cli_option(cli, "once") || isatty(fileno(cli->out)) != 1;
	return EXIT_OK;
}

int cmd_top(struct cli *cli)
{
	struct watching w = { 0 };
	int rc = settle(cli, &w);
	if (rc == EXIT_OK)
		rc = reading(cli, &w, &w.before);
	if (rc != EXIT_OK)
		return rc;

	w.before_s = now_s();
	do
		rc = round_of(cli, &w);
	while (rc == EXIT_OK && !w.once && !ferror(cli->out));
	top_reading_done(&w.before);
	return rc;
}
