/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/transfer.h"

#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

struct transfer {
	LIST_ENTRY(transfer) link;
	struct transfers *all;
	CURL *easy;
	struct curl_slist *headers;
	struct sb body;
	size_t response_max;
	int grpc_status;
	int64_t max_age_s;
	char too_long[64];
	transfer_fn fn;
	void *arg;
	char reason[CURL_ERROR_SIZE];
};

struct curl_io {
	LIST_ENTRY(curl_io) link;
	curl_socket_t fd;
	struct loop_io *io;
	struct transfers *all;
};

struct transfers {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer *timeout;
	LIST_HEAD(, transfer) transfers;
	size_t count;
	LIST_HEAD(, curl_io) ios;
};

static void transfer_free(struct transfer *t)
{
	LIST_REMOVE(t, link);
	t->all->count--;
	curl_multi_remove_handle(t->all->multi, t->easy);
	curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->headers);
	sb_done(&t->body);
	free(t);
}

static void transfer_done(struct transfer *t, CURLcode code)
{
	struct transfer_result result = { .body = (const uint8_t *)(t->body.p ? t->body.p : ""),
					  .len = t->body.len,
					  .grpc_status = t->grpc_status,
					  .max_age_s = t->max_age_s };
	if (code == CURLE_OK)
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &result.status);
	else
		result.error = *t->too_long ? t->too_long : *t->reason ? t->reason : curl_easy_strerror(code);
	t->fn(&result, t->arg);
	transfer_free(t);
}

static void look_for_done(struct transfers *all)
{
	CURLMsg *m;
	int left;
	while ((m = curl_multi_info_read(all->multi, &left))) {
		struct transfer *t = NULL;
		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode code = m->data.result;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		transfer_done(t, code);
	}
}

static void on_io(struct loop_io *io, int events, void *arg)
{
	struct curl_io *s = arg;
	struct transfers *all = s->all;
	int running, mask = (events & LOOP_READ ? CURL_CSELECT_IN : 0) | (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0) |
			    (events & LOOP_HANGUP ? CURL_CSELECT_ERR : 0);
	(void)io;
	curl_multi_socket_action(all->multi, s->fd, mask, &running);
	look_for_done(all);
}

static void io_free(struct curl_io *s)
{
	LIST_REMOVE(s, link);
	loop_io_free(s->io);
	free(s);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_socket)
{
	struct transfers *all = arg;
	struct curl_io *s = of_socket;
	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s)
			io_free(s);
		curl_multi_assign(all->multi, fd, NULL);
		return 0;
	}
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s || loop_io_new(all->loop, fd, on_io, s, &s->io) < 0) {
			free(s);
			return -1;
		}
		s->fd = fd;
		s->all = all;
		LIST_INSERT_HEAD(&all->ios, s, link);
		curl_multi_assign(all->multi, fd, s);
	}
	loop_io_set(s->io, (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0));
	return 0;
}

static void on_timeout(struct loop_timer *timer, void *arg)
{
	struct transfers *all = arg;
	int running;
	(void)timer;
	curl_multi_socket_action(all->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	look_for_done(all);
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
	struct transfers *all = arg;
	(void)multi;
	if (ms < 0)
		loop_timer_stop(all->timeout);
	else
		loop_timer_start(all->timeout, (uint64_t)ms, 0);
	return 0;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	if (t->body.len + size * n > t->response_max) {
		/* libcurl would put its own words into `reason` */
		snprintf(t->too_long, sizeof(t->too_long), "the answer is larger than %zu KiB", t->response_max >> 10);
		return 0;
	}
	sb_add_bytes(&t->body, bytes, size * n);
	return t->body.failed ? 0 : size * n;
}

/* Where the value of a header line begins, if it is that header. */
static const char *header_value(const char *line, const char *name)
{
	size_t n = strlen(name);
	return strncasecmp(line, name, n) == 0 && line[n] == ':' ? line + n + 1 + strspn(line + n + 1, " \t") : NULL;
}

/* What is no small number is an error that is not known: UNKNOWN. */
static int grpc_status_read(const char *text)
{
	unsigned long n = *text >= '0' && *text <= '9' ? strtoul(text, NULL, 10) : ULONG_MAX;
	return n <= UINT8_MAX ? (int)n : 2;
}

static int64_t seconds_read(const char *text)
{
	unsigned long long n = *text >= '0' && *text <= '9' ? strtoull(text, NULL, 10) : 0;
	return n < INT64_MAX ? (int64_t)n : INT64_MAX;
}

/* Trailers come here too, and the heads of answers that were redirects. Cache-Control: RFC 9111 section 5.2.2.1. */
static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * n;
	char line[256];

	if (len >= sizeof(line))
		return len;
	memcpy(line, bytes, len);
	line[len] = 0;
	const char *grpc = header_value(line, "grpc-status"), *cache = header_value(line, "cache-control");
	if (!strncmp(line, "HTTP/", 5)) {
		t->grpc_status = -1;
		t->max_age_s = -1;
	}
	const char *age = cache ? strcasestr(cache, "max-age=") : NULL;
	if (grpc)
		t->grpc_status = grpc_status_read(grpc);
	if (age)
		t->max_age_s = seconds_read(age + 8);
	return len;
}

int transfers_new(struct loop *loop, struct transfers **out, struct err *err)
{
	struct transfers *all = calloc(1, sizeof(*all));
	if (!all)
		return err_set(err, -ENOMEM, "HTTP client: out of memory");
	all->loop = loop;
	LIST_INIT(&all->transfers);
	LIST_INIT(&all->ios);
	all->multi = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_multi_init() : NULL;
	if (!all->multi || loop_timer_new(loop, on_timeout, all, &all->timeout) < 0) {
		transfers_free(all);
		return err_set(err, -ENOMEM, "HTTP client: can't start libcurl");
	}
	curl_multi_setopt(all->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(all->multi, CURLMOPT_SOCKETDATA, all);
	curl_multi_setopt(all->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(all->multi, CURLMOPT_TIMERDATA, all);
	curl_multi_setopt(all->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)TRANSFER_CONNECTIONS_MAX);
	*out = all;
	return 0;
}

void transfers_free(struct transfers *all)
{
	struct transfer *t;
	struct curl_io *s;
	if (!all)
		return;
	while ((t = LIST_FIRST(&all->transfers)))
		transfer_free(t);
	if (all->multi)
		curl_multi_cleanup(all->multi);
	while ((s = LIST_FIRST(&all->ios)))
		io_free(s);
	loop_timer_free(all->timeout);
	free(all);
}

/* From https never down to http: who asks for a proven server gets one. */
static void protocols_set(CURL *e, bool secure)
{
#if LIBCURL_VERSION_NUM >= 0x075500 /* Ubuntu 22.04 has 7.81 */
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
#else
	const long both = CURLPROTO_HTTP | CURLPROTO_HTTPS;
	curl_easy_setopt(e, CURLOPT_PROTOCOLS, both);
	curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS, secure ? (long)CURLPROTO_HTTPS : both);
#endif
}

/* libcurl 7.88 (Debian 12 has it) breaks a connection of prior knowledge when it uses it again: curl issue 10634. */
static bool reuse_is_broken(void)
{
	unsigned int version = curl_version_info(CURLVERSION_NOW)->version_num;
	return version >= 0x075800 && version < 0x080000;
}

static void options_set(struct transfer *t, const struct transfer_request *r)
{
	CURL *e = t->easy;
	curl_easy_setopt(e, CURLOPT_URL, r->url);
	curl_easy_setopt(e, CURLOPT_PRIVATE, t);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
	protocols_set(e, strncasecmp(r->url, "https:", 6) == 0);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
			 (long)(r->http2 ? CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE : CURL_HTTP_VERSION_1_1));
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->headers);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->reason);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "weft");
	curl_easy_setopt(e, CURLOPT_FORBID_REUSE, r->once || (r->http2 && reuse_is_broken()) ? 1L : 0L);
	curl_easy_setopt(e, CURLOPT_FAILONERROR, r->fail_on_error ? 1L : 0L);
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, r->redirects ? 1L : 0L);
	curl_easy_setopt(e, CURLOPT_MAXREDIRS, (long)r->redirects);
	if (r->roots)
		curl_easy_setopt(e, CURLOPT_CAINFO, r->roots);
	if (r->body) {
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
		curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, r->body);
	}
}

int transfer_start(struct transfers *all, const struct transfer_request *r, transfer_fn fn, void *arg,
		   struct transfer **out)
{
	if (all->count == TRANSFERS_MAX)
		return -EBUSY;
	struct transfer *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->all = all;
	t->fn = fn;
	t->arg = arg;
	t->grpc_status = -1;
	t->max_age_s = -1;
	t->response_max = r->response_max;
	t->easy = curl_easy_init();
	bool ok = t->easy != NULL;
	for (const char *const *h = r->headers; ok && h && *h; h++) {
		struct curl_slist *more = curl_slist_append(t->headers, *h);
		ok = more != NULL;
		t->headers = more ? more : t->headers;
	}
	if (!ok) {
		curl_slist_free_all(t->headers);
		curl_easy_cleanup(t->easy);
		free(t);
		return -ENOMEM;
	}
	LIST_INSERT_HEAD(&all->transfers, t, link);
	all->count++;
	options_set(t, r);
	if (curl_multi_add_handle(all->multi, t->easy) != CURLM_OK) {
		transfer_free(t);
		return -ENOMEM;
	}
	*out = t;
	return 0;
}

void transfer_cancel(struct transfer *t)
{
	if (t)
		transfer_free(t);
}
