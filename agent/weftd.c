/* SPDX-License-Identifier: Apache-2.0 */
/* weftd: the command line of the agent. */
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/daemon/daemon.h"

#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef WEFT_VERSION
#define WEFT_VERSION "unknown"
#endif
#ifndef WEFT_LIBEXECDIR
#define WEFT_LIBEXECDIR "/usr/libexec/weft"
#endif

enum { EXIT_USAGE = 2 };

static const char usage_text[] =
	"Usage: weftd run --config DIR [options]     run the agent of this node\n"
	"       weftd cleanup [--instance NAME]      detach and remove everything of an instance\n"
	"       weftd precheck                       can this machine run it\n"
	"       weftd version\n"
	"\n"
	"  --config DIR           directory of YAML or JSON files, watched\n"
	"  --node NAME            this node's name in weft.dev/node annotations (default: the host name)\n"
	"  --instance NAME        several agents on one kernel: own pins, own directories (default: default)\n"
	"  --run-dir DIR          admin socket and pid files (default: /run/weft, /run/weft-NAME for instances)\n"
	"  --state-dir DIR        revisions and last good configuration (default: /var/lib/weft[-NAME])\n"
	"  --ca-dir DIR           root certificate and key, made on first start (default: STATE-DIR/ca)\n"
	"  --metrics-listen A:P   /metrics, /healthz, /readyz (default: 127.0.0.1:15020; \"off\": none)\n"
	"  --helper PATH          the weft-helper binary (default: beside weftd, else " WEFT_LIBEXECDIR ")\n"
	"  --helper-user NAME     the user that the helper becomes (default: weft, else nobody)\n"
	"  --socket-group NAME    group that may read the admin socket (default: weft when it exists)\n"
	"  --cgroup DIR           cgroup2 mount (default: found in /proc/mounts)\n"
	"  --log-level LEVEL      error, warn, info (default) or debug\n"
	"  --log-json             one JSON object a line\n"
	"\n"
	"Example: weftd run --config /etc/weft --node $(hostname); then: meshctl status\n"
	"See weftd(8) and meshctl(1).\n";

enum option_id {
	OPTION_CONFIG = 256,
	OPTION_NODE,
	OPTION_INSTANCE,
	OPTION_RUN_DIR,
	OPTION_STATE_DIR,
	OPTION_CA_DIR,
	OPTION_METRICS,
	OPTION_HELPER,
	OPTION_HELPER_USER,
	OPTION_SOCKET_GROUP,
	OPTION_CGROUP,
	OPTION_LOG_LEVEL,
	OPTION_LOG_JSON,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{ "config", required_argument, NULL, OPTION_CONFIG },
	{ "node", required_argument, NULL, OPTION_NODE },
	{ "instance", required_argument, NULL, OPTION_INSTANCE },
	{ "run-dir", required_argument, NULL, OPTION_RUN_DIR },
	{ "state-dir", required_argument, NULL, OPTION_STATE_DIR },
	{ "ca-dir", required_argument, NULL, OPTION_CA_DIR },
	{ "metrics-listen", required_argument, NULL, OPTION_METRICS },
	{ "helper", required_argument, NULL, OPTION_HELPER },
	{ "helper-user", required_argument, NULL, OPTION_HELPER_USER },
	{ "socket-group", required_argument, NULL, OPTION_SOCKET_GROUP },
	{ "cgroup", required_argument, NULL, OPTION_CGROUP },
	{ "log-level", required_argument, NULL, OPTION_LOG_LEVEL },
	{ "log-json", no_argument, NULL, OPTION_LOG_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ NULL, 0, NULL, 0 },
};

/* Defaults that depend on other options live here; weftd runs once, so they are static. */
struct paths {
	char node[256], run_dir[PATH_MAX], state_dir[PATH_MAX], ca_dir[PATH_MAX], helper[PATH_MAX];
};

static int usage_error(const char *what)
{
	fprintf(stderr, "weftd: %s; see weftd --help\n", what);
	return EXIT_USAGE;
}

/* 0, or an exit status; -1: go on */
static int option_apply(int id, struct daemon_options *o, enum log_level *level, bool *json)
{
	switch (id) {
	case OPTION_CONFIG:
		o->config_dir = optarg;
		break;
	case OPTION_NODE:
		o->node = optarg;
		break;
	case OPTION_INSTANCE:
		o->instance = optarg;
		break;
	case OPTION_RUN_DIR:
		o->run_dir = optarg;
		break;
	case OPTION_STATE_DIR:
		o->state_dir = optarg;
		break;
	case OPTION_CA_DIR:
		o->ca_dir = optarg;
		break;
	case OPTION_METRICS:
		o->metrics_listen = optarg;
		break;
	case OPTION_HELPER:
		o->helper_path = optarg;
		break;
	case OPTION_HELPER_USER:
		o->helper_user = optarg;
		break;
	case OPTION_SOCKET_GROUP:
		o->socket_group = optarg;
		break;
	case OPTION_CGROUP:
		o->cgroup = optarg;
		break;
	case OPTION_LOG_JSON:
		*json = true;
		break;
	case OPTION_LOG_LEVEL:
		if (log_level_parse(optarg, level) < 0)
			return usage_error("--log-level takes error, warn, info or debug");
		break;
	case OPTION_HELP:
		fputs(usage_text, stdout);
		return 0;
	default:
		return EXIT_USAGE;
	}
	return -1;
}

static bool instance_valid(const char *name)
{
	size_t len = strlen(name);
	return len > 0 && len <= 64 && name[0] != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len;
}

static void helper_default(char out[PATH_MAX])
{
	ssize_t len = readlink("/proc/self/exe", out, PATH_MAX - 1);
	if (len > 0) {
		out[len] = '\0';
		char *slash = strrchr(out, '/');
		if (slash && (size_t)(slash - out) + sizeof("/weft-helper") < PATH_MAX) {
			memcpy(slash, "/weft-helper", sizeof("/weft-helper"));
			if (access(out, X_OK) == 0)
				return;
		}
	}
	str_copy(out, PATH_MAX, WEFT_LIBEXECDIR "/weft-helper");
}

static void defaults_fill(struct daemon_options *o, struct paths *p)
{
	bool named = strcmp(o->instance, "default") != 0;

	if (!o->node) {
		gethostname(p->node, sizeof(p->node) - 1);
		o->node = p->node;
	}
	if (!o->run_dir) {
		snprintf(p->run_dir, sizeof(p->run_dir), "/run/weft%s%s", named ? "-" : "", named ? o->instance : "");
		o->run_dir = p->run_dir;
	}
	if (!o->state_dir) {
		snprintf(p->state_dir, sizeof(p->state_dir), "/var/lib/weft%s%s", named ? "-" : "",
			 named ? o->instance : "");
		o->state_dir = p->state_dir;
	}
	if (!o->ca_dir) {
		snprintf(p->ca_dir, sizeof(p->ca_dir), "%.*s/ca", PATH_MAX - 8, o->state_dir);
		o->ca_dir = p->ca_dir;
	}
	if (!o->helper_path) {
		helper_default(p->helper);
		o->helper_path = p->helper;
	}
}

static int report(int rc, const struct err *err)
{
	if (rc < 0)
		fprintf(stderr, "weftd: %s\n", err->text);
	return rc < 0;
}

int main(int argc, char **argv)
{
	static struct paths paths;
	struct daemon_options options = { .version = WEFT_VERSION,
					  .instance = "default",
					  .metrics_listen = "127.0.0.1:15020" };
	enum log_level level = LOG_INFO;
	bool json = false;
	struct err err = ERR_INIT;

	/* One arena: the agent is single-threaded but for short-lived helpers, and small is a promise. */
	mallopt(M_ARENA_MAX, 1);
	for (int id; (id = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
		int status = option_apply(id, &options, &level, &json);
		if (status >= 0)
			return status;
	}
	if (optind != argc - 1)
		return usage_error(optind < argc ? "one command at a time" :
						   "a command is missing (run, cleanup, precheck, version)");
	if (!instance_valid(options.instance))
		return usage_error("--instance takes up to 64 letters, digits, '-', '_' and '.'");

	log_init("weftd", json);
	log_set_level(level);
	defaults_fill(&options, &paths);
	if (strcmp(argv[optind], "version") == 0) {
		puts("weftd " WEFT_VERSION);
		return 0;
	}
	if (strcmp(argv[optind], "cleanup") == 0)
		return report(daemon_cleanup(&options, &err), &err);
	if (strcmp(argv[optind], "precheck") == 0)
		return report(daemon_precheck(&err), &err);
	if (strcmp(argv[optind], "run") != 0)
		return usage_error("unknown command (run, cleanup, precheck, version)");
	if (!options.config_dir)
		return usage_error("run needs --config DIR");
	return report(daemon_run(&options, &err), &err);
}
