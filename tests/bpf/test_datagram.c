// SPDX-License-Identifier: Apache-2.0
/* UDP through a VIP, connected and not, and both ends of DNS capture. */
#include "tests/bpf/mesh.h"

#include "agent/base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mesh *const m = &mesh_shared;

static int send_to(int fd, int family, const char *to)
{
	struct sockaddr_storage sa;
	struct sockaddr_in6 sa6;
	struct addr_port a;

	assert_int_equal(addr_port_parse(to, &a), 0);
	socklen_t len = addr_to_sockaddr(&a, &sa);

	if (family == AF_INET6) {
		addr_to_sockaddr6(&a, &sa6);
		memcpy(&sa, &sa6, sizeof(sa6));
		len = sizeof(sa6);
	}
	return sendto(fd, "x", 1, 0, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

static bool receive(int fd, struct addr_port *from)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char c;

	if (poll(&p, 1, 30000) <= 0 || recvfrom(fd, &c, 1, 0, (struct sockaddr *)&sa, &len) < 0)
		return false;
	return addr_from_sockaddr((struct sockaddr *)&sa, from) == 0;
}

static void reply(int fd, const struct addr_port *to)
{
	char text[ADDR_PORT_TEXT_MAX];

	assert_int_equal(send_to(fd, AF_INET, addr_port_text(to, text)), 0);
}

static void check_unconnected(int family, const char *vip, const char *listen, const char *source)
{
	int server = mesh_listen(&m->pods[1], SOCK_DGRAM, mesh_text(m, listen));
	int client = mesh_socket(&m->pods[0], family, SOCK_DGRAM);
	struct addr_port from;

	assert_int_equal(send_to(client, family, vip), 0);
	assert_true(receive(server, &from));
	assert_addr(from, mesh_text(m, source));
	reply(server, &from);
	assert_true(receive(client, &from));
	assert_addr(from, vip);
	close(client);
	close(server);
}

static void test_sendto_vip_answers_from_vip(void **state)
{
	(void)state;
	m->pods[0].policy = mesh_policy_strict(); /* answers pass it */
	mesh_service(m, "s", "10.99.0.1 fd99::1", 53053, IPPROTO_UDP, "$b4:5000 [$b6]:5000", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	check_unconnected(AF_INET, "10.99.0.1:53053", "$b4:5000", "$a4:*");
	check_unconnected(AF_INET6, "10.99.0.1:53053", "$b4:5000", "$a4:*");
	check_unconnected(AF_INET6, "[fd99::1]:53053", "[$b6]:5000", "[$a6]:*");
	mesh_poll(m);
	assert_int_equal(m->flow_count, 3);
	assert_int_equal(m->flows[0].proto, IPPROTO_UDP);
}

static void test_sendto_vip_keeps_endpoint(void **state)
{
	struct addr_port from;

	(void)state;
	mesh_service(m, "s", "10.99.0.1", 53053, IPPROTO_UDP, "$b4:5000 $c4:5000", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	int b = mesh_listen(&m->pods[1], SOCK_DGRAM, mesh_text(m, "$b4:5000"));
	int c = mesh_listen(&m->pods[2], SOCK_DGRAM, mesh_text(m, "$c4:5000"));
	int client = mesh_socket(&m->pods[0], AF_INET, SOCK_DGRAM);

	for (int i = 0; i < 4; i++)
		assert_int_equal(send_to(client, AF_INET, "10.99.0.1:53053"), 0);
	int used = mesh_is_pending(b) ? b : c, other = used == b ? c : b;

	for (int i = 0; i < 4; i++)
		assert_true(receive(used, &from));
	assert_false(mesh_is_pending(other));
	close(client);
	close(b);
	close(c);
}

static void check_connected(int family, const char *vip, const char *listen)
{
	int server = mesh_listen(&m->pods[1], SOCK_DGRAM, mesh_text(m, listen));
	int client = mesh_socket(&m->pods[0], family, SOCK_DGRAM);
	struct addr_port from, a;

	assert_int_equal(mesh_connect_fd(client, family, vip), 0);
	mesh_peer(client, &a);
	assert_addr(a, vip);
	assert_int_equal(send(client, "x", 1, 0), 1);
	assert_true(receive(server, &from));
	reply(server, &from);
	assert_true(receive(client, &from));
	assert_addr(from, vip);
	close(client);
	close(server);
}

static void test_connected_vip_answers_from_vip(void **state)
{
	(void)state;
	m->pods[0].policy = mesh_policy_strict();
	mesh_service(m, "s", "10.99.0.1 fd99::1", 53053, IPPROTO_UDP, "$b4:5000 [$b6]:5000", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	check_connected(AF_INET, "10.99.0.1:53053", "$b4:5000");
	check_connected(AF_INET6, "10.99.0.1:53053", "$b4:5000");
	check_connected(AF_INET6, "[fd99::1]:53053", "[$b6]:5000");
}

static void test_sendto_strict_refused(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_must_apply(m);
	int server = mesh_listen(&m->pods[1], SOCK_DGRAM, mesh_text(m, "$b4:5000"));
	int client = mesh_socket(&m->pods[0], AF_INET, SOCK_DGRAM);

	assert_int_equal(send_to(client, AF_INET, mesh_text(m, "$b4:5000")), 0);
	assert_false(mesh_is_pending(server));
	assert_int_equal(mesh_drops(m, DROP_MTLS_REQUIRED), 1);
	close(client);
	close(server);
}

/* A server answers to whom the policy let in; under a new policy that must not count as a question of its own. */
static void test_answer_of_server_opens_nothing_under_new_policy(void **state)
{
	struct addr_port from;

	(void)state;
	mesh_must_apply(m);
	int server = mesh_listen(&m->pods[1], SOCK_DGRAM, mesh_text(m, "$b4:5000"));
	int client = mesh_socket(&m->pods[0], AF_INET, SOCK_DGRAM);

	assert_int_equal(send_to(client, AF_INET, mesh_text(m, "$b4:5000")), 0);
	assert_true(receive(server, &from));
	reply(server, &from);
	assert_true(receive(client, &from));
	m->pods[1].policy = mesh_policy_strict();
	mesh_must_apply(m);
	assert_int_equal(send_to(client, AF_INET, mesh_text(m, "$b4:5000")), 0);
	assert_false(mesh_is_pending(server));
	assert_int_equal(mesh_drops(m, DROP_MTLS_REQUIRED), 1);
	close(client);
	close(server);
}

static void test_sendto_registry_only_unknown_refused(void **state)
{
	(void)state;
	m->outbound = OUTBOUND_REGISTRY_ONLY;
	mesh_must_apply(m);
	int client = mesh_socket(&m->pods[0], AF_INET, SOCK_DGRAM);

	assert_int_equal(send_to(client, AF_INET, "10.98.0.1:1234"), -EPERM);
	close(client);
}

static void check_dns(int family, const char *resolver, bool connected)
{
	int client = mesh_socket(&m->pods[0], family, SOCK_DGRAM);
	int helper = m->pods[0].fds[POD_DNS_UDP];
	struct addr_port from, local, expected;
	char text[ADDR_PORT_TEXT_MAX];

	if (connected) {
		assert_int_equal(mesh_connect_fd(client, family, resolver), 0);
		assert_int_equal(send(client, "x", 1, 0), 1);
	} else {
		assert_int_equal(send_to(client, family, resolver), 0);
	}
	assert_true(receive(helper, &from));
	mesh_local(client, &local);
	assert_int_equal(addr_port_parse(resolver, &expected), 0);
	expected.port = local.port;
	assert_addr(from, addr_port_text(&expected, text));
	assert_int_equal(send_to(helper, AF_INET6, addr_port_text(&from, text)), 0);
	assert_true(receive(client, &from));
	assert_addr(from, resolver);
	close(client);
}

static void test_dns_udp_captured(void **state)
{
	(void)state;
	m->pods[0].policy = mesh_policy_strict();
	mesh_must_apply(m);
	check_dns(AF_INET, "10.98.0.53:53", false);
	check_dns(AF_INET, "10.98.0.53:53", true);
	check_dns(AF_INET6, "10.98.0.53:53", false);
	check_dns(AF_INET6, "10.98.0.53:53", true);
	check_dns(AF_INET6, "[fd98::53]:53", false);
	check_dns(AF_INET6, "[fd98::53]:53", true);
}

static void test_dns_tcp_captured(void **state)
{
	struct addr_port peer;

	(void)state;
	mesh_must_apply(m);
	int client = mesh_connect(&m->pods[0], AF_INET, "10.98.0.53:53");

	assert_true(client >= 0);
	int server = mesh_accept(m->pods[0].fds[POD_DNS_TCP], &peer);

	assert_true(server >= 0);
	assert_addr(peer, "10.98.0.53:53");
	mesh_peer(client, &peer);
	assert_addr(peer, "10.98.0.53:53");
	close(server);
	close(client);
}

static void test_dns_loopback_resolver_untouched(void **state)
{
	struct addr_port from;

	(void)state;
	mesh_must_apply(m);
	int resolver = mesh_listen(&m->pods[0], SOCK_DGRAM, "127.0.0.53:53");
	int client = mesh_socket(&m->pods[0], AF_INET, SOCK_DGRAM);

	assert_int_equal(send_to(client, AF_INET, "127.0.0.53:53"), 0);
	assert_true(receive(resolver, &from));
	close(client);
	close(resolver);
}

static void test_udp_remote_socket_untouched(void **state)
{
	struct err err = ERR_INIT;
	struct addr_port from;

	(void)state;
	mesh_must_apply(m);
	int server = mesh_listen(&m->pods[1], SOCK_DGRAM, mesh_text(m, "$b4:53"));
	int fd = kernel_pod_socket(m->kernel, m->pods[0].pod, POD_UDP_REMOTE, &err);

	assert_true(fd >= 0);
	assert_int_equal(send_to(fd, AF_INET6, mesh_text(m, "$b4:53")), 0);
	assert_true(receive(server, &from));
	assert_addr(from, mesh_text(m, "$a4:*"));
	close(fd);
	close(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MESH_TEST(test_sendto_vip_answers_from_vip),
		MESH_TEST(test_sendto_vip_keeps_endpoint),
		MESH_TEST(test_connected_vip_answers_from_vip),
		MESH_TEST(test_sendto_strict_refused),
		MESH_TEST(test_answer_of_server_opens_nothing_under_new_policy),
		MESH_TEST(test_sendto_registry_only_unknown_refused),
		MESH_TEST(test_dns_udp_captured),
		MESH_TEST(test_dns_tcp_captured),
		MESH_TEST(test_dns_loopback_resolver_untouched),
		MESH_TEST(test_udp_remote_socket_untouched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
