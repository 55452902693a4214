// SPDX-License-Identifier: Apache-2.0
/* TCP between pods of one node and to the helper: which way a connection goes, who may connect, and which addresses
 * both ends see. */
#include "tests/bpf/mesh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mesh *const m = &mesh_shared;

/* a calls b through the VIP: attested, both see what they expect. */
static void check_attested(int family, const char *vip, const char *listen, const char *source)
{
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, listen));
	int client = mesh_connect(&m->pods[0], family, vip);
	struct addr_port peer, a;

	assert_true(client >= 0);
	int server = mesh_accept(listener, &peer);

	assert_true(server >= 0);
	mesh_local(client, &a);
	assert_true(addr_port_eq(&a, &peer));
	assert_addr(peer, mesh_text(m, source));
	mesh_peer(client, &a);
	assert_addr(a, vip);
	mesh_local(server, &a);
	assert_addr(a, mesh_text(m, listen));
	close(server);
	close(client);
	close(listener);
}

static void test_connect_vip_v4_attested(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_service(m, "s", "10.99.0.1 fd99::1", 80, IPPROTO_TCP, "$b4:8080 [$b6]:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	assert_int_equal(m->added, 4);
	check_attested(AF_INET, "10.99.0.1:80", "$b4:8080", "$a4:*");
	mesh_poll(m);
	assert_int_equal(m->flows[0].path, FLOW_ATTESTED);
}

static void test_connect_vip_v6_attested(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_service(m, "s", "10.99.0.1 fd99::1", 80, IPPROTO_TCP, "$b4:8080 [$b6]:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	check_attested(AF_INET6, "[fd99::1]:80", "[$b6]:8080", "[$a6]:*");
}

static void test_connect_vip_v4_mapped_attested(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_service(m, "s", "10.99.0.1 fd99::1", 80, IPPROTO_TCP, "$b4:8080 [$b6]:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	check_attested(AF_INET6, "10.99.0.1:80", "$b4:8080", "$a4:*");
}

static void test_connect_pod_address_attested(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_must_apply(m);
	check_attested(AF_INET, mesh_text(m, "$b4:8080"), "$b4:8080", "$a4:*");
}

static void test_connect_self_passes_own_policy(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));
	int client = mesh_connect(&m->pods[1], AF_INET, "10.99.0.1:80");

	assert_true(client >= 0);
	close(client);
	close(listener);
}

/* A caller that is not in the mesh has no entry, whatever its address. */
static void test_connect_unenrolled_strict_refused(void **state)
{
	(void)state;
	m->pods[0].policy = mesh_policy_strict();
	m->plain_b = true;
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[0], SOCK_STREAM, mesh_text(m, "$a4:8080"));

	assert_int_equal(mesh_connect(&m->pods[1], AF_INET, mesh_text(m, "$a4:8080")), -ECONNREFUSED);
	assert_false(mesh_is_pending(listener));
	assert_true(mesh_drops(m, DROP_MTLS_REQUIRED) >= 1);
	mesh_poll(m);
	assert_int_equal(m->flows[0].kind, FLOW_REFUSED);
	assert_int_equal(m->flows[0].reason, DROP_MTLS_REQUIRED);
	close(listener);
}

static void test_connect_allowed_principal_passes_other_refused(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_of(POLICY_ALLOW, "a");
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	check_attested(AF_INET, "10.99.0.1:80", "$b4:8080", "$a4:*");

	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));

	assert_int_equal(mesh_connect(&m->pods[2], AF_INET, "10.99.0.1:80"), -ECONNREFUSED);
	assert_int_equal(mesh_connect(&m->pods[2], AF_INET6, "10.99.0.1:80"), -ECONNREFUSED);
	assert_false(mesh_is_pending(listener));
	assert_true(mesh_drops(m, DROP_POLICY_NO_ALLOW) >= 2);
	close(listener);
}

/* The ports that the mesh itself listens on are bound to every address, and open to nobody outside. */
static void test_connect_to_mesh_port_refused(void **state)
{
	struct addr_port a;
	char text[64];

	(void)state;
	mesh_must_apply(m);
	mesh_local(m->pods[1].fds[POD_LISTEN_OUTBOUND], &a);
	snprintf(text, sizeof(text), "%.31s:%u", m->pods[1].v4, a.port);
	assert_int_equal(mesh_connect(&m->pods[0], AF_INET, text), -ECONNREFUSED);
	assert_int_equal(mesh_drops(m, DROP_RESERVED_PORT), 1);
	assert_int_equal(mesh_connect(&m->pods[1], AF_INET, text), -ECONNREFUSED); /* nor to the pod itself */
	assert_int_equal(mesh_drops(m, DROP_RESERVED_PORT), 2);
}

static void test_hbone_port_steered_to_listener(void **state)
{
	struct addr_port peer, a;

	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_must_apply(m);
	int client = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:15008"));

	assert_true(client >= 0);
	int server = mesh_accept(m->pods[1].fds[POD_LISTEN_HBONE], &peer);

	assert_true(server >= 0);
	mesh_local(server, &a);
	assert_addr(a, mesh_text(m, "$b4:15008"));
	close(server);
	close(client);
}

static void test_connect_remote_hbone_captured(void **state)
{
	(void)state;
	m->remote_b = true;
	mesh_service(m, "s", "10.99.0.1 fd99::1", 80, IPPROTO_TCP, "$b4:8080 [$b6]:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	mesh_assert_captured(m, AF_INET, "10.99.0.1:80", "$b4:8080", "$a4:*");
	mesh_assert_captured(m, AF_INET6, "10.99.0.1:80", "$b4:8080", "$a4:*");
	mesh_assert_captured(m, AF_INET6, "[fd99::1]:80", "[$b6]:8080", "[$a6]:*");
	mesh_poll(m);
	assert_int_equal(m->flows[0].path, FLOW_HBONE);
	assert_true(m->flows[0].source_side);
}

static void test_connect_same_node_mtls_captured(void **state)
{
	(void)state;
	m->same_node = SAME_NODE_MTLS;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	mesh_assert_captured(m, AF_INET, "10.99.0.1:80", "$b4:8080", "$a4:*");
}

static void test_connect_without_listener_not_ready(void **state)
{
	(void)state;
	m->remote_b = m->no_listeners = true;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	assert_true(mesh_connect(&m->pods[0], AF_INET, "10.99.0.1:80") < 0);
	assert_int_equal(mesh_drops(m, DROP_NOT_READY), 1);
}

static void test_connect_service_without_endpoint_refused(void **state)
{
	(void)state;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	assert_true(mesh_connect(&m->pods[0], AF_INET, "10.99.0.1:80") < 0);
	assert_int_equal(mesh_drops(m, DROP_NO_ENDPOINT), 1);
}

static void test_connect_registry_only_unknown_refused(void **state)
{
	(void)state;
	m->outbound = OUTBOUND_REGISTRY_ONLY;
	m->plain_b = true;
	mesh_must_apply(m);
	assert_int_equal(mesh_connect(&m->pods[0], AF_INET, "10.98.0.1:80"), -EPERM);
	assert_int_equal(mesh_drops(m, DROP_NOT_IN_REGISTRY), 1);
}

/* The helper's connection to the application: the application sees the true caller. */
static void check_local(const char *to, const char *peer_text)
{
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, to));
	int fd = mesh_connect_local(m, &m->pods[1], peer_text, mesh_text(m, to));
	struct addr_port a;
	int server = mesh_accept(listener, &a);

	assert_true(server >= 0);
	assert_addr(a, peer_text);
	mesh_peer(server, &a);
	assert_addr(a, peer_text);
	mesh_local(server, &a);
	assert_addr(a, mesh_text(m, to));
	close(server);
	close(fd);
	close(listener);
}

static void test_connect_local_shows_true_peer(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_must_apply(m);
	check_local("$b4:8080", "10.77.3.4:5555");
	check_local("$b4:8080", "10.77.3.4:443"); /* a low port needs no privilege */
	check_local("[$b6]:8080", "[fd77::5]:5556");
}

static void test_connect_loopback_untouched(void **state)
{
	struct addr_port a;

	(void)state;
	m->pods[0].policy = mesh_policy_strict();
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[0], SOCK_STREAM, "127.0.0.1:8080");
	int client = mesh_connect(&m->pods[0], AF_INET, "127.0.0.1:8080");

	assert_true(client >= 0);
	mesh_peer(client, &a);
	assert_addr(a, "127.0.0.1:8080");
	close(client);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MESH_TEST(test_connect_vip_v4_attested),
		MESH_TEST(test_connect_vip_v6_attested),
		MESH_TEST(test_connect_vip_v4_mapped_attested),
		MESH_TEST(test_connect_pod_address_attested),
		MESH_TEST(test_connect_self_passes_own_policy),
		MESH_TEST(test_connect_unenrolled_strict_refused),
		MESH_TEST(test_connect_allowed_principal_passes_other_refused),
		MESH_TEST(test_connect_to_mesh_port_refused),
		MESH_TEST(test_hbone_port_steered_to_listener),
		MESH_TEST(test_connect_remote_hbone_captured),
		MESH_TEST(test_connect_same_node_mtls_captured),
		MESH_TEST(test_connect_without_listener_not_ready),
		MESH_TEST(test_connect_service_without_endpoint_refused),
		MESH_TEST(test_connect_registry_only_unknown_refused),
		MESH_TEST(test_connect_local_shows_true_peer),
		MESH_TEST(test_connect_loopback_untouched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
