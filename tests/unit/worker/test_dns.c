/* SPDX-License-Identifier: Apache-2.0 */
/* Names over real sockets, in a network namespace of the test's own: port 53 is free there, and the client's address is
 * also the resolver's, which is what the kernel makes of a captured query's source. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "agent/helper/dns_message.h"
#include "tests/unit/worker/worker_fixture.h"

enum { COOKIE = 4 }; /* even: this worker's, of two */

static const char v4[] = "10.53.0.1", v6[] = "fd53::1";

struct dns_fixture {
	struct worker_fixture *f;
	const char *addr;	    /* of resolver and client */
	struct sockaddr_storage to; /* the pod's UDP socket */
	socklen_t to_len;
	uint16_t tcp_port;
	int client, resolver; /* UDP */
	size_t given;	      /* reports of wanted sockets that were answered */
	uint8_t reply[2048];
	ssize_t reply_len;
};

static struct dns_fixture *fixture;

static socklen_t sockaddr_of(const char *text, uint16_t port, struct sockaddr_storage *ss)
{
	struct addr_port at = { .port = port };
	assert_int_equal(addr_parse(text, &at.addr), 0);
	return addr_to_sockaddr(&at, ss);
}

static int bound(const char *text, int type, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_of(text, port, &ss);
	int on = 1, fd = socket(ss.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
	return fd;
}

static int namespace_make(void **state)
{
	(void)state;
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
	assert_int_equal(system("ip addr add 10.53.0.1/32 dev lo && ip -6 addr add fd53::1/128 dev lo nodad"), 0);
	return 0;
}

static int setup_with(void **state, const char *addr)
{
	struct dns_fixture *d = calloc(1, sizeof(*d));
	int fds[POD_LISTENERS] = { -1, -1, -1, -1, -1, -1, -1 };
	d->f = worker_fixture_new();
	d->addr = addr;
	bool six = strchr(addr, ':') != NULL;
	fds[POD_DNS_UDP] = bound(six ? "::1" : "127.0.0.1", SOCK_DGRAM, 0);
	fds[POD_DNS_TCP] = bound(addr, SOCK_STREAM, 0); /* so that accept()'s peer is the resolver */
	assert_int_equal(listen(fds[POD_DNS_TCP], 16), 0);
	d->to_len = sizeof(d->to);
	assert_int_equal(getsockname(fds[POD_DNS_UDP], (struct sockaddr *)&d->to, &d->to_len), 0);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	assert_int_equal(getsockname(fds[POD_DNS_TCP], (struct sockaddr *)&ss, &len), 0);
	struct addr_port tcp;
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, &tcp), 0);
	d->tcp_port = tcp.port;
	worker_fixture_pod(d->f, COOKIE, fds);
	d->client = bound(addr, SOCK_DGRAM, 0);
	d->resolver = bound(addr, SOCK_DGRAM, 53);
	*state = fixture = d;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, v4);
}

static int setup_v6(void **state)
{
	return setup_with(state, v6);
}

static int teardown(void **state)
{
	struct dns_fixture *d = *state;
	worker_fixture_free(d->f);
	close(d->client);
	fd_closep(&d->resolver);
	free(d);
	return 0;
}

static size_t query_make(uint8_t *to, uint16_t id, const char *name, uint8_t type)
{
	uint8_t header[12] = { (uint8_t)(id >> 8), (uint8_t)id, 1, 0, 0, 1 };
	size_t at = sizeof(header);
	memcpy(to, header, sizeof(header));
	while (*name) {
		size_t label = strcspn(name, ".");
		to[at++] = (uint8_t)label;
		memcpy(to + at, name, label);
		at += label;
		name += label + (name[label] == '.');
	}
	memcpy(to + at, (uint8_t[]){ 0, 0, type, 0, 1 }, 5);
	return at + 5;
}

static void ask(struct dns_fixture *d, uint16_t id, const char *name, uint8_t type)
{
	uint8_t m[512];
	size_t len = query_make(m, id, name, type);
	assert_int_equal(sendto(d->client, m, len, 0, (struct sockaddr *)&d->to, d->to_len), len);
}

/* Answers requests for sockets as the agent would. */
static void broker(struct dns_fixture *d)
{
	size_t seen = 0;
	for (size_t i = 0; i < d->f->report_count; i++) {
		const struct report *r = d->f->reports[i];
		if (r->kind != REPORT_SOCKETS_WANTED || seen++ < d->given)
			continue;
		d->given++;
		struct order *order = order_new(ORDER_SOCKETS, r->count);
		order->cookie = COOKIE;
		order->socket = r->socket;
		for (size_t k = 0; k < r->count; k++) {
			int off = 0, type = r->socket == POD_UDP_REMOTE ? SOCK_DGRAM : SOCK_STREAM;
			order->fds[k] = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
			setsockopt(order->fds[k], IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
		}
		worker_handle(d->f->w, order);
	}
}

static void name_is(struct dns_fixture *d, const char *name, bool known, const char *addr)
{
	struct order *order = order_new(ORDER_DNS, 0);
	order->cookie = COOKIE;
	order->answer = calloc(1, sizeof(*order->answer));
	*order->answer = (struct dns_answer){ .name = strdup(name), .known = known, .ttl_s = 30 };
	if (addr) {
		order->answer->addrs = calloc(1, sizeof(struct addr));
		order->answer->addr_count = 1;
		assert_int_equal(addr_parse(addr, order->answer->addrs), 0);
	}
	worker_handle(d->f->w, order);
}

static bool was_asked(struct worker_fixture *f)
{
	return worker_fixture_count(f, REPORT_DNS_QUERY, NULL) > 0;
}

static bool got_reply(struct worker_fixture *f)
{
	(void)f;
	broker(fixture);
	fixture->reply_len = recv(fixture->client, fixture->reply, sizeof(fixture->reply), 0);
	return fixture->reply_len > 0;
}

static struct sockaddr_storage from;
static socklen_t from_len;
static uint8_t forwarded[2048];
static ssize_t forwarded_len;

static bool got_forwarded(struct worker_fixture *f)
{
	(void)f;
	broker(fixture);
	from_len = sizeof(from);
	forwarded_len =
		recvfrom(fixture->resolver, forwarded, sizeof(forwarded), 0, (struct sockaddr *)&from, &from_len);
	return forwarded_len > 0;
}

static void test_dns_owned_name_is_answered(void **state)
{
	struct dns_fixture *d = *state;
	const struct report *report = NULL;
	ask(d, 7, "Catalog.Shop", DNS_TYPE_A);
	assert_true(worker_fixture_until(d->f, was_asked));
	worker_fixture_count(d->f, REPORT_DNS_QUERY, &report);
	assert_string_equal(report->text, "catalog.shop");
	assert_int_equal(report->cookie, COOKIE);
	name_is(d, "catalog.shop", true, "10.96.0.5");
	assert_true(worker_fixture_until(d->f, got_reply));
	assert_int_equal(d->reply[1], 7);
	assert_int_equal(d->reply[7], 1);
	assert_memory_equal(d->reply + 13, "Catalog", 7); /* as it was asked */
	assert_memory_equal(d->reply + d->reply_len - 4, "\x0a\x60\x00\x05", 4);
	/* Known now; the other type has no address. */
	ask(d, 8, "catalog.shop", DNS_TYPE_AAAA);
	assert_true(worker_fixture_until(d->f, got_reply));
	assert_int_equal(d->reply[7], 0);
	assert_int_equal(d->reply[3] & 15, DNS_NOERROR);
	assert_int_equal(worker_fixture_count(d->f, REPORT_DNS_QUERY, NULL), 1);
	assert_int_equal(d->f->shard.dns_answered, 2);
	assert_int_equal(d->f->shard.dns_forwarded, 0);
}

static void test_dns_other_name_is_forwarded_untouched(void **state)
{
	struct dns_fixture *d = *state;
	uint8_t m[512];
	size_t len = query_make(m, 0x0102, "Example.ORG", 16);
	ask(d, 0x0102, "Example.ORG", 16);
	assert_true(worker_fixture_until(d->f, was_asked));
	name_is(d, "example.org", false, NULL);
	assert_true(worker_fixture_until(d->f, got_forwarded));
	assert_int_equal(forwarded_len, len);
	assert_memory_equal(forwarded, m, len);
	/* One with another id is somebody's guess. */
	uint8_t answer[1400] = { 9, 9, 0x81, 0x80 };
	sendto(d->resolver, answer, sizeof(answer), 0, (struct sockaddr *)&from, from_len);
	answer[0] = 1;
	answer[1] = 2;
	answer[1399] = 0x77;
	sendto(d->resolver, answer, sizeof(answer), 0, (struct sockaddr *)&from, from_len);
	assert_true(worker_fixture_until(d->f, got_reply));
	assert_int_equal(d->reply_len, sizeof(answer));
	assert_memory_equal(d->reply, answer, sizeof(answer));
	assert_int_equal(d->f->shard.dns_forwarded, 1);
	assert_int_equal(recv(d->client, d->reply, sizeof(d->reply), 0), -1);
}

static void test_dns_resolver_absent_fails_at_once(void **state)
{
	struct dns_fixture *d = *state;
	fd_closep(&d->resolver);
	ask(d, 3, "example.org", DNS_TYPE_A);
	assert_true(worker_fixture_until(d->f, was_asked));
	name_is(d, "example.org", false, NULL);
	assert_true(worker_fixture_until(d->f, got_reply));
	assert_int_equal(d->reply[3] & 15, DNS_SERVFAIL);
	assert_int_equal(d->f->shard.dns_failed, 1);
}

static void test_dns_flush_asks_again(void **state)
{
	struct dns_fixture *d = *state;
	ask(d, 1, "new.shop", DNS_TYPE_A);
	assert_true(worker_fixture_until(d->f, was_asked));
	name_is(d, "new.shop", false, NULL);
	assert_true(worker_fixture_until(d->f, got_forwarded));
	worker_handle(d->f->w, order_new(ORDER_DNS_FLUSH, 0));
	worker_fixture_forget(d->f);
	ask(d, 2, "new.shop", DNS_TYPE_A);
	assert_true(worker_fixture_until(d->f, was_asked));
	name_is(d, "new.shop", true, "10.96.0.6");
	assert_true(worker_fixture_until(d->f, got_reply));
	assert_memory_equal(d->reply + d->reply_len - 4, "\x0a\x60\x00\x06", 4);
}

static void test_dns_alone_forwards_what_it_does_not_know(void **state)
{
	struct dns_fixture *d = *state;
	ask(d, 1, "catalog.shop", DNS_TYPE_A);
	assert_true(worker_fixture_until(d->f, was_asked));
	name_is(d, "catalog.shop", true, "10.96.0.5");
	assert_true(worker_fixture_until(d->f, got_reply));
	ask(d, 2, "example.org", DNS_TYPE_A); /* has its answer outstanding when the agent goes */
	ask(d, 3, "example.org", DNS_TYPE_A);
	worker_fixture_run(d->f);
	/* Brokered before, as the pool would be. */
	struct order *order = order_new(ORDER_SOCKETS, 4);
	order->cookie = COOKIE;
	order->socket = POD_UDP_REMOTE;
	for (size_t i = 0; i < 4; i++)
		order->fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	worker_handle(d->f->w, order);
	worker_handle(d->f->w, order_new(ORDER_ALONE, 0));
	assert_true(worker_fixture_until(d->f, got_forwarded));
	ask(d, 4, "catalog.shop", DNS_TYPE_A);
	assert_true(worker_fixture_until(d->f, got_reply));
	assert_int_equal(d->reply[1], 4);
	assert_int_equal(d->reply[7], 1);
}

static bool counted_malformed(struct worker_fixture *f)
{
	return f->shard.drops[DROP_DNS_MALFORMED] > 0;
}

static void test_dns_malformed_is_refused_and_counted(void **state)
{
	struct dns_fixture *d = *state;
	uint8_t m[512];
	size_t len = query_make(m, 5, "catalog.shop", DNS_TYPE_A) - 1;
	sendto(d->client, m, len, 0, (struct sockaddr *)&d->to, d->to_len);
	assert_true(worker_fixture_until(d->f, counted_malformed));
	assert_true(worker_fixture_until(d->f, got_reply));
	assert_int_equal(d->reply_len, DNS_HEADER_LEN);
	assert_int_equal(d->reply[3] & 15, DNS_FORMERR);
}

static bool counted_failed(struct worker_fixture *f)
{
	return f->shard.dns_failed > 0;
}

static void test_dns_queries_under_way_are_bounded(void **state)
{
	struct dns_fixture *d = *state;
	for (int i = 0; i < 512; i++) {
		ask(d, (uint16_t)i, "slow.example", DNS_TYPE_A);
		if (i % 32 == 31)
			worker_fixture_run(d->f);
	}
	worker_fixture_run(d->f);
	assert_int_equal(d->f->shard.dns_failed, 0);
	assert_int_equal(worker_fixture_count(d->f, REPORT_DNS_QUERY, NULL), 1); /* one name, asked for once */
	ask(d, 9, "slow.example", DNS_TYPE_A);
	assert_true(worker_fixture_until(d->f, counted_failed));
}

/* --- TCP --- */

static int tcp_client, tcp_resolver, tcp_upstream = -1;
static uint8_t stream[4096];
static size_t stream_len, stream_want;

static bool tcp_got(struct worker_fixture *f)
{
	(void)f;
	broker(fixture);
	ssize_t n = recv(tcp_client, stream + stream_len, sizeof(stream) - stream_len, 0);
	stream_len += n > 0 ? (size_t)n : 0;
	return stream_len >= stream_want;
}

static bool tcp_upstream_got(struct worker_fixture *f)
{
	(void)f;
	broker(fixture);
	if (tcp_upstream < 0)
		tcp_upstream = accept4(tcp_resolver, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (tcp_upstream < 0)
		return false;
	ssize_t n = recv(tcp_upstream, stream + stream_len, sizeof(stream) - stream_len, 0);
	stream_len += n > 0 ? (size_t)n : 0;
	return stream_len >= stream_want;
}

static void tcp_send(uint16_t id, const char *name)
{
	uint8_t m[512];
	size_t len = query_make(m + 2, id, name, DNS_TYPE_A);
	m[0] = 0;
	m[1] = (uint8_t)len;
	assert_int_equal(send(tcp_client, m, len + 2, 0), len + 2);
	stream_want = len + 2;
}

static void test_dns_tcp_answers_and_forwards_on_one_connection(void **state)
{
	struct dns_fixture *d = *state;
	struct sockaddr_storage ss;
	tcp_resolver = bound(d->addr, SOCK_STREAM, 53);
	assert_int_equal(listen(tcp_resolver, 8), 0);
	tcp_client = bound(d->addr, SOCK_STREAM, 0);
	socklen_t len = sockaddr_of(d->addr, d->tcp_port, &ss);
	assert_true(connect(tcp_client, (struct sockaddr *)&ss, len) == 0 || errno == EINPROGRESS);
	worker_fixture_run(d->f);

	tcp_send(1, "catalog.shop");
	assert_true(worker_fixture_until(d->f, was_asked));
	name_is(d, "catalog.shop", true, "10.96.0.5");
	stream_len = 0;
	stream_want = 2 + 30 + 16;
	assert_true(worker_fixture_until(d->f, tcp_got));
	assert_int_equal(stream[1], stream_len - 2);
	assert_memory_equal(stream + stream_len - 4, "\x0a\x60\x00\x05", 4);

	worker_fixture_forget(d->f);
	d->given = 0;
	tcp_send(2, "example.org");
	assert_true(worker_fixture_until(d->f, was_asked));
	name_is(d, "example.org", false, NULL);
	stream_len = 0;
	assert_true(worker_fixture_until(d->f, tcp_upstream_got));
	assert_int_equal(stream[3], 2);
	stream[4] |= 0x80;
	assert_int_equal(send(tcp_upstream, stream, stream_len, 0), stream_len);
	stream_want = stream_len;
	stream_len = 0;
	assert_true(worker_fixture_until(d->f, tcp_got));
	assert_int_equal(stream[3], 2);
	assert_int_equal(d->f->shard.dns_answered, 1);
	assert_int_equal(d->f->shard.dns_forwarded, 1);
	close(tcp_client);
	close(tcp_resolver);
	fd_closep(&tcp_upstream);
}

#define T(name)                                                                                                        \
	cmocka_unit_test_setup_teardown(name, setup, teardown),                                                        \
	{                                                                                                              \
		#name " v6", name, setup_v6, teardown, NULL                                                            \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_dns_owned_name_is_answered),
		T(test_dns_other_name_is_forwarded_untouched),
		T(test_dns_resolver_absent_fails_at_once),
		T(test_dns_flush_asks_again),
		cmocka_unit_test_setup_teardown(test_dns_alone_forwards_what_it_does_not_know, setup, teardown),
		T(test_dns_malformed_is_refused_and_counted),
		T(test_dns_queries_under_way_are_bounded),
		T(test_dns_tcp_answers_and_forwards_on_one_connection),
	};
	if (geteuid() != 0) {
		print_message("[  SKIPPED ] it makes a network namespace: run the unit tests as root\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, namespace_make, NULL);
}
