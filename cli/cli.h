/* SPDX-License-Identifier: Apache-2.0 */
/* What every command of meshctl has: its arguments, where it prints, how it asks the agent. One thread. Functions that
 * return int return an exit status unless said otherwise. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct cli;
struct command;
struct json_t;

enum { EXIT_OK = 0, EXIT_NEGATIVE = 1, EXIT_BAD_USAGE = 2, EXIT_UNREACHABLE = 3 };
enum format { FORMAT_TEXT, FORMAT_WIDE, FORMAT_JSON, FORMAT_YAML };
enum color { COLOR_NONE, COLOR_GOOD, COLOR_WARN, COLOR_BAD, COLOR_DIM, COLOR_BOLD };

enum { CLI_ARGS_MAX = 16, CLI_OPTIONS_MAX = 32 };

struct option_spec {
	const char *name;     /* "follow" */
	char letter;	      /* 'f', or 0 */
	const char *argument; /* "N" when it takes one */
	const char *about;
};

struct command {
	const char *name;		   /* "status", "cert list" */
	const char *usage;		   /* of its arguments: "SOURCE DESTINATION[:PORT]" */
	const char *about;		   /* one line */
	const char *help;		   /* paragraphs and examples */
	const struct option_spec *options; /* ends with a NULL name; or NULL */
	int min_args, max_args;
	int (*run)(struct cli *cli);
};

/* How a request goes out; the tests have their own. */
struct transport {
	/* *body: malloced, never NULL on 0. Returns 0, or -errno with a sentence in why. */
	int (*request)(struct cli *cli, const char *method, const char *path, const char *json, long *status,
		       char **body, char *why, size_t why_size);
	/* Lines as they come, until the agent or on_line (false) ends it. */
	int (*stream)(struct cli *cli, const char *path, bool (*on_line)(struct cli *cli, const char *line, void *arg),
		      void *arg, long *status, char **error_body, char *why, size_t why_size);
};

struct cli {
	FILE *out, *err;
	const struct transport *transport;
	const struct command *command;
	char socket[256];
	const char *ns; /* -n; NULL: none */
	enum format format;
	bool color;
	unsigned long long now_s; /* wall clock, for ages */
	int argc;		  /* positional arguments after the command's name */
	const char *args[CLI_ARGS_MAX];
	struct {
		const struct option_spec *spec;
		const char *value; /* "" for a switch */
	} options[CLI_OPTIONS_MAX];
	int option_count;
};

/* Parses argv and runs the command. out, err: stdout and stderr, or the test's. */
int cli_main(int argc, char **argv, FILE *out, FILE *err, const struct transport *transport);

/* --- commands.c */
const struct command *command_next(const struct command *after); /* NULL: the first; NULL at the end */
const struct command *command_find(const char *name);		 /* exact */

/* --- for commands */
const char *cli_option(const struct cli *cli, const char *name);	   /* NULL: not given */
const char *cli_option_at(const struct cli *cli, const char *name, int i); /* the i-th of one that may be repeated */
int cli_usage_error(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_fail(struct cli *cli, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool cli_structured(const struct cli *cli); /* -o json or yaml */
/* GET; on success *out (caller decrefs) and EXIT_OK, else the message is printed and the exit status returned. */
int cli_get(struct cli *cli, struct json_t **out, const char *path_format, ...) __attribute__((format(printf, 3, 4)));
int cli_get_text(struct cli *cli, char **out, const char *path_format, ...) __attribute__((format(printf, 3, 4)));
int cli_change(struct cli *cli, const char *method, const char *path, struct json_t *body /* taken */,
	       struct json_t **out);
/* What the agent answered instead of success, as a message; its exit status. body may be NULL. */
int cli_report_status(struct cli *cli, long status, const char *body);
/* "?a=b&c=d" of name, value pairs that ends with NULL; pairs with a NULL value are left out. Caller frees. */
char *cli_query(const char *name, ...);
char *cli_escape(const char *text); /* for a path's segment or a query's value; caller frees; never NULL */
/* -o json and yaml: prints and returns true. */
bool cli_print_structured(struct cli *cli, const struct json_t *json);
const char *cli_color(const struct cli *cli, enum color color); /* an escape sequence, or "" */
const char *cli_plain(const struct cli *cli);			/* ends it */

/* --- curl.c */
extern const struct transport transport_curl;
