/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the agent and what its answers mean for the exit status. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"

/* The agent's refusal as a message: the sentence of its JSON, or the body. */
int cli_report_status(struct cli *cli, long status, const char *body)
{
	json_t *json = body ? json_loads(body, 0, NULL) : NULL;
	const char *sentence = json_string_value(json_object_get(json, "error"));

	cli_fail(cli, EXIT_NEGATIVE, "%s",
		 sentence      ? sentence :
		 body && *body ? body :
				 "the agent refused without a reason");
	json_decref(json);
	return status == 400 ? EXIT_BAD_USAGE : EXIT_NEGATIVE;
}

static int ask(struct cli *cli, const char *method, const char *path, const char *json, char **body)
{
	char why[400] = "";
	long status = 0;

	if (cli->transport->request(cli, method, path, json, &status, body, why, sizeof(why)) < 0)
		return cli_fail(cli, EXIT_UNREACHABLE, "%s", why);
	if (status >= 200 && status < 300)
		return EXIT_OK;
	int rc = cli_report_status(cli, status, *body);
	free(*body);
	*body = NULL;
	return rc;
}

static int parse_answer(struct cli *cli, char *body, json_t **out)
{
	json_error_t why;

	*out = json_loads(body, 0, &why);
	free(body);
	if (*out)
		return EXIT_OK;
	return cli_fail(cli, EXIT_UNREACHABLE, "what answered on %s is no Weft agent: %s", cli->socket, why.text);
}

__attribute__((format(printf, 3, 0))) static int get_text(struct cli *cli, char **out, const char *format, va_list args)
{
	AUTO(mem_freep) char *path = NULL;
	if (vasprintf(&path, format, args) < 0) {
		path = NULL;
		return cli_fail(cli, EXIT_NEGATIVE, "no memory");
	}
	return ask(cli, "GET", path, NULL, out);
}

int cli_get_text(struct cli *cli, char **out, const char *path_format, ...)
{
	va_list args;
	va_start(args, path_format);
	int rc = get_text(cli, out, path_format, args);
	va_end(args);
	return rc;
}

int cli_get(struct cli *cli, struct json_t **out, const char *path_format, ...)
{
	char *body = NULL;
	va_list args;
	va_start(args, path_format);
	int rc = get_text(cli, &body, path_format, args);
	va_end(args);
	return rc == EXIT_OK ? parse_answer(cli, body, out) : rc;
}

int cli_change(struct cli *cli, const char *method, const char *path, struct json_t *body, struct json_t **out)
{
	AUTO(mem_freep) char *text = json_dumps(body, JSON_COMPACT);
	char *answer = NULL;

	json_decref(body);
	if (!text)
		return cli_fail(cli, EXIT_BAD_USAGE, "an argument is not valid UTF-8");
	int rc = ask(cli, method, path, text, &answer);
	return rc == EXIT_OK ? parse_answer(cli, answer, out) : rc;
}

char *cli_escape(const char *text)
{
	struct sb sb = { 0 };

	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		bool plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			     (*p && strchr("-._~", *p));
		if (plain)
			sb_add_bytes(&sb, p, 1);
		else
			sb_addf(&sb, "%%%02X", *p);
	}
	char *out = sb_take(&sb);
	if (!out)
		abort(); /* a few bytes: there is no memory at all */
	return out;
}

char *cli_query(const char *name, ...)
{
	struct sb sb = { 0 };
	va_list args;

	va_start(args, name);
	for (; name; name = va_arg(args, const char *)) {
		const char *value = va_arg(args, const char *);
		if (!value)
			continue;
		AUTO(mem_freep) char *escaped = cli_escape(value);
		sb_addf(&sb, "%c%s=%s", sb.len ? '&' : '?', name, escaped);
	}
	va_end(args);
	char *out = sb_take(&sb);
	if (!out)
		abort();
	return out;
}
