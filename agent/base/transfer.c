/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/transfer.h"

#include <curl/curl.h>
#include <errno.h>
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
	LIST_HEAD(, curl_io) ios;
};

static void transfer_free(struct transfer *t)
{
	LIST_REMOVE(t, link);
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
					  .grpc_status = t->grpc_status };
	if (code == CURLE_OK)
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &result.status);
	else
		result.error = *t->reason ? t->reason : curl_easy_strerror(code);
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
		str_copy(t->reason, sizeof(t->reason), "the answer is too long");
		return 0;
	}
	sb_add_bytes(&t->body, bytes, size * n);
	return t->body.failed ? 0 : size * n;
}

/* Trailers come here too. */
static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
	static const char name[] = "grpc-status:";
	struct transfer *t = arg;
	size_t len = size * n, at = sizeof(name) - 1;
	if (len > at && strncasecmp(bytes, name, at) == 0) {
		while (at < len && bytes[at] == ' ')
			at++;
		t->grpc_status = at < len && bytes[at] >= '0' && bytes[at] <= '9' ? bytes[at] - '0' : 2;
		if (at + 1 < len && bytes[at + 1] >= '0' && bytes[at + 1] <= '9')
			t->grpc_status = t->grpc_status * 10 + (bytes[at + 1] - '0');
	}
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
	all->multi = curl_multi_init();
	if (!all->multi || loop_timer_new(loop, on_timeout, all, &all->timeout) < 0) {
		transfers_free(all);
		return err_set(err, -ENOMEM, "HTTP client: can't start libcurl");
	}
	curl_multi_setopt(all->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(all->multi, CURLMOPT_SOCKETDATA, all);
	curl_multi_setopt(all->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(all->multi, CURLMOPT_TIMERDATA, all);
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

static void options_set(struct transfer *t, const struct transfer_request *r)
{
	CURL *e = t->easy;
	curl_easy_setopt(e, CURLOPT_URL, r->url);
	curl_easy_setopt(e, CURLOPT_PRIVATE, t);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(e, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
			 (long)(r->http2 ? CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE : CURL_HTTP_VERSION_1_1));
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->headers);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->reason);
	if (r->body) {
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
		curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, r->body);
	}
}

int transfer_start(struct transfers *all, const struct transfer_request *r, transfer_fn fn, void *arg, struct transfer **out)
{
	struct transfer *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->all = all;
	t->fn = fn;
	t->arg = arg;
	t->grpc_status = -1;
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
