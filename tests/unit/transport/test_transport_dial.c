/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of either family reach an IPv4 address; from another one, where that is asked for. */
#include "agent/helper/transport_dial.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int listen_on(const char *text, struct addr_port *out)
{
	struct addr_port at = { 0 };
	struct sockaddr_storage sa;
	assert_int_equal(addr_parse(text, &at.addr), 0);
	socklen_t len = addr_to_sockaddr(&at, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	len = sizeof(sa);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&sa, out), 0);
	return fd;
}

/* Who the listener sees. */
static struct addr_port dial(int domain, const struct addr_port *from)
{
	struct sockaddr_storage sa;
	struct addr_port to, peer;
	socklen_t len = sizeof(sa);
	int listener = listen_on("127.0.0.1", &to);
	int fd = socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(transport_dial(fd, from, &to, true), 0);
	int accepted = accept(listener, (struct sockaddr *)&sa, &len);
	assert_true(accepted >= 0);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&sa, &peer), 0);
	close(accepted);
	close(fd);
	close(listener);
	return peer;
}

static void test_dial_by_sockets_of_either_family_connects(void **state)
{
	(void)state;
	dial(AF_INET6, NULL);
	dial(AF_INET, NULL);
}

static void test_dial_from_an_address_is_seen_from_there(void **state)
{
	const int domains[] = { AF_INET6, AF_INET };
	struct addr_port from = { 0 };
	(void)state;
	assert_int_equal(addr_parse("127.0.0.5", &from.addr), 0);
	for (size_t i = 0; i < 2; i++) {
		struct addr_port peer = dial(domains[i], &from);
		assert_true(addr_eq(&peer.addr, &from.addr));
	}
}

static void test_dial_to_nobody_fails(void **state)
{
	struct addr_port to;
	(void)state;
	close(listen_on("127.0.0.1", &to));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(transport_dial(fd, NULL, &to, true), -ECONNREFUSED);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dial_by_sockets_of_either_family_connects),
		cmocka_unit_test(test_dial_from_an_address_is_seen_from_there),
		cmocka_unit_test(test_dial_to_nobody_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
