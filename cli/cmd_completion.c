/* SPDX-License-Identifier: Apache-2.0 */
/* Scripts that are made from the table of commands, so they never lag behind it. */
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"
#include "cli/commands.h"

static const char global_words[] = "--socket --instance --namespace --output --no-color --help";
static const char kinds[] =
	"workloads services policies authorizationpolicy peerauthentication serviceentry workloadentry "
	"destinationrule namespace meshconfig";

/* What may follow a command's name. */
static const struct {
	const char *command, *words;
} arguments[] = {
	{ "get", kinds },
	{ "describe", "workload service policy" },
	{ "proxy-config",
	  "all listeners clusters routes endpoints upstreams secrets connections pools http-connections http-pools" },
	{ "log", "error warn info debug" },
	{ "completion", "bash zsh fish" },
};

static const char *arguments_of(const char *command)
{
	for (size_t i = 0; i < ARRAY_SIZE(arguments); i++)
		if (str_eq(arguments[i].command, command))
			return arguments[i].words;
	return "";
}

static void first_words(FILE *out)
{
	char last[32] = "";

	for (const struct command *c = NULL; (c = command_next(c));) {
		char word[32];
		str_copy(word, sizeof(word), c->name);
		word[strcspn(word, " ")] = 0;
		if (!str_eq(word, last))
			fprintf(out, "%s%s", *last ? " " : "", word);
		str_copy(last, sizeof(last), word);
	}
}

static void option_words(FILE *out, const struct command *c)
{
	for (const struct option_spec *o = c->options; o && o->name; o++)
		fprintf(out, " --%s", o->name);
}

static void print_bash(FILE *out)
{
	fputs("# bash completion for meshctl\n_meshctl() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} words=() word i\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n\t\tword=${COMP_WORDS[i]}\n"
	      "\t\tcase $word in\n\t\t--socket|--instance|--namespace|-n|--output|-o) ((i++)) ;;\n\t\t-*) ;;\n"
	      "\t\t*) words+=(\"$word\") ;;\n\t\tesac\n\tdone\n\tlocal all=\"",
	      out);
	fputs(global_words, out);
	fputs("\"\n\tcase \"${COMP_WORDS[COMP_CWORD-1]}\" in\n"
	      "\t-o|--output) COMPREPLY=($(compgen -W 'json yaml wide' -- \"$cur\")); return ;;\n"
	      "\t--socket) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
	      "\t--verdict) COMPREPLY=($(compgen -W 'allowed refused failed opened closed' -- \"$cur\")); return ;;\n"
	      "\t--path) COMPREPLY=($(compgen -W 'direct attested hbone plaintext http' -- \"$cur\")); return "
	      ";;\n\tesac\n"
	      "\tcase \"${words[*]}\" in\n\t'') all+=\" ",
	      out);
	first_words(out);
	fputs("\" ;;\n", out);
	for (const struct command *c = NULL; (c = command_next(c));) {
		const char *space = strchr(c->name, ' ');
		if (space) {
			const struct command *before = NULL;
			for (const struct command *p = NULL; (p = command_next(p)) && p != c;)
				before = p;
			size_t len = (size_t)(space - c->name);
			bool first = !before || strncmp(before->name, c->name, len + 1) != 0;
			if (first) {
				fprintf(out, "\t'%.*s') all+=\"", (int)len, c->name);
				for (const struct command *p = c; p && strncmp(p->name, c->name, len + 1) == 0;
				     p = command_next(p))
					fprintf(out, " %s", p->name + len + 1);
				fputs("\" ;;\n", out);
			}
		}
		fprintf(out, "\t'%s'*) all+=\" %s", c->name, arguments_of(c->name));
		option_words(out, c);
		fputs("\" ;;\n", out);
	}
	fputs("\tesac\n\tCOMPREPLY=($(compgen -W \"$all\" -- \"$cur\"))\n}\ncomplete -F _meshctl meshctl\n", out);
}

static void print_zsh(FILE *out)
{
	/* zsh reads bash's completions; one script is one thing to keep right. */
	fputs("#compdef meshctl\nautoload -U +X bashcompinit && bashcompinit\n", out);
	print_bash(out);
}

/* In fish's single quotes a quote is escaped by a backslash. */
static void fish_quoted(FILE *out, const char *text)
{
	fputs(" -d '", out);
	for (; *text; text++)
		fprintf(out, *text == '\'' ? "\\%c" : "%c", *text);
	fputs("'\n", out);
}

static void print_fish(FILE *out)
{
	fputs("# fish completion for meshctl\ncomplete -c meshctl -f\n"
	      "complete -c meshctl -l socket -r -F -d 'admin socket of the agent'\n"
	      "complete -c meshctl -l instance -x -d 'agent of that instance'\n"
	      "complete -c meshctl -s n -l namespace -x -d 'only this namespace'\n"
	      "complete -c meshctl -s o -l output -x -a 'json yaml wide'\n"
	      "complete -c meshctl -s h -l help -d 'help'\n",
	      out);
	for (const struct command *c = NULL; (c = command_next(c));) {
		const char *space = strchr(c->name, ' ');
		int len = space ? (int)(space - c->name) : (int)strlen(c->name);
		if (space)
			fprintf(out,
				"complete -c meshctl -n __fish_use_subcommand -a %.*s\n"
				"complete -c meshctl -n '__fish_seen_subcommand_from %.*s' -a %s",
				len, c->name, len, c->name, space + 1);
		else
			fprintf(out, "complete -c meshctl -n __fish_use_subcommand -a %s", c->name);
		fish_quoted(out, c->about);
		if (*arguments_of(c->name))
			fprintf(out, "complete -c meshctl -n '__fish_seen_subcommand_from %s' -a '%s'\n", c->name,
				arguments_of(c->name));
		for (const struct option_spec *o = c->options; o && o->name; o++) {
			fprintf(out, "complete -c meshctl -n '__fish_seen_subcommand_from %s' -l %s%s",
				space ? space + 1 : c->name, o->name, o->argument ? " -x" : "");
			fish_quoted(out, o->about);
		}
	}
}

int cmd_completion(struct cli *cli)
{
	const char *shell = cli->args[0];

	if (str_eq(shell, "bash"))
		print_bash(cli->out);
	else if (str_eq(shell, "zsh"))
		print_zsh(cli->out);
	else if (str_eq(shell, "fish"))
		print_fish(cli->out);
	else
		return cli_usage_error(cli, "%s: the shells are bash, zsh and fish", shell);
	return EXIT_OK;
}
