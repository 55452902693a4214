/* SPDX-License-Identifier: Apache-2.0 */
/* weft-helper: the data path in userspace. Started by weftd alone, with the link as descriptor 3. It drops everything
 * that it could misuse before it does anything else. */
#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/helper/helper.h"
#include "agent/helper/sandbox.h"
#include "version.h"

enum { LINK_FD = 3, USAGE = 2 };

/* No core, no tracing: the leak checker, which traces, can't work here. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

static int usage(FILE *to)
{
	fputs("weft-helper is started by weftd, which gives it a link as descriptor 3:\n"
	      "  weft-helper --uid NUMBER --gid NUMBER   user and group to become (not root)\n"
	      "  weft-helper --version\n",
	      to);
	return to == stderr ? USAGE : 0;
}

static int parse_id(const char *text, uint32_t *out)
{
	uint64_t value;
	int rc = str_to_u64(text, UINT32_MAX - 1, &value);
	*out = rc == 0 ? (uint32_t)value : 0;
	return rc;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "uid", required_argument, NULL, 'u' },
						 { "gid", required_argument, NULL, 'g' },
						 { "version", no_argument, NULL, 'v' },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	uint32_t uid = 0, gid = 0;
	int option;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'h')
			return usage(stdout);
		if (option == 'v')
			return puts("weft-helper " WEFT_VERSION) < 0;
		if ((option == 'u' && parse_id(optarg, &uid) == 0) || (option == 'g' && parse_id(optarg, &gid) == 0))
			continue;
		return usage(stderr);
	}
	if (!uid || !gid || optind != argc)
		return usage(stderr);

	log_init("weft-helper", false);
	int type = 0;
	socklen_t len = sizeof(type);
	if (getsockopt(LINK_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
		log_error("descriptor 3 is not a link: weft-helper is started by weftd");
		return USAGE;
	}
	/* Workers rest for 20 us at times (base/pace.h); the 50 us that the kernel may add would be most of it. Threads
	 * inherit it. */
	prctl(PR_SET_TIMERSLACK, 1000);
	struct err err = ERR_INIT;
	if (sandbox_enter(uid, gid, LINK_FD, &err) < 0) {
		log_error("%s; it does not run without its sandbox", err.text);
		return 1;
	}
	return helper_run(LINK_FD);
}
