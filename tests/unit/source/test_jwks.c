/* SPDX-License-Identifier: Apache-2.0 */
/* Against an HTTP server of a few lines on the same loop. */
#include "agent/source/jwks.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "tests/unit/source/until.h"

static const char keys_a[] = "{\"keys\":[{\"kty\":\"oct\"}]}";

struct fixture {
	struct loop *loop;
	struct jwks_source *js;
	int fd;
	uint16_t port;
	struct loop_io *io, *conns[8];
	int conn_fds[8];
	size_t conn_count;
	unsigned int changes, asked;
	unsigned int status;
	const char *headers, *body; /* body: of every path but the discovery document's */
	size_t zeros;		    /* bytes after the body */
	bool silent;
	uint32_t timeout_ms;
	char discovery[256], path[256];
};

static void answer(struct fixture *f, int fd, const char *request)
{
	char head[1024];
	const char *body = strstr(request, "openid-configuration") ? f->discovery : f->body;

	f->asked++;
	sscanf(request, "GET %255s", f->path);
	if (f->silent)
		return;
	int n = snprintf(head, sizeof(head), "HTTP/1.1 %u X\r\ncontent-length: %zu\r\nconnection: close\r\n%s\r\n%s",
			 f->status, strlen(body) + f->zeros, f->headers ? f->headers : "", body);
	assert_int_equal(write(fd, head, (size_t)n), n);
	static const char spaces[4096] = { ' ' };
	for (size_t left = f->zeros; left;) {
		ssize_t wrote = send(fd, spaces, left < sizeof(spaces) ? left : sizeof(spaces), MSG_NOSIGNAL);
		if (wrote <= 0)
			break;
		left -= (size_t)wrote;
	}
	shutdown(fd, SHUT_WR);
}

static void on_conn(struct loop_io *io, int events, void *arg)
{
	struct fixture *f = arg;
	char request[4096];
	(void)events;
	for (size_t i = 0; i < f->conn_count; i++) {
		if (f->conns[i] != io)
			continue;
		ssize_t n = read(f->conn_fds[i], request, sizeof(request) - 1);
		loop_io_set(io, 0);
		if (n <= 0)
			return;
		request[n] = '\0';
		answer(f, f->conn_fds[i], request);
	}
}

static void on_accept(struct loop_io *io, int events, void *arg)
{
	struct fixture *f = arg;
	(void)io;
	(void)events;
	int fd = accept(f->fd, NULL, NULL);
	if (fd < 0)
		return;
	if (f->conn_count == ARRAY_SIZE(f->conns)) { /* the oldest is over */
		loop_io_free(f->conns[0]);
		close(f->conn_fds[0]);
		memmove(f->conns, f->conns + 1, sizeof(f->conns) - sizeof(f->conns[0]));
		memmove(f->conn_fds, f->conn_fds + 1, sizeof(f->conn_fds) - sizeof(f->conn_fds[0]));
		f->conn_count--;
	}
	f->conn_fds[f->conn_count] = fd;
	assert_int_equal(loop_io_new(f->loop, fd, on_conn, f, &f->conns[f->conn_count]), 0);
	loop_io_set(f->conns[f->conn_count++], LOOP_READ);
}

static void on_change(void *arg)
{
	((struct fixture *)arg)->changes++;
}

static int on_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);

	*f = (struct fixture){ .status = 200, .body = keys_a };
	assert_int_equal(loop_new(&f->loop, NULL), 0);
	f->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(f->fd, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(f->fd, 8), 0);
	getsockname(f->fd, (struct sockaddr *)&at, &len);
	f->port = ntohs(at.sin_port);
	assert_int_equal(loop_io_new(f->loop, f->fd, on_accept, f, &f->io), 0);
	loop_io_set(f->io, LOOP_READ);
	assert_int_equal(jwks_source_new(f->loop, on_change, f, &f->js, NULL), 0);
	*state = f;
	return 0;
}

static int on_teardown(void **state)
{
	struct fixture *f = *state;
	jwks_source_free(f->js);
	for (size_t i = 0; i < f->conn_count; i++) {
		loop_io_free(f->conns[i]);
		close(f->conn_fds[i]);
	}
	loop_io_free(f->io);
	close(f->fd);
	loop_free(f->loop);
	free(f);
	return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)

static void ask(struct fixture *f, const char *scheme, const char *path)
{
	char uri[256];
	snprintf(uri, sizeof(uri), "%s://127.0.0.1:%u%s", scheme, f->port, path);
	assert_int_equal(jwks_source_set(f->js, &(struct jwks_want){ .uri = uri, .timeout_ms = f->timeout_ms }, 1), 0);
}

static const struct jwks_set *only(struct fixture *f)
{
	size_t n;
	const struct jwks_set *s = jwks_source_sets(f->js, &n);
	assert_int_equal(n, 1);
	return s;
}

static bool is_fetched(void *arg)
{
	return only(arg)->keys && ((struct fixture *)arg)->changes;
}

static bool is_failed(void *arg)
{
	return only(arg)->error != NULL;
}

static void test_keys_are_fetched_and_told_once(void **state)
{
	struct fixture *f = *state;
	ask(f, "http", "/jwks.json");
	until(f->loop, is_fetched, f, "fetched");
	assert_string_equal(only(f)->keys, keys_a);
	assert_int_equal(f->changes, 1);
	assert_int_equal(only(f)->errors, 0);
	assert_true(only(f)->last_ok_s > 0);
	ask(f, "http", "/jwks.json"); /* known: nothing is asked again */
	for_a_while(f->loop, 20);
	assert_int_equal(f->asked, 1);
}

static bool is_discovered(void *arg)
{
	return is_fetched(arg) && !strcmp(((struct fixture *)arg)->path, "/keys");
}

static void test_discovery_leads_to_the_keys(void **state)
{
	struct fixture *f = *state;
	snprintf(f->discovery, sizeof(f->discovery), "{\"issuer\":\"x\",\"jwks_uri\":\"http://127.0.0.1:%u/keys\"}",
		 f->port);
	ask(f, "http", "/realm/.well-known/openid-configuration");
	until(f->loop, is_discovered, f, "discovered");
	assert_string_equal(only(f)->keys, keys_a);
	assert_int_equal(f->asked, 2);
}

static void test_what_is_no_key_set_is_a_failure(void **state)
{
	struct fixture *f = *state;
	static const struct {
		unsigned int status;
		const char *body, *why;
		size_t zeros;
	} rows[] = {
		{ 404, keys_a, "404", 0 },
		{ 500, keys_a, "500", 0 },
		{ 200, "", "not JSON", 0 },
		{ 200, "<html>", "not JSON", 0 },
		{ 200, "{}", "no list", 0 },
		{ 200, "[]", "no list", 0 },
		{ 200, "{\"keys\":1}", "no list", 0 },
		{ 200, keys_a, "larger", JWKS_BYTES_MAX },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char path[32];
		f->status = rows[i].status;
		f->body = rows[i].body;
		f->zeros = rows[i].zeros;
		snprintf(path, sizeof(path), "/%zu", i);
		ask(f, "http", path);
		until(f->loop, is_failed, f, "failed");
		if (!strstr(only(f)->error, rows[i].why))
			fail_msg("row %zu: %s", i, only(f)->error);
		assert_null(only(f)->keys);
		assert_int_equal(only(f)->failures, 1);
	}
	for_a_while(f->loop, 10);
	assert_true(f->changes > 0); /* failures are told, too */
}

/* The first try fails; the next comes after a second. */
static void test_failures_are_tried_again(void **state)
{
	struct fixture *f = *state;
	f->status = 503;
	ask(f, "http", "/jwks");
	until(f->loop, is_failed, f, "failed");
	f->status = 200;
	until(f->loop, is_fetched, f, "fetched after a failure");
	assert_null(only(f)->error);
	assert_int_equal(only(f)->failures, 0);
	assert_int_equal(only(f)->errors, 1);
}

static bool is_changed_twice(void *arg)
{
	return ((struct fixture *)arg)->changes >= 2;
}

static void test_new_keys_are_told_and_old_ones_stay_when_there_are_none(void **state)
{
	struct fixture *f = *state;
	ask(f, "http", "/jwks");
	until(f->loop, is_fetched, f, "fetched");
	jwks_source_refresh(f->js); /* the same again: nothing to tell */
	for_a_while(f->loop, 50);
	assert_int_equal(f->asked, 2);
	assert_int_equal(f->changes, 1);

	f->body = "{\"keys\":[]}";
	jwks_source_refresh(f->js);
	until(f->loop, is_changed_twice, f, "changed");
	assert_string_equal(only(f)->keys, f->body);

	f->status = 500;
	jwks_source_refresh(f->js);
	until(f->loop, is_failed, f, "failed");
	assert_string_equal(only(f)->keys, f->body);
	assert_int_equal(only(f)->failures, 1);
}

static void test_https_wants_a_proven_server(void **state)
{
	struct fixture *f = *state;
	ask(f, "https", "/jwks");
	until(f->loop, is_failed, f, "failed");
	assert_null(only(f)->keys);
}

static void test_redirects_and_discovery_stay_within_http(void **state)
{
	struct fixture *f = *state;
	char headers[128];
	f->status = 302;
	f->headers = "location: file:///etc/passwd\r\n";
	ask(f, "http", "/a");
	until(f->loop, is_failed, f, "failed");
	snprintf(headers, sizeof(headers), "location: http://127.0.0.1:%u/again\r\n", f->port);
	f->headers = headers;
	ask(f, "http", "/b"); /* for ever */
	until(f->loop, is_failed, f, "failed");
	assert_non_null(strstr(only(f)->error, "redirects"));

	f->status = 200;
	f->headers = NULL;
	snprintf(f->discovery, sizeof(f->discovery), "{\"jwks_uri\":\"file:///etc/passwd\"}");
	ask(f, "http", "/.well-known/openid-configuration");
	until(f->loop, is_failed, f, "failed");
	assert_non_null(strstr(only(f)->error, "neither https"));
}

static void test_a_request_takes_no_longer_than_wanted(void **state)
{
	struct fixture *f = *state;
	f->silent = true;
	f->timeout_ms = 50;
	ask(f, "http", "/slow");
	until(f->loop, is_failed, f, "failed"); /* far sooner than without */
	assert_null(only(f)->keys);
}

static void test_sets_come_and_go_while_they_are_asked(void **state)
{
	struct fixture *f = *state;
	size_t n;
	f->silent = true;
	ask(f, "http", "/slow");
	for_a_while(f->loop, 20);
	assert_int_equal(f->asked, 1);
	assert_int_equal(jwks_source_set(f->js, NULL, 0), 0);
	jwks_source_sets(f->js, &n);
	assert_int_equal(n, 0);
	f->silent = false;
	ask(f, "http", "/other");
	until(f->loop, is_fetched, f, "fetched");
	f->silent = true;
	ask(f, "http", "/left"); /* freed with the source */
	for_a_while(f->loop, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_keys_are_fetched_and_told_once),
		CASE(test_discovery_leads_to_the_keys),
		CASE(test_what_is_no_key_set_is_a_failure),
		CASE(test_failures_are_tried_again),
		CASE(test_new_keys_are_told_and_old_ones_stay_when_there_are_none),
		CASE(test_https_wants_a_proven_server),
		CASE(test_redirects_and_discovery_stay_within_http),
		CASE(test_a_request_takes_no_longer_than_wanted),
		CASE(test_sets_come_and_go_while_they_are_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
