/* SPDX-License-Identifier: Apache-2.0 */
/* Each set has a timer: it is fetched when the timer fires, JWKS_INFLIGHT_MAX at a time, the others wait in a queue. A
 * discovery document is a first step that gives the address for a second. libcurl's sockets and timeout are the loop's.
 * What is not a key set is a failure: the last good one stays, and the next try comes sooner. */
#include "agent/source/jwks.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

enum { COALESCE_MS = 2 };

struct entry {
	struct jwks_set set;
	struct jwks_source *js;
	struct loop_timer *timer;
	struct entry *next_due;
	bool due;
	CURL *easy; /* under way */
	char *step; /* the address under way, when a discovery document gave it */
	struct sb body;
	uint64_t max_age_s;
	bool has_max_age;
	char reason[CURL_ERROR_SIZE];
};

struct socket {
	curl_socket_t fd;
	struct loop_io *io;
	struct jwks_source *js;
	struct socket *next;
};

struct jwks_source {
	struct loop *loop;
	CURLM *multi;
	struct socket *sockets;
	struct loop_timer *timeout, *tell;
	struct entry **entries; /* by uri */
	size_t count;
	struct entry *due, **due_tail;
	size_t inflight;
	struct jwks_set *sets; /* copies for jwks_source_sets() */
	char *roots;
	bool stale;
	void (*on_change)(void *arg);
	void *arg;
};

static void pump(struct jwks_source *js);
static void finished(struct jwks_source *js);

/* --- libcurl and the loop */

static void on_socket(struct loop_io *io, int events, void *arg)
{
	struct socket *s = arg;
	struct jwks_source *js = s->js;
	int running, mask = 0;
	(void)io;

	mask |= events & LOOP_READ ? CURL_CSELECT_IN : 0;
	mask |= events & LOOP_WRITE ? CURL_CSELECT_OUT : 0;
	mask |= events & LOOP_HANGUP ? CURL_CSELECT_ERR : 0;
	curl_multi_socket_action(js->multi, s->fd, mask, &running); /* s may be gone */
	finished(js);
}

static void socket_free(struct jwks_source *js, curl_socket_t fd)
{
	for (struct socket **at = &js->sockets; *at; at = &(*at)->next)
		if ((*at)->fd == fd) {
			struct socket *s = *at;
			*at = s->next;
			loop_io_free(s->io);
			free(s);
			return;
		}
}

static int on_socket_state(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct jwks_source *js = arg;
	struct socket *s = js->sockets;
	(void)easy;
	(void)socket_arg;

	if (what == CURL_POLL_REMOVE) {
		socket_free(js, fd);
		return 0;
	}
	while (s && s->fd != fd)
		s = s->next;
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return -1; /* the transfer fails */
		*s = (struct socket){ .fd = fd, .js = js, .next = js->sockets };
		if (loop_io_new(js->loop, fd, on_socket, s, &s->io) < 0) {
			free(s);
			return -1;
		}
		js->sockets = s;
	}
	loop_io_set(s->io, (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0));
	return 0;
}

static int on_timeout_set(CURLM *multi, long timeout_ms, void *arg)
{
	struct jwks_source *js = arg;
	(void)multi;

	if (timeout_ms < 0)
		loop_timer_stop(js->timeout);
	else
		loop_timer_start(js->timeout, (uint64_t)timeout_ms, 0);
	return 0;
}

static void on_timeout(struct loop_timer *timer, void *arg)
{
	struct jwks_source *js = arg;
	int running;
	(void)timer;

	curl_multi_socket_action(js->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	finished(js);
}

/* --- a transfer */

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct entry *e = arg;

	if (e->body.len + size * n > JWKS_BYTES_MAX)
		return 0; /* fails with CURLE_WRITE_ERROR */
	sb_add_bytes(&e->body, bytes, size * n);
	return e->body.failed ? 0 : size * n;
}

/* Cache-Control: max-age, RFC 9111 section 5.2.2.1. */
static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
	static const char name[] = "cache-control:";
	struct entry *e = arg;
	size_t len = size * n;
	char line[256];

	if (len >= sizeof(line) || len < sizeof(name) || strncasecmp(bytes, name, sizeof(name) - 1) != 0)
		return len;
	memcpy(line, bytes, len);
	line[len] = '\0';
	const char *age = strcasestr(line, "max-age=");
	if (age) {
		e->max_age_s = strtoull(age + 8, NULL, 10);
		e->has_max_age = true;
	}
	return len;
}

static void entry_free(struct entry *e)
{
	if (e->easy) {
		curl_multi_remove_handle(e->js->multi, e->easy);
		curl_easy_cleanup(e->easy);
	}
	loop_timer_free(e->timer);
	sb_done(&e->body);
	free(e->step);
	free(e->set.uri);
	free(e->set.keys);
	free(e->set.error);
	free(e);
}

/* From https never down to http: who asks for a proven server gets one. */
static bool protocols_set(CURL *easy, bool secure)
{
#if LIBCURL_VERSION_NUM >= 0x075500 /* Ubuntu 22.04 has 7.81 */
	return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https") == CURLE_OK;
#else
	const long both = CURLPROTO_HTTP | CURLPROTO_HTTPS;
	return curl_easy_setopt(easy, CURLOPT_PROTOCOLS, both) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS, secure ? (long)CURLPROTO_HTTPS : both) == CURLE_OK;
#endif
}

static CURL *easy_make(struct entry *e)
{
	const char *url = e->step ? e->step : e->set.uri;
	CURL *easy = curl_easy_init();
	if (!easy)
		return NULL;
	sb_done(&e->body);
	e->body = (struct sb){ 0 };
	e->reason[0] = '\0';
	e->has_max_age = false;
	bool ok = curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
		  protocols_set(easy, strncasecmp(url, "https:", 6) == 0) &&
		  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK && /* the next time is far away */
		  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)JWKS_REDIRECTS_MAX) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)JWKS_TIMEOUT_MS) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_MAXFILESIZE, (long)JWKS_BYTES_MAX) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_USERAGENT, "weft") == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_WRITEDATA, e) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_HEADERDATA, e) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, e->reason) == CURLE_OK &&
		  curl_easy_setopt(easy, CURLOPT_PRIVATE, e) == CURLE_OK &&
		  (!e->js->roots || curl_easy_setopt(easy, CURLOPT_CAINFO, e->js->roots) == CURLE_OK);
	if (!ok) {
		curl_easy_cleanup(easy);
		return NULL;
	}
	return easy;
}

static uint64_t retry_s(uint64_t failures)
{
	uint64_t s = JWKS_RETRY_MIN_S;
	while (--failures && s < JWKS_RETRY_MAX_S)
		s *= 2;
	return s < JWKS_RETRY_MAX_S ? s : JWKS_RETRY_MAX_S;
}

static void changed(struct jwks_source *js)
{
	js->stale = true;
	loop_timer_start(js->tell, COALESCE_MS, 0);
}

static void entry_failed(struct entry *e, const char *why)
{
	free(e->set.error);
	e->set.error = strdup(why);
	e->set.errors++;
	if (e->set.failures++ == 0)
		changed(e->js);
	e->js->stale = true;
	free(TAKE(e->step));
	loop_timer_start(e->timer, retry_s(e->set.failures) * 1000, 0);
}

static void entry_good(struct entry *e)
{
	uint64_t s = e->has_max_age ? e->max_age_s : JWKS_REFRESH_S;
	char *keys = sb_take(&e->body);

	if (!keys) {
		entry_failed(e, "out of memory");
		return;
	}
	s = s < JWKS_REFRESH_MIN_S ? JWKS_REFRESH_MIN_S : s > JWKS_REFRESH_S ? JWKS_REFRESH_S : s;
	if (!str_eq(keys, e->set.keys))
		changed(e->js);
	free(e->set.keys);
	e->set.keys = keys;
	e->set.last_ok_s = clock_wall_ns() / 1000000000;
	e->set.failures = 0;
	free(TAKE(e->set.error));
	e->js->stale = true;
	free(TAKE(e->step));
	loop_timer_start(e->timer, s * 1000, 0);
}

static bool is_discovery(const struct entry *e)
{
	return !e->step && str_ends(e->set.uri, "/.well-known/openid-configuration");
}

/* Keys, or where they are. */
static void body_read(struct entry *e)
{
	json_t *root = e->body.p && strlen(e->body.p) == e->body.len ? json_loads(e->body.p, 0, NULL) : NULL;
	const char *next = is_discovery(e) ? json_string_value(json_object_get(root, "jwks_uri")) : NULL;

	if (!root) {
		entry_failed(e, "the answer is not JSON");
	} else if (is_discovery(e) && !next) {
		entry_failed(e, "the discovery document has no jwks_uri");
	} else if (next && !str_starts(next, "https://") &&
		   !(str_starts(next, "http://") && str_starts(e->set.uri, "http://"))) {
		entry_failed(e, "the discovery document's jwks_uri is neither https nor as the document's own");
	} else if (next) {
		e->step = strdup(next);
		if (!e->step)
			entry_failed(e, "out of memory");
		else
			loop_timer_start(e->timer, 0, 0); /* the second step */
	} else if (!json_is_array(json_object_get(root, "keys"))) {
		entry_failed(e, "the answer has no list \"keys\"");
	} else {
		entry_good(e);
	}
	json_decref(root);
}

static void entry_finished(struct entry *e, CURLcode result)
{
	struct jwks_source *js = e->js;

	curl_multi_remove_handle(js->multi, e->easy);
	curl_easy_cleanup(e->easy);
	e->easy = NULL;
	js->inflight--;
	if (result == CURLE_WRITE_ERROR || result == CURLE_FILESIZE_EXCEEDED)
		entry_failed(e, "the answer is larger than 256 KiB");
	else if (result != CURLE_OK)
		entry_failed(e, *e->reason ? e->reason : curl_easy_strerror(result));
	else
		body_read(e);
	sb_done(&e->body);
	e->body = (struct sb){ 0 };
}

static void finished(struct jwks_source *js)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(js->multi, &left))) {
		struct entry *e = NULL;
		if (message->msg != CURLMSG_DONE)
			continue;
		CURLcode result = message->data.result;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&e);
		entry_finished(e, result);
	}
	pump(js);
}

/* --- asking */

static void enqueue(struct entry *e)
{
	if (e->due || e->easy)
		return;
	e->due = true;
	e->next_due = NULL;
	*e->js->due_tail = e;
	e->js->due_tail = &e->next_due;
}

static void dequeue(struct jwks_source *js, const struct entry *e)
{
	struct entry **at = &js->due;
	while (*at && *at != e)
		at = &(*at)->next_due;
	if (*at)
		*at = e->next_due;
	js->due_tail = &js->due;
	while (*js->due_tail)
		js->due_tail = &(*js->due_tail)->next_due;
}

static void entry_start(struct entry *e)
{
	e->set.fetches++;
	e->easy = easy_make(e);
	if (e->easy && curl_multi_add_handle(e->js->multi, e->easy) == CURLM_OK) {
		e->js->inflight++;
		return;
	}
	if (e->easy)
		curl_easy_cleanup(e->easy);
	e->easy = NULL;
	entry_failed(e, "can't be asked: no memory, or no URL");
}

static void pump(struct jwks_source *js)
{
	while (js->due && js->inflight < JWKS_INFLIGHT_MAX) {
		struct entry *e = js->due;
		js->due = e->next_due;
		if (!js->due)
			js->due_tail = &js->due;
		e->due = false;
		entry_start(e);
	}
}

static void on_due(struct loop_timer *timer, void *arg)
{
	struct entry *e = arg;
	(void)timer;
	enqueue(e);
	pump(e->js);
}

static void on_tell(struct loop_timer *timer, void *arg)
{
	struct jwks_source *js = arg;
	(void)timer;
	js->on_change(js->arg);
}

/* --- life */

int jwks_source_new(struct loop *loop, void (*on_change)(void *arg), void *arg, struct jwks_source **out,
		    struct err *err)
{
	struct jwks_source *js = calloc(1, sizeof(*js));
	if (!js)
		return err_set(err, -ENOMEM, "jwks: no memory");
	*js = (struct jwks_source){ .loop = loop, .on_change = on_change, .arg = arg };
	js->due_tail = &js->due;
	int rc = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : -ENOMEM;
	if (rc == 0)
		rc = loop_timer_new(loop, on_timeout, js, &js->timeout);
	if (rc == 0)
		rc = loop_timer_new(loop, on_tell, js, &js->tell);
	js->multi = rc == 0 ? curl_multi_init() : NULL;
	if (!js->multi || curl_multi_setopt(js->multi, CURLMOPT_SOCKETFUNCTION, on_socket_state) != CURLM_OK ||
	    curl_multi_setopt(js->multi, CURLMOPT_SOCKETDATA, js) != CURLM_OK ||
	    curl_multi_setopt(js->multi, CURLMOPT_TIMERFUNCTION, on_timeout_set) != CURLM_OK ||
	    curl_multi_setopt(js->multi, CURLMOPT_TIMERDATA, js) != CURLM_OK) {
		jwks_source_free(js);
		return err_set(err, -ENOMEM, "jwks: no memory");
	}
	*out = js;
	return 0;
}

void jwks_source_free(struct jwks_source *js)
{
	if (!js)
		return;
	for (size_t i = 0; i < js->count; i++)
		entry_free(js->entries[i]);
	if (js->multi)
		curl_multi_cleanup(js->multi);
	while (js->sockets)
		socket_free(js, js->sockets->fd);
	loop_timer_free(js->timeout);
	loop_timer_free(js->tell);
	free(js->entries);
	free(js->sets);
	free(js->roots);
	free(js);
}

int jwks_source_roots(struct jwks_source *js, const char *path)
{
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	free(js->roots);
	js->roots = copy;
	return 0;
}

void jwks_source_refresh(struct jwks_source *js)
{
	for (size_t i = 0; i < js->count; i++)
		enqueue(js->entries[i]);
	pump(js);
}

static struct entry *entry_new(struct jwks_source *js, const char *uri)
{
	struct entry *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->js = js;
	e->set.uri = strdup(uri);
	if (!e->set.uri || loop_timer_new(js->loop, on_due, e, &e->timer) < 0) {
		entry_free(e);
		return NULL;
	}
	return e;
}

static void entry_drop(struct entry *e)
{
	if (e->due)
		dequeue(e->js, e);
	if (e->easy)
		e->js->inflight--;
	entry_free(e);
}

static struct entry *entry_find(const struct jwks_source *js, const char *uri)
{
	for (size_t i = 0; i < js->count; i++)
		if (str_eq(js->entries[i]->set.uri, uri))
			return js->entries[i];
	return NULL;
}

static bool is_among(struct entry *const *v, size_t n, const struct entry *e)
{
	for (size_t i = 0; i < n; i++)
		if (v[i] == e)
			return true;
	return false;
}

/* A node has a handful of issuers: looking through all is fine. */
int jwks_source_set(struct jwks_source *js, const char *const *uris, size_t count)
{
	struct entry **entries = calloc(count + 1, sizeof(struct entry *));
	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct entry *known = entry_find(js, uris[i]);
		entries[i] = known ? known : entry_new(js, uris[i]);
		if (entries[i])
			continue;
		while (i--)
			if (!is_among(js->entries, js->count, entries[i]))
				entry_free(entries[i]);
		free(entries);
		return -ENOMEM;
	}
	for (size_t i = 0; i < js->count; i++)
		if (!is_among(entries, count, js->entries[i]))
			entry_drop(js->entries[i]);
	free(js->entries);
	js->entries = entries;
	js->count = count;
	js->stale = true;
	for (size_t i = 0; i < count; i++)
		if (!entries[i]->set.fetches)
			enqueue(entries[i]);
	pump(js);
	return 0;
}

const struct jwks_set *jwks_source_sets(const struct jwks_source *js, size_t *count)
{
	struct jwks_source *cache = (struct jwks_source *)js; /* the copies are a cache */
	*count = 0;
	if (js->stale) {
		struct jwks_set *sets = realloc(js->sets, (js->count + 1) * sizeof(*sets));
		if (!sets)
			return NULL;
		for (size_t i = 0; i < js->count; i++)
			sets[i] = js->entries[i]->set;
		cache->sets = sets;
		cache->stale = false;
	}
	*count = js->count;
	return js->sets;
}
