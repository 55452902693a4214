/* SPDX-License-Identifier: Apache-2.0 */
/* Against a DNS server of a few lines on the same loop. */
#include "agent/source/dns.h"

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
#include "tests/unit/source/until.h"

enum { RCODE_OK = 0, RCODE_SERVFAIL = 2, RCODE_NXDOMAIN = 3 };

struct fixture {
	struct loop *loop;
	struct dns_source *ds;
	int fd;
	struct loop_io *io;
	unsigned int rcode, ttl_s, asked, changes;
	const char *v4[3]; /* answers to A; NULL ends */
	const char *v6;	   /* to AAAA, or NULL */
	bool silent;
};

static size_t put16(uint8_t *p, size_t at, unsigned int value)
{
	p[at] = (uint8_t)(value >> 8);
	p[at + 1] = (uint8_t)value;
	return at + 2;
}

static size_t put_record(uint8_t *p, size_t at, unsigned int type, unsigned int ttl, const void *data, size_t len)
{
	at = put16(p, at, 0xc00c); /* the question's name */
	at = put16(p, at, type);
	at = put16(p, at, 1);
	at = put16(p, at, 0);
	at = put16(p, at, ttl);
	at = put16(p, at, (unsigned int)len);
	memcpy(p + at, data, len);
	return at + len;
}

static void on_query(struct loop_io *io, int events, void *arg)
{
	struct fixture *f = arg;
	uint8_t p[512], data[16];
	struct sockaddr_in from;
	socklen_t from_len = sizeof(from);
	(void)io, (void)events;
	ssize_t n = recvfrom(f->fd, p, 256, 0, (struct sockaddr *)&from, &from_len);
	if (n < 17)
		return;
	f->asked++;
	if (f->silent)
		return;
	size_t at = 12;
	while (p[at])
		at += p[at] + 1u;
	unsigned int type = (unsigned int)(p[at + 1] << 8 | p[at + 2]), answers = 0;
	at += 5;
	p[2] = 0x81;
	p[3] = (uint8_t)(0x80 | f->rcode);
	for (size_t i = 0; type == 1 && !f->rcode && f->v4[i]; i++, answers++) {
		inet_pton(AF_INET, f->v4[i], data);
		at = put_record(p, at, 1, f->ttl_s, data, 4);
	}
	if (type == 28 && !f->rcode && f->v6) {
		inet_pton(AF_INET6, f->v6, data);
		at = put_record(p, at, 28, f->ttl_s, data, 16);
		answers++;
	}
	put16(p, 6, answers);
	put16(p, 8, 0);
	put16(p, 10, 0);
	sendto(f->fd, p, at, 0, (struct sockaddr *)&from, from_len);
}

static void on_change(void *arg)
{
	((struct fixture *)arg)->changes++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err = ERR_INIT;
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	char server[40];
	f->ttl_s = 60;
	assert_int_equal(loop_new(&f->loop, &err), 0);
	f->fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(bind(f->fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(getsockname(f->fd, (struct sockaddr *)&at, &len), 0);
	assert_int_equal(loop_io_new(f->loop, f->fd, on_query, f, &f->io), 0);
	loop_io_set(f->io, LOOP_READ);
	snprintf(server, sizeof(server), "127.0.0.1:%u", ntohs(at.sin_port));
	if (dns_source_new(f->loop, server, on_change, f, &f->ds, &err) < 0)
		fail_msg("%s", err.text);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	dns_source_free(f->ds);
	loop_io_free(f->io);
	loop_free(f->loop);
	close(f->fd);
	free(f);
	return 0;
}

static const struct dns_host *host(const struct fixture *f, size_t i)
{
	size_t n;
	const struct dns_host *hosts = dns_source_hosts(f->ds, &n);
	assert_true(i < n);
	return &hosts[i];
}

static const char *addr_of(const struct dns_host *h, size_t i)
{
	static char text[ADDR_TEXT_MAX];
	assert_true(i < h->addr_count);
	return addr_text(&h->addrs[i], text);
}

static bool has_changed(void *arg)
{
	return ((struct fixture *)arg)->changes != 0;
}

static bool has_failed(void *arg)
{
	return host(arg, 0)->error != NULL;
}

static void set(struct fixture *f, const char *a, const char *b)
{
	const char *names[] = { a, b };
	f->changes = 0;
	assert_int_equal(dns_source_set(f->ds, names, b ? 2 : a ? 1 : 0), 0);
}

static void await_change(struct fixture *f)
{
	f->changes = 0;
	until(f->loop, has_changed, f, "addresses changed");
}

static void test_set_name_is_resolved_in_both_families(void **state)
{
	struct fixture *f = *state;
	f->v4[0] = "10.9.0.2";
	f->v4[1] = "10.9.0.1";
	f->v6 = "fd09::1";
	set(f, "a.example", NULL);
	await_change(f);
	assert_int_equal(host(f, 0)->addr_count, 3);
	assert_string_equal(addr_of(host(f, 0), 0), "10.9.0.1");
	assert_string_equal(addr_of(host(f, 0), 1), "10.9.0.2");
	assert_string_equal(addr_of(host(f, 0), 2), "fd09::1");
	assert_int_equal(host(f, 0)->ttl_s, 60);
	assert_true(host(f, 0)->resolved);
	assert_null(host(f, 0)->error);
}

static void test_set_several_names_are_told_once(void **state)
{
	struct fixture *f = *state;
	f->v4[0] = "10.9.0.1";
	set(f, "a.example", "b.example");
	await_change(f);
	for_a_while(f->loop, 50);
	assert_true(f->changes <= 2);
	assert_int_equal(host(f, 0)->addr_count, 1);
	assert_int_equal(host(f, 1)->addr_count, 1);
}

static void test_ttl_end_asks_again_and_tells_a_difference(void **state)
{
	struct fixture *f = *state;
	f->ttl_s = 1;
	f->v4[0] = "10.9.0.1";
	set(f, "a.example", NULL);
	await_change(f);
	f->v4[0] = "10.9.0.7";
	await_change(f);
	assert_string_equal(addr_of(host(f, 0), 0), "10.9.0.7");
}

static void test_same_answer_is_not_told(void **state)
{
	struct fixture *f = *state;
	f->ttl_s = 1;
	f->v4[0] = "10.9.0.1";
	set(f, "a.example", NULL);
	await_change(f);
	f->changes = f->asked = 0;
	for_a_while(f->loop, 1300);
	assert_true(f->asked >= 2);
	assert_int_equal(f->changes, 0);
}

static void test_server_failure_keeps_last_good(void **state)
{
	struct fixture *f = *state;
	f->ttl_s = 1;
	f->v4[0] = "10.9.0.1";
	set(f, "a.example", NULL);
	await_change(f);
	f->rcode = RCODE_SERVFAIL;
	until(f->loop, has_failed, f, "the failure is shown");
	assert_string_equal(addr_of(host(f, 0), 0), "10.9.0.1");
	assert_int_equal(host(f, 0)->failures, 1);
	f->rcode = RCODE_OK;
	f->v4[0] = "10.9.0.2";
	await_change(f);
	assert_string_equal(addr_of(host(f, 0), 0), "10.9.0.2");
	assert_int_equal(host(f, 0)->failures, 0);
	assert_null(host(f, 0)->error);
}

static void test_no_such_name_empties_it(void **state)
{
	struct fixture *f = *state;
	f->ttl_s = 1;
	f->v4[0] = "10.9.0.1";
	set(f, "a.example", NULL);
	await_change(f);
	f->rcode = RCODE_NXDOMAIN;
	await_change(f);
	assert_int_equal(host(f, 0)->addr_count, 0);
	assert_true(host(f, 0)->resolved);
	assert_non_null(host(f, 0)->error);
}

static void test_set_known_name_is_not_asked_again(void **state)
{
	struct fixture *f = *state;
	f->v4[0] = "10.9.0.1";
	set(f, "b.example", NULL);
	await_change(f);
	f->asked = 0;
	set(f, "a.example", "b.example");
	await_change(f);
	assert_int_equal(f->asked, 2); /* A and AAAA of the new one */
	assert_string_equal(host(f, 0)->name, "a.example");
	assert_int_equal(host(f, 1)->addr_count, 1);
}

static void test_set_dropped_name_in_flight_is_forgotten(void **state)
{
	struct fixture *f = *state;
	size_t n;
	f->silent = true;
	set(f, "a.example", NULL);
	for_a_while(f->loop, 20);
	assert_true(f->asked > 0);
	set(f, NULL, NULL);
	dns_source_hosts(f->ds, &n);
	assert_int_equal(n, 0);
	f->silent = false;
	for_a_while(f->loop, 20); /* and freeing with a question open is fine: see teardown under ASan */
	assert_int_equal(f->changes, 0);
}

static void test_new_bad_servers_are_refused(void **state)
{
	struct fixture *f = *state;
	struct dns_source *ds;
	struct err err = ERR_INIT;
	assert_true(dns_source_new(f->loop, "not an address", on_change, f, &ds, &err) < 0);
	assert_non_null(strstr(err.text, "not an address"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_set_name_is_resolved_in_both_families),
		T(test_set_several_names_are_told_once),
		T(test_ttl_end_asks_again_and_tells_a_difference),
		T(test_same_answer_is_not_told),
		T(test_server_failure_keeps_last_good),
		T(test_no_such_name_empties_it),
		T(test_set_known_name_is_not_asked_again),
		T(test_set_dropped_name_in_flight_is_forgotten),
		T(test_new_bad_servers_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
