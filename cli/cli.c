/* SPDX-License-Identifier: Apache-2.0 */
/* Words, options, help, and asking the agent. Options may stand anywhere; a command is one word or two. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/format.h"

static const struct option_spec global_options[] = {
	{ "socket", 0, "PATH", "the agent's admin socket (default: $WEFT_SOCKET, else /run/weft/weft.sock)" },
	{ "instance", 0, "NAME", "the agent of that instance: /run/weft-NAME/weft.sock" },
	{ "namespace", 'n', "NAMESPACE", "only this namespace; also where bare names are looked up" },
	{ "output", 'o', "FORMAT", "json, yaml or wide" },
	{ "no-color", 0, NULL, "no colour (also: NO_COLOR in the environment)" },
	{ "help", 'h', NULL, "this help" },
	{ NULL, 0, NULL, NULL },
};

const char *cli_option(const struct cli *cli, const char *name)
{
	for (int i = cli->option_count - 1; i >= 0; i--)
		if (str_eq(cli->options[i].spec->name, name))
			return cli->options[i].value;
	return NULL;
}

const char *cli_option_at(const struct cli *cli, const char *name, int i)
{
	for (int k = 0; k < cli->option_count; k++)
		if (str_eq(cli->options[k].spec->name, name) && i-- == 0)
			return cli->options[k].value;
	return NULL;
}

__attribute__((format(printf, 2, 0))) static void say_error(struct cli *cli, const char *format, va_list args)
{
	fprintf(cli->err, "meshctl: ");
	vfprintf(cli->err, format, args);
	fputc('\n', cli->err);
}

int cli_fail(struct cli *cli, int status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	say_error(cli, format, args);
	va_end(args);
	return status;
}

int cli_usage_error(struct cli *cli, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	say_error(cli, format, args);
	va_end(args);
	if (cli->command)
		fprintf(cli->err, "Usage: meshctl %s%s%s\nSee meshctl %s --help.\n", cli->command->name,
			*cli->command->usage ? " " : "", cli->command->usage, cli->command->name);
	return EXIT_BAD_USAGE;
}

bool cli_structured(const struct cli *cli)
{
	return cli->format == FORMAT_JSON || cli->format == FORMAT_YAML;
}

const char *cli_color(const struct cli *cli, enum color color)
{
	static const char *const codes[] = {
		[COLOR_NONE] = "",	  [COLOR_GOOD] = "\033[32m", [COLOR_WARN] = "\033[33m",
		[COLOR_BAD] = "\033[31m", [COLOR_DIM] = "\033[2m",   [COLOR_BOLD] = "\033[1m",
	};
	return cli->color ? codes[color] : "";
}

const char *cli_plain(const struct cli *cli)
{
	return cli->color ? "\033[0m" : "";
}

static void print_options(FILE *out, const struct option_spec *options)
{
	for (const struct option_spec *o = options; o && o->name; o++) {
		char left[64];
		snprintf(left, sizeof(left), "%c%c%s--%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
			 o->letter ? ", " : "  ", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
		fprintf(out, "  %-27s %s\n", left, o->about);
	}
}

static void print_command_help(FILE *out, const struct command *c)
{
	fprintf(out, "%s\n\nUsage: meshctl %s%s%s [options]\n\n%s", c->about, c->name, *c->usage ? " " : "", c->usage,
		c->help);
	if (c->options) {
		fputs("\nOptions:\n", out);
		print_options(out, c->options);
	}
	fputs("\nGlobal options:\n", out);
	print_options(out, global_options);
}

static void print_list(FILE *out, const char *group)
{
	for (const struct command *c = NULL; (c = command_next(c));)
		if (!group || (str_starts(c->name, group) && c->name[strlen(group)] == ' '))
			fprintf(out, "  %-25s %s\n", c->name, c->about);
}

static void print_help(FILE *out)
{
	fputs("meshctl asks the Weft agent of this node (weftd) what it does and why.\n\n"
	      "Usage: meshctl COMMAND [arguments] [options]\n\nCommands:\n",
	      out);
	print_list(out, NULL);
	fputs("\nOptions:\n", out);
	print_options(out, global_options);
	fputs("\nExamples:\n"
	      "  meshctl status                              is everything well?\n"
	      "  meshctl explain frontend catalog.shop:80    what happens to that connection, and why\n"
	      "  meshctl explain frontend http://catalog/x   the same for a request: routes, retries, rules\n"
	      "  meshctl flows --follow --verdict refused    what is being refused right now\n"
	      "  meshctl top                                 rates, errors and latencies of HTTP services\n"
	      "\nExit status: 0 yes, 1 no (denied, unhealthy, differences), 2 wrong usage, 3 the agent can't be "
	      "reached.\n",
	      out);
}

static bool group_exists(const char *word)
{
	for (const struct command *c = NULL; (c = command_next(c));)
		if (str_starts(c->name, word) && c->name[strlen(word)] == ' ')
			return true;
	return false;
}

/* What was likely meant: the nearest name, or first word of one. NULL: nothing is near. */
static const char *nearest(const char *typed)
{
	const char *best = NULL;
	unsigned int best_distance = 3;

	for (const struct command *c = NULL; (c = command_next(c));) {
		char first[32];
		str_copy(first, sizeof(first), c->name);
		first[strcspn(first, " ")] = 0;
		unsigned int whole = str_distance(typed, c->name, 3), word = str_distance(typed, first, 3);
		unsigned int distance = word < whole ? word : whole;
		if (distance < best_distance) {
			best_distance = distance;
			best = c->name;
		}
	}
	return best;
}

static int unknown_command(struct cli *cli, const char *typed)
{
	const char *near = nearest(typed);

	if (near)
		return cli_fail(cli, EXIT_BAD_USAGE, "there is no command \"%s\"; did you mean \"%s\"?", typed, near);
	return cli_fail(cli, EXIT_BAD_USAGE, "there is no command \"%s\"; meshctl --help lists them", typed);
}

static const struct option_spec *spec_find(const struct option_spec *options, const char *name, size_t len, char letter)
{
	for (const struct option_spec *o = options; o && o->name; o++)
		if (letter ? o->letter == letter : strlen(o->name) == len && strncmp(o->name, name, len) == 0)
			return o;
	return NULL;
}

static int option_unknown(struct cli *cli, const struct command *c, const char *word)
{
	const char *best = NULL;
	unsigned int best_distance = 3;
	const struct option_spec *const lists[] = { global_options, c ? c->options : NULL };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		for (const struct option_spec *o = lists[i]; o && o->name; o++) {
			unsigned int distance = str_distance(word[1] == '-' ? word + 2 : word + 1, o->name, 3);
			if (distance < best_distance) {
				best_distance = distance;
				best = o->name;
			}
		}
	}
	return best ? cli_usage_error(cli, "there is no option %s; did you mean --%s?", word, best) :
		      cli_usage_error(cli, "there is no option %s", word);
}

/* One option at argv[*i], its argument maybe at argv[*i + 1]. */
static int option_take(struct cli *cli, const struct command *c, int argc, char **argv, int *i)
{
	const char *word = argv[*i];
	bool is_long = word[1] == '-';
	const char *equals = is_long ? strchr(word, '=') : NULL;
	size_t len = is_long ? (equals ? (size_t)(equals - word) - 2 : strlen(word) - 2) : 0;
	char letter = is_long ? 0 : word[1];

	const struct option_spec *spec = spec_find(global_options, word + 2, len, letter);
	if (!spec && c)
		spec = spec_find(c->options, word + 2, len, letter);
	if (!spec)
		return option_unknown(cli, c, word);
	const char *value = equals ? equals + 1 : !is_long && word[2] ? word + 2 : NULL;
	if (!spec->argument && value)
		return cli_usage_error(cli, "--%s takes no value", spec->name);
	if (spec->argument && !value && ++*i < argc)
		value = argv[*i];
	if (spec->argument && !value)
		return cli_usage_error(cli, "--%s needs its %s", spec->name, spec->argument);
	if (cli->option_count == CLI_OPTIONS_MAX)
		return cli_usage_error(cli, "too many options");
	cli->options[cli->option_count].spec = spec;
	cli->options[cli->option_count++].value = value ? value : "";
	return EXIT_OK;
}

static bool is_option(const char *word)
{
	return word[0] == '-' && word[1] != 0;
}

/* Index of the next word that is no option from `from` on, or argc. Global options with arguments are stepped over. */
static int next_word(int argc, char **argv, int from)
{
	for (int i = from; i < argc; i++) {
		if (!is_option(argv[i]))
			return i;
		if (str_eq(argv[i], "--"))
			return argc;
		bool is_long = argv[i][1] == '-';
		const struct option_spec *o = spec_find(global_options, argv[i] + 2, is_long ? strlen(argv[i] + 2) : 0,
							is_long ? 0 : argv[i][1]);
		if (o && o->argument && (is_long || !argv[i][2]))
			i++;
	}
	return argc;
}

/* Finds the command; *first and *second are the indexes of its words (second 0: it is one word). */
static const struct command *find_command(int argc, char **argv, int *first, int *second)
{
	char two[128];

	*first = next_word(argc, argv, 1);
	*second = 0;
	if (*first == argc)
		return NULL;
	int next = next_word(argc, argv, *first + 1);
	if (next < argc) {
		snprintf(two, sizeof(two), "%s %s", argv[*first], argv[next]);
		const struct command *c = command_find(two);
		if (c) {
			*second = next;
			return c;
		}
	}
	return command_find(argv[*first]);
}

static int parse(struct cli *cli, const struct command *c, int argc, char **argv, int first, int second)
{
	bool words_only = false;

	for (int i = 1; i < argc; i++) {
		if (i == first || i == second)
			continue;
		if (!words_only && str_eq(argv[i], "--")) {
			words_only = true;
		} else if (!words_only && is_option(argv[i])) {
			int rc = option_take(cli, c, argc, argv, &i);
			if (rc != EXIT_OK)
				return rc;
		} else if (cli->argc == CLI_ARGS_MAX) {
			return cli_usage_error(cli, "too many arguments");
		} else {
			cli->args[cli->argc++] = argv[i];
		}
	}
	return EXIT_OK;
}

static int settle_format(struct cli *cli)
{
	static const char *const names[] = {
		[FORMAT_TEXT] = "text", [FORMAT_WIDE] = "wide", [FORMAT_JSON] = "json", [FORMAT_YAML] = "yaml"
	};
	const char *text = cli_option(cli, "output");

	for (size_t i = 0; text && i < ARRAY_SIZE(names); i++) {
		if (!str_eq(text, names[i]))
			continue;
		cli->format = (enum format)i;
		return EXIT_OK;
	}
	return text ? cli_usage_error(cli, "-o %s: the formats are json, yaml and wide", text) : EXIT_OK;
}

static int settle_socket(struct cli *cli)
{
	const char *path = cli_option(cli, "socket"), *instance = cli_option(cli, "instance");
	char text[sizeof(cli->socket)];

	if (instance && (strchr(instance, '/') || !*instance))
		return cli_usage_error(cli, "--instance %s is not a name", instance);
	snprintf(text, sizeof(text), "/run/weft%s%s/weft.sock", instance && !str_eq(instance, "default") ? "-" : "",
		 instance && !str_eq(instance, "default") ? instance : "");
	if (!path && !instance)
		path = getenv("WEFT_SOCKET");
	if (!str_copy(cli->socket, sizeof(cli->socket), path && *path ? path : text))
		return cli_usage_error(cli, "the socket's path is too long");
	return EXIT_OK;
}

static void settle_color(struct cli *cli)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	cli->color = isatty(fileno(cli->out)) == 1 && !(no_color && *no_color) && !str_eq(term, "dumb") &&
		     !cli_option(cli, "no-color");
}

static int run_command(struct cli *cli, const struct command *c)
{
	if (cli->argc < c->min_args)
		return cli_usage_error(cli, "%s needs %s", c->name, c->usage);
	if (cli->argc > c->max_args)
		return cli_usage_error(cli, "\"%s\" is one argument too many", cli->args[c->max_args]);
	int rc = c->run(cli);
	if (fflush(cli->out) != 0 && errno == EPIPE)
		return rc; /* a pager that was left */
	return rc;
}

/* No command, or only the first word of one. */
static int run_without_command(struct cli *cli, int argc, char **argv, int first)
{
	bool help = cli_option(cli, "help") || first == argc || str_eq(argv[first], "help");

	if (first < argc && group_exists(argv[first])) {
		FILE *to = cli_option(cli, "help") ? cli->out : cli->err;
		if (cli->argc)
			fprintf(to, "meshctl: there is no command \"%s %s\"\n", argv[first], cli->args[0]);
		fprintf(to, "Commands of meshctl %s:\n", argv[first]);
		print_list(to, argv[first]);
		return cli_option(cli, "help") ? EXIT_OK : EXIT_BAD_USAGE;
	}
	if (!help)
		return unknown_command(cli, argv[first]);
	if (first < argc && cli->argc) { /* meshctl help COMMAND */
		char name[128];
		snprintf(name, sizeof(name), "%s%s%s", cli->args[0], cli->argc > 1 ? " " : "",
			 cli->argc > 1 ? cli->args[1] : "");
		const struct command *c = command_find(name);
		if (!c)
			return unknown_command(cli, name);
		print_command_help(cli->out, c);
		return EXIT_OK;
	}
	print_help(first == argc && !cli_option(cli, "help") ? cli->err : cli->out);
	return first == argc && !cli_option(cli, "help") ? EXIT_BAD_USAGE : EXIT_OK;
}

int cli_main(int argc, char **argv, FILE *out, FILE *err, const struct transport *transport)
{
	struct cli cli = { .out = out, .err = err, .transport = transport, .now_s = (unsigned long long)time(NULL) };
	int first, second;

	const struct command *c = find_command(argc, argv, &first, &second);
	cli.command = c;
	int rc = parse(&cli, c, argc, argv, first, second);
	if (rc != EXIT_OK && !(c == NULL && first < argc))
		return rc;
	if (!c)
		return run_without_command(&cli, argc, argv, first);
	if (cli_option(&cli, "help")) {
		print_command_help(out, c);
		return EXIT_OK;
	}
	cli.ns = cli_option(&cli, "namespace");
	rc = settle_format(&cli);
	if (rc == EXIT_OK)
		rc = settle_socket(&cli);
	if (rc != EXIT_OK)
		return rc;
	settle_color(&cli);
	return run_command(&cli, c);
}

bool cli_print_structured(struct cli *cli, const struct json_t *json)
{
	if (cli->format == FORMAT_JSON) {
		json_dumpf(json, cli->out, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);
		fputc('\n', cli->out);
	} else if (cli->format == FORMAT_YAML) {
		format_yaml(cli->out, json);
	} else {
		return false;
	}
	return true;
}
