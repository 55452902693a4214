/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP over the agent's unix socket, with libcurl. */
#include "cli/cli.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <curl/curl.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"

enum { ANSWER_MAX = 256 << 20, TIMEOUT_S = 30, LINE_MAX_BYTES = 1 << 20 };

static void curl_freep(CURL **curl)
{
	curl_easy_cleanup(*curl);
}

static void headers_freep(struct curl_slist **headers)
{
	curl_slist_free_all(*headers);
}

/* Other agents' sockets, for the message when the one asked for is not there. */
static void add_instances(char *why, size_t size)
{
	glob_t found;

	if (glob("/run/weft*/weft.sock", 0, NULL, &found) != 0)
		return;
	size_t len = strlen(why);
	for (size_t i = 0; i < found.gl_pathc && i < 4; i++) {
		snprintf(why + len, size - len, "%s%s", i ? ", " : "; found here: ", found.gl_pathv[i]);
		len = strlen(why);
	}
	globfree(&found);
}

/* Why the socket could not be connected to, as a person would say it: libcurl tells no errno. */
static void explain_connect(const struct cli *cli, CURLcode code, char *why, size_t size)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	AUTO(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(why, size, "%s: %s", cli->socket, curl_easy_strerror(code));
	if (!str_copy(sun.sun_path, sizeof(sun.sun_path), cli->socket)) {
		snprintf(why, size, "%s is too long for a socket's path", cli->socket);
		return;
	}
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
		return;
	if (errno == ENOENT) {
		snprintf(why, size,
			 "no agent: %s is not there. Start weftd, or say where it is with --socket or --instance",
			 cli->socket);
		add_instances(why, size);
	} else if (errno == ECONNREFUSED) {
		snprintf(why, size, "no agent answers on %s: weftd is not running (try: systemctl status weftd)",
			 cli->socket);
	} else if (errno == EACCES || errno == EPERM) {
		snprintf(why, size, "no permission for %s: run as root, or join the group that owns it", cli->socket);
	} else {
		snprintf(why, size, "%s: %s", cli->socket, strerror(errno));
	}
}

static CURL *prepare(struct cli *cli, const char *path, size_t (*on_data)(char *, size_t, size_t, void *), void *arg)
{
	static bool ready;
	AUTO(mem_freep) char *url = str_format("http://weft%s", path);

	if (!ready && curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK)
		return NULL;
	ready = true;
	CURL *curl = url ? curl_easy_init() : NULL;
	if (!curl)
		return NULL;
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, cli->socket);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, arg);
	return curl;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct sb *sb = arg;
	if (sb->len + size * n > ANSWER_MAX)
		return 0;
	sb_add_bytes(sb, data, size * n);
	return sb->failed ? 0 : size * n;
}

static int curl_request(struct cli *cli, const char *method, const char *path, const char *json, long *status,
			char **body, char *why, size_t why_size)
{
	AUTO(sb_done) struct sb sb = { 0 };
	AUTO(curl_freep) CURL *curl = prepare(cli, path, on_body, &sb);
	AUTO(headers_freep) struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	if (!curl) {
		str_copy(why, why_size, "libcurl can't be set up");
		return -ENOMEM;
	}
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	if (json) {
		curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, json);
	}
	CURLcode code = curl_easy_perform(curl);
	if (code != CURLE_OK) {
		explain_connect(cli, code, why, why_size);
		return -EIO;
	}
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
	*body = sb_take(&sb);
	return *body ? 0 : -ENOMEM;
}

struct lines {
	struct cli *cli;
	CURL *curl;
	struct sb line, error;
	bool (*on_line)(struct cli *cli, const char *line, void *arg);
	void *arg;
	bool ended; /* on_line has had enough */
};

static bool line_end(struct lines *l)
{
	bool go_on = l->line.len == 0 || l->on_line(l->cli, l->line.p, l->arg);

	l->line.len = 0;
	l->ended = !go_on;
	return go_on;
}

static size_t on_lines(char *data, size_t size, size_t n, void *arg)
{
	struct lines *l = arg;
	size_t len = size * n;
	long status = 0;

	curl_easy_getinfo(l->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200) {
		sb_add_bytes(&l->error, data, len);
		return l->error.len > LINE_MAX_BYTES ? 0 : len;
	}
	for (size_t at = 0; at < len;) {
		char *newline = memchr(data + at, '\n', len - at);
		size_t piece = newline ? (size_t)(newline - data) - at : len - at;
		if (l->line.len + piece > LINE_MAX_BYTES)
			return 0;
		sb_add_bytes(&l->line, data + at, piece);
		at += piece + (newline != NULL);
		if (newline && !line_end(l))
			return 0;
	}
	return len;
}

static int curl_stream(struct cli *cli, const char *path, bool (*on_line)(struct cli *cli, const char *line, void *arg),
		       void *arg, long *status, char **error_body, char *why, size_t why_size)
{
	struct lines l = { .cli = cli, .on_line = on_line, .arg = arg };
	l.curl = prepare(cli, path, on_lines, &l);
	if (!l.curl) {
		str_copy(why, why_size, "libcurl can't be set up");
		return -ENOMEM;
	}
	CURLcode code = curl_easy_perform(l.curl);
	curl_easy_getinfo(l.curl, CURLINFO_RESPONSE_CODE, status);
	curl_easy_cleanup(l.curl);
	sb_done(&l.line);
	*error_body = sb_take(&l.error);
	if (code == CURLE_OK || l.ended)
		return 0;
	/* The agent went away in the middle: what came is good. */
	if (*status == 200)
		snprintf(why, why_size, "the agent has ended the connection");
	else
		explain_connect(cli, code, why, why_size);
	return -EIO;
}

const struct transport transport_curl = { .request = curl_request, .stream = curl_stream };
