/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP requests against servers that answer well, badly, late or never. The plain one is threads of this process, which do
 * what the path says; the one with TLS is openssl's. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/transfer.h"

enum { THREADS_MAX = 128, TEST_MS = 15000 };

struct test {
	struct loop *loop;
	struct loop_timer *deadline;
	struct transfers *all;
	int fd;
	uint16_t port;
	pthread_t acceptor, threads[THREADS_MAX];
	int clients[THREADS_MAX];
	size_t thread_count;
	unsigned int now, most, heads; /* requests; atomic */
	char *body;		       /* of the last request */

	/* What came of the last one. */
	size_t called, wanted;
	long status;
	int grpc_status;
	int64_t max_age_s;
	char error[256];
	struct sb got;
};

/* --- the server */

static void say(int fd, const char *text)
{
	size_t n = strlen(text);
	if (send(fd, text, n, MSG_NOSIGNAL) != (ssize_t)n)
		return; /* the client has gone, as it should in some tests */
}

static void say_big(int fd, size_t n)
{
	static const char piece[4096];
	char head[128];
	snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
	say(fd, head);
	for (; n; n -= n < sizeof(piece) ? n : sizeof(piece))
		if (send(fd, piece, n < sizeof(piece) ? n : sizeof(piece), MSG_NOSIGNAL) < 0)
			return;
}

#define EMPTY "Content-Length: 0\r\n\r\n"

static const struct {
	const char *path, *answer;
} answers[] = {
	{ "/ok", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" },
	{ "/empty", "HTTP/1.1 204 No Content\r\n\r\n" },
	{ "/missing", "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone" },
	{ "/cut", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello" },
	{ "/nonsense", "220 mail.example ESMTP\r\n" },
	{ "/once", "HTTP/1.1 302 Found\r\nLocation: /ok\r\nCache-Control: max-age=9\r\n" EMPTY },
	{ "/twice", "HTTP/1.1 307 Temporary Redirect\r\nLocation: /once\r\n" EMPTY },
	{ "/loop", "HTTP/1.1 302 Found\r\nLocation: /loop\r\n" EMPTY },
	{ "/file", "HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\n" EMPTY },
	{ "/age", "HTTP/1.1 200 OK\r\nCache-Control: public, Max-Age=600\r\n" EMPTY },
	{ "/age-huge", "HTTP/1.1 200 OK\r\nCache-Control: max-age=99999999999999999999\r\n" EMPTY },
	{ "/grpc",
	  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n0\r\ngrpc-status: 7\r\n\r\n" },
	{ "/grpc-odd", "HTTP/1.1 200 OK\r\ngrpc-status: 256\r\n" EMPTY },
};

/* Counts those that are under way, for long enough to meet the others. */
static void count(struct test *t, int fd)
{
	unsigned int now = __atomic_add_fetch(&t->now, 1, __ATOMIC_SEQ_CST),
		     most = __atomic_load_n(&t->most, __ATOMIC_SEQ_CST);
	while (now > most &&
	       !__atomic_compare_exchange_n(&t->most, &most, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	usleep(60000);
	__atomic_sub_fetch(&t->now, 1, __ATOMIC_SEQ_CST);
	say(fd, answers[0].answer);
}

static void answer(struct test *t, int fd, const char *path)
{
	char end[16];
	if (str_eq(path, "/never")) /* until the client gives up */
		while (recv(fd, end, sizeof(end), 0) > 0)
			;
	if (str_eq(path, "/big"))
		say_big(fd, 1 << 20);
	if (str_eq(path, "/fits"))
		say_big(fd, 1000);
	if (str_eq(path, "/slow")) { /* a byte now and then, so that no single wait is long */
		say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
		while (send(fd, ".", 1, MSG_NOSIGNAL) == 1)
			usleep(20000);
	}
	if (str_eq(path, "/count"))
		count(t, fd);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		if (str_eq(path, answers[i].path))
			say(fd, answers[i].answer);
}

struct client {
	struct test *t;
	int fd;
};

/* One connection, one request after the other. */
static void *serve(void *arg)
{
	struct client c = *(struct client *)arg;
	struct sb in = { 0 };
	char buf[4096], path[64];
	ssize_t n;
	free(arg);
	while ((n = recv(c.fd, buf, sizeof(buf), 0)) > 0) {
		sb_add_bytes(&in, buf, (size_t)n);
		const char *end = strstr(in.p, "\r\n\r\n"), *length = strcasestr(in.p, "content-length: ");
		size_t body = length ? strtoul(length + 16, NULL, 10) : 0;
		if (!end || in.len < (size_t)(end + 4 - in.p) + body)
			continue;
		__atomic_add_fetch(&c.t->heads, 1, __ATOMIC_SEQ_CST);
		if (body) {
			free(c.t->body);
			c.t->body = strdup(in.p);
		}
		assert_int_equal(sscanf(in.p, "%*s %63s", path), 1);
		sb_done(&in);
		in = (struct sb){ 0 };
		answer(c.t, c.fd, path);
		if (str_eq(path, "/cut") || str_eq(path, "/nonsense"))
			break;
	}
	sb_done(&in);
	shutdown(c.fd, SHUT_RDWR);
	return NULL;
}

static void *accept_all(void *arg)
{
	struct test *t = arg;
	for (int fd; (fd = accept(t->fd, NULL, NULL)) >= 0;) {
		struct client *c = malloc(sizeof(*c));
		assert_true(t->thread_count < THREADS_MAX);
		*c = (struct client){ t, fd };
		t->clients[t->thread_count] = fd;
		assert_int_equal(pthread_create(&t->threads[t->thread_count++], NULL, serve, c), 0);
	}
	return NULL;
}

static int listen_at(uint16_t *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	*port = ntohs(at.sin_port);
	return fd;
}

/* --- the client */

static void on_deadline(struct loop_timer *timer, void *arg)
{
	(void)timer;
	loop_stop(arg);
}

static int setup(void **state)
{
	struct test *t = calloc(1, sizeof(*t));
	t->fd = listen_at(&t->port);
	assert_int_equal(pthread_create(&t->acceptor, NULL, accept_all, t), 0);
	assert_int_equal(loop_new(&t->loop, NULL), 0);
	assert_int_equal(loop_timer_new(t->loop, on_deadline, t->loop, &t->deadline), 0);
	assert_int_equal(transfers_new(t->loop, &t->all, NULL), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;
	transfers_free(t->all);
	loop_timer_free(t->deadline);
	loop_free(t->loop);
	shutdown(t->fd, SHUT_RDWR);
	pthread_join(t->acceptor, NULL);
	for (size_t i = 0; i < t->thread_count; i++) {
		shutdown(t->clients[i], SHUT_RDWR);
		pthread_join(t->threads[i], NULL);
		close(t->clients[i]);
	}
	close(t->fd);
	sb_done(&t->got);
	free(t->body);
	free(t);
	return 0;
}

static void on_result(const struct transfer_result *r, void *arg)
{
	struct test *t = arg;
	t->status = r->status;
	t->grpc_status = r->grpc_status;
	t->max_age_s = r->max_age_s;
	str_copy(t->error, sizeof(t->error), r->error ? r->error : "");
	sb_done(&t->got);
	t->got = (struct sb){ 0 };
	sb_add_bytes(&t->got, (const char *)r->body, r->len);
	if (++t->called == t->wanted)
		loop_stop(t->loop);
}

static void run(struct test *t, size_t results)
{
	t->wanted = t->called + results;
	loop_timer_start(t->deadline, TEST_MS, 0);
	loop_run(t->loop);
	loop_timer_stop(t->deadline);
	assert_int_equal(t->called, t->wanted);
}

static struct transfer *start(struct test *t, const char *path, const struct transfer_request *how)
{
	struct transfer_request r = *how;
	struct transfer *out = NULL;
	char url[128];
	snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", t->port, path);
	r.url = r.url ? r.url : url;
	r.timeout_ms = r.timeout_ms ? r.timeout_ms : 90000;
	r.response_max = r.response_max ? r.response_max : 4096;
	assert_int_equal(transfer_start(t->all, &r, on_result, t, &out), 0);
	assert_non_null(out);
	return out;
}

static void ask(struct test *t, const char *path, const struct transfer_request *how)
{
	start(t, path, how);
	run(t, 1);
}

#define HOW(...) (&(const struct transfer_request){ __VA_ARGS__ })

static void failed(const struct test *t, const char *words)
{
	assert_int_equal(t->status, 0);
	if (!strcasestr(t->error, words))
		fail_msg("\"%s\" does not say \"%s\"", t->error, words);
}

static void good(const struct test *t, long status, const char *body)
{
	assert_string_equal(t->error, "");
	assert_int_equal(t->status, status);
	assert_string_equal(t->got.p ? t->got.p : "", body);
}

/* --- answers */

static void test_get_and_post(void **state)
{
	struct test *t = *state;
	static const char *const headers[] = { "X-Mark: yes", NULL };
	ask(t, "/ok", HOW(0));
	good(t, 200, "hello");
	assert_int_equal(t->grpc_status, -1);
	assert_int_equal(t->max_age_s, -1);
	ask(t, "/empty", HOW(.body = "a body", .body_len = 6, .headers = headers));
	good(t, 204, "");
	assert_non_null(strstr(t->body, "POST /empty HTTP/1.1\r\n"));
	assert_non_null(strstr(t->body, "\r\nX-Mark: yes\r\n"));
	assert_non_null(strstr(t->body, "\r\n\r\na body"));
}

static void test_connections_are_kept_unless_once(void **state)
{
	struct test *t = *state;
	for (int i = 0; i < 3; i++)
		ask(t, "/ok", HOW(0));
	assert_int_equal(t->thread_count, 1);
	ask(t, "/ok", HOW(.once = true));
	ask(t, "/ok", HOW(0));
	assert_int_equal(t->thread_count, 2);
}

static void test_a_status_is_a_failure_when_asked_for(void **state)
{
	struct test *t = *state;
	ask(t, "/missing", HOW(0));
	good(t, 404, "none");
	ask(t, "/missing", HOW(.fail_on_error = true));
	failed(t, "404");
}

static void test_what_headers_and_trailers_say(void **state)
{
	struct test *t = *state;
	ask(t, "/age", HOW(0));
	assert_int_equal(t->max_age_s, 600);
	ask(t, "/age-huge", HOW(0));
	assert_true(t->max_age_s == INT64_MAX);
	ask(t, "/grpc", HOW(0));
	assert_int_equal(t->grpc_status, 7);
	ask(t, "/grpc-odd", HOW(0));
	assert_int_equal(t->grpc_status, 2); /* UNKNOWN, and not 256 cut to OK */
}

/* --- redirects */

static void test_redirects_up_to_the_limit(void **state)
{
	struct test *t = *state;
	ask(t, "/twice", HOW(0));
	good(t, 307, "");
	ask(t, "/twice", HOW(.redirects = 2));
	good(t, 200, "hello");
	assert_int_equal(t->max_age_s, -1); /* which was said of another answer */
	ask(t, "/twice", HOW(.redirects = 1));
	failed(t, "redirects");
	ask(t, "/loop", HOW(.redirects = 5));
	failed(t, "redirects");
	assert_true(t->heads < 20);
}

static void test_redirects_lead_to_http_alone(void **state)
{
	struct test *t = *state;
	ask(t, "/file", HOW(.redirects = 5));
	failed(t, "protocol");
	ask(t, NULL, HOW(.url = "file:///etc/hostname"));
	failed(t, "protocol");
}

/* --- failures */

static void test_nobody_listens(void **state)
{
	struct test *t = *state;
	uint16_t port;
	char url[64];
	close(listen_at(&port));
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/", port);
	ask(t, NULL, HOW(.url = url));
	failed(t, "connect");
}

static void test_no_answer_in_time(void **state)
{
	struct test *t = *state;
	uint64_t began = clock_now_ns();
	ask(t, "/never", HOW(.timeout_ms = 200));
	failed(t, "timed out");
	ask(t, "/slow", HOW(.timeout_ms = 200));
	failed(t, "timed out");
	assert_true(clock_now_ns() - began >= 390000000);
}

static void test_answers_that_end_early_or_are_none(void **state)
{
	struct test *t = *state;
	ask(t, "/cut", HOW(0));
	failed(t, "bytes remaining");
	ask(t, "/nonsense", HOW(0));
	failed(t, "HTTP/0.9");
	ask(t, "/ok", HOW(0));
	good(t, 200, "hello");
}

static void test_an_answer_too_large(void **state)
{
	struct test *t = *state;
	ask(t, "/big", HOW(.response_max = 10 << 10));
	failed(t, "larger than 10 KiB");
	ask(t, "/fits", HOW(.response_max = 1000));
	assert_int_equal(t->status, 200);
	assert_int_equal(t->got.len, 1000);
	ask(t, "/fits", HOW(.response_max = 999));
	failed(t, "larger than");
}

/* --- ends and limits */

static void test_cancelled_calls_nobody(void **state)
{
	struct test *t = *state;
	transfer_cancel(start(t, "/ok", HOW(0))); /* before it began */
	struct transfer *waits = start(t, "/never", HOW(0));
	ask(t, "/ok", HOW(0));
	transfer_cancel(waits); /* under way */
	transfer_cancel(NULL);
	ask(t, "/ok", HOW(0));
	assert_int_equal(t->called, 2);
}

static void test_freed_with_transfers_under_way(void **state)
{
	struct test *t = *state;
	start(t, "/never", HOW(0));
	start(t, "/slow", HOW(0));
	ask(t, "/ok", HOW(0));
	transfers_free(t->all);
	t->all = NULL;
	assert_int_equal(t->called, 1);
}

struct chain {
	struct test *t;
	struct transfer *other;
};

/* Ends another, and starts a third. */
static void on_chain(const struct transfer_result *r, void *arg)
{
	struct chain *c = arg;
	assert_int_equal(r->status, 200);
	transfer_cancel(c->other);
	start(c->t, "/missing", HOW(0));
}

static void test_a_callback_may_start_and_cancel_others(void **state)
{
	struct test *t = *state;
	struct chain c = { t, start(t, "/never", HOW(0)) };
	struct transfer *first;
	char url[64];
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/ok", t->port);
	const struct transfer_request r = { .url = url, .timeout_ms = 90000, .response_max = 100 };
	assert_int_equal(transfer_start(t->all, &r, on_chain, &c, &first), 0);
	run(t, 1);
	good(t, 404, "none");
}

static void test_connections_are_limited_and_requests_wait(void **state)
{
	struct test *t = *state;
	for (int i = 0; i < 3 * TRANSFER_CONNECTIONS_MAX; i++)
		start(t, "/count", HOW(.once = true));
	run(t, 3 * TRANSFER_CONNECTIONS_MAX);
	assert_int_equal(t->heads, 3 * TRANSFER_CONNECTIONS_MAX);
	assert_true(t->most <= TRANSFER_CONNECTIONS_MAX);
	assert_true(t->most > 1);
}

static void test_too_many_are_refused(void **state)
{
	struct test *t = *state;
	char url[64];
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/ok", t->port);
	const struct transfer_request r = { .url = url, .timeout_ms = 90000, .response_max = 100 };
	struct transfer *out[TRANSFERS_MAX], *more = NULL;
	for (size_t i = 0; i < TRANSFERS_MAX; i++)
		assert_int_equal(transfer_start(t->all, &r, on_result, t, &out[i]), 0);
	assert_int_equal(transfer_start(t->all, &r, on_result, t, &more), -EBUSY);
	assert_null(more);
	transfer_cancel(out[7]);
	assert_int_equal(transfer_start(t->all, &r, on_result, t, &more), 0);
	run(t, TRANSFERS_MAX);
	good(t, 200, "hello");
}

/* --- TLS */

struct tls {
	char dir[32], cert[64], key[64];
	pid_t pid;
	FILE *out;
	uint16_t port;
};

static pid_t openssl(int out, const char *const words[])
{
	pid_t pid = fork();
	if (pid)
		return pid;
	int null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(out >= 0 ? out : null, 1);
	dup2(null, 2);
	execvp(words[0], (char *const *)(uintptr_t)words);
	_exit(127);
}

static void tls_start(struct tls *tls)
{
	int pipes[2], status;
	char line[256];
	unsigned int port = 0;
	str_copy(tls->dir, sizeof(tls->dir), "/tmp/weft-transfer-XXXXXX");
	assert_non_null(mkdtemp(tls->dir));
	snprintf(tls->cert, sizeof(tls->cert), "%s/cert", tls->dir);
	snprintf(tls->key, sizeof(tls->key), "%s/key", tls->dir);
	const char *const make[] = { "openssl",
				     "req",
				     "-x509",
				     "-newkey",
				     "ec",
				     "-pkeyopt",
				     "ec_paramgen_curve:P-256",
				     "-nodes",
				     "-keyout",
				     tls->key,
				     "-out",
				     tls->cert,
				     "-subj",
				     "/CN=localhost",
				     "-addext",
				     "subjectAltName=IP:127.0.0.1",
				     NULL };
	assert_int_equal(waitpid(openssl(-1, make), &status, 0) > 0 ? status : -1, 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	const char *const serve_words[] = { "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert",
					    tls->cert, "-key",	   tls->key,  "-www",	     NULL };
	tls->pid = openssl(pipes[1], serve_words);
	close(pipes[1]);
	FILE *f = fdopen(pipes[0], "r");
	while (!port && fgets(line, sizeof(line), f))
		sscanf(line, "ACCEPT 127.0.0.1:%u", &port);
	assert_true(port > 0);
	tls->port = (uint16_t)port;
	tls->out = f; /* stays open: openssl would end with it */
}

static void tls_stop(struct tls *tls)
{
	kill(tls->pid, SIGKILL);
	waitpid(tls->pid, NULL, 0);
	fclose(tls->out);
	unlink(tls->cert);
	unlink(tls->key);
	rmdir(tls->dir);
}

static void test_tls_proves_the_server(void **state)
{
	struct test *t = *state;
	struct tls tls;
	char url[64];
	tls_start(&tls);
	snprintf(url, sizeof(url), "https://127.0.0.1:%u/", tls.port);
	ask(t, NULL, HOW(.url = url, .roots = tls.cert, .response_max = 64 << 10));
	assert_string_equal(t->error, "");
	assert_int_equal(t->status, 200);
	ask(t, NULL, HOW(.url = url)); /* the system does not know it */
	failed(t, "certificate");
	ask(t, NULL, HOW(.url = url, .roots = "/nonexistent/roots"));
	failed(t, "certificate");
	snprintf(url, sizeof(url), "https://localhost:%u/", tls.port); /* it is 127.0.0.1 and nobody else */
	ask(t, NULL, HOW(.url = url, .roots = tls.cert));
	failed(t, "subject name");
	snprintf(url, sizeof(url), "https://127.0.0.1:%u/", t->port); /* speaks no TLS */
	ask(t, NULL, HOW(.url = url, .timeout_ms = 2000));
	assert_int_equal(t->status, 0);
	assert_true(*t->error);
	tls_stop(&tls);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_get_and_post),
		T(test_connections_are_kept_unless_once),
		T(test_a_status_is_a_failure_when_asked_for),
		T(test_what_headers_and_trailers_say),
		T(test_redirects_up_to_the_limit),
		T(test_redirects_lead_to_http_alone),
		T(test_nobody_listens),
		T(test_no_answer_in_time),
		T(test_answers_that_end_early_or_are_none),
		T(test_an_answer_too_large),
		T(test_cancelled_calls_nobody),
		T(test_freed_with_transfers_under_way),
		T(test_a_callback_may_start_and_cancel_others),
		T(test_connections_are_limited_and_requests_wait),
		T(test_too_many_are_refused),
		T(test_tls_proves_the_server),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
