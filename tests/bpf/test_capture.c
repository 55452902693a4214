// SPDX-License-Identifier: Apache-2.0
/* TCP between pods of one node and to the helper: which way a connection goes, who may connect, and which addresses
 * both ends see. */
#include "tests/bpf/mesh.h"

#include "agent/base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mesh mesh, *m = &mesh;

static int on_setup(void **state)
{
	(void)state;
	mesh_up(m);
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	mesh_down(m);
	return 0;
}

static void apply(void)
{
	struct err err = ERR_INIT;

	if (mesh_apply(m, &err) < 0)
		fail_msg("%s", err.text);
	if (m->failed)
		fail_msg("%s", m->failure);
}

static struct policy *strict(void)
{
	struct policy *p = policy_new();

	p->id = 77;
	p->mtls = MTLS_STRICT;
	return p;
}

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
	m->pods[1].policy = strict();
	mesh_service(m, "s", "10.99.0.1 fd99::1", 80, IPPROTO_TCP, "$b4:8080 [$b6]:8080", LB_ROUND_ROBIN);
	apply();
	assert_int_equal(m->added, 4);
	check_attested(AF_INET, "10.99.0.1:80", "$b4:8080", "$a4:*");
	mesh_poll(m);
	assert_int_equal(m->flows[0].path, FLOW_ATTESTED);
}

static void test_connect_vip_v6_attested(void **state)
{
	(void)state;
	m->pods[1].policy = strict();
	mesh_service(m, "s", "10.99.0.1 fd99::1", 80, IPPROTO_TCP, "$b4:8080 [$b6]:8080", LB_ROUND_ROBIN);
	apply();
	check_attested(AF_INET6, "[fd99::1]:80", "[$b6]:8080", "[$a6]:*");
}

static void test_connect_vip_v4_mapped_attested(void **state)
{
	(void)state;
	m->pods[1].policy = strict();
	mesh_service(m, "s", "10.99.0.1 fd99::1", 80, IPPROTO_TCP, "$b4:8080 [$b6]:8080", LB_ROUND_ROBIN);
	apply();
	check_attested(AF_INET6, "10.99.0.1:80", "$b4:8080", "$a4:*");
}

static void test_connect_pod_address_attested(void **state)
{
	(void)state;
	m->pods[1].policy = strict();
	apply();
	check_attested(AF_INET, mesh_text(m, "$b4:8080"), "$b4:8080", "$a4:*");
}

static void test_connect_self_passes_own_policy(void **state)
{
	(void)state;
	m->pods[1].policy = strict();
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	apply();
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
	m->pods[0].policy = strict();
	m->plain_b = true;
	apply();
	int listener = mesh_listen(&m->pods[0], SOCK_STREAM, mesh_text(m, "$a4:8080"));

	assert_int_equal(mesh_connect(&m->pods[1], AF_INET, mesh_text(m, "$a4:8080")), -ECONNREFUSED);
	assert_false(mesh_is_pending(listener));
	assert_true(mesh_drops(m, DROP_MTLS_REQUIRED) >= 1);
	mesh_poll(m);
	assert_int_equal(m->flows[0].kind, FLOW_REFUSED);
	assert_int_equal(m->flows[0].reason, DROP_MTLS_REQUIRED);
	close(listener);
}

static struct policy *allow_only(const char *principal)
{
	struct policy *p = policy_new();

	p->id = 78;
	p->has_allow = true;
	p->rules = calloc(1, sizeof(*p->rules));
	p->rule_count = 1;
	p->rules[0] =
		(struct policy_rule){ .action = POLICY_ALLOW, .name = strdup("t/allow"), .origin = strdup("x.yaml:1") };
	p->rules[0].matches = calloc(1, sizeof(struct policy_match));
	p->rules[0].match_count = 1;
	struct match_strings *s = &p->rules[0].matches[0].principals;

	s->v = calloc(1, sizeof(*s->v));
	s->n = 1;
	match_string_init(&s->v[0], principal);
	return p;
}

static void test_connect_allowed_principal_passes_other_refused(void **state)
{
	(void)state;
	m->pods[1].policy = allow_only("cluster.local/ns/t/sa/a");
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	apply();
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
	apply();
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
	m->pods[1].policy = strict();
	apply();
	int client = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:15008"));

	assert_true(client >= 0);
	int server = mesh_accept(m->pods[1].fds[POD_LISTEN_HBONE], &peer);

	assert_true(server >= 0);
	mesh_local(server, &a);
	assert_addr(a, mesh_text(m, "$b4:15008"));
	close(server);
	close(client);
}

static void check_captured(int family, const char *vip, const char *endpoint, const char *source)
{
	int client = mesh_connect(&m->pods[0], family, vip);
	struct addr_port peer, a;

	assert_true(client >= 0);
	int server = mesh_accept(m->pods[0].fds[POD_LISTEN_OUTBOUND], &peer);

	assert_true(server >= 0);
	assert_addr(peer, vip);
	mesh_peer(server, &a);
	assert_addr(a, vip);
	mesh_local(server, &a);
	assert_addr(a, mesh_text(m, endpoint));
	mesh_peer(client, &a);
	assert_addr(a, vip);
	mesh_local(client, &a);
	assert_addr(a, mesh_text(m, source));
	close(server);
	close(client);
}

static void test_connect_remote_hbone_captured(void **state)
{
	(void)state;
	m->remote_b = true;
	mesh_service(m, "s", "10.99.0.1 fd99::1", 80, IPPROTO_TCP, "$b4:8080 [$b6]:8080", LB_ROUND_ROBIN);
	apply();
	check_captured(AF_INET, "10.99.0.1:80", "$b4:8080", "$a4:*");
	check_captured(AF_INET6, "10.99.0.1:80", "$b4:8080", "$a4:*");
	check_captured(AF_INET6, "[fd99::1]:80", "[$b6]:8080", "[$a6]:*");
	mesh_poll(m);
	assert_int_equal(m->flows[0].path, FLOW_HBONE);
	assert_true(m->flows[0].source_side);
}

static void test_connect_same_node_mtls_captured(void **state)
{
	(void)state;
	m->same_node = SAME_NODE_MTLS;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	apply();
	check_captured(AF_INET, "10.99.0.1:80", "$b4:8080", "$a4:*");
}

static void test_connect_without_listener_not_ready(void **state)
{
	(void)state;
	m->remote_b = m->no_listeners = true;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	apply();
	assert_true(mesh_connect(&m->pods[0], AF_INET, "10.99.0.1:80") < 0);
	assert_int_equal(mesh_drops(m, DROP_NOT_READY), 1);
}

static void test_connect_service_without_endpoint_refused(void **state)
{
	(void)state;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "", LB_ROUND_ROBIN);
	apply();
	assert_true(mesh_connect(&m->pods[0], AF_INET, "10.99.0.1:80") < 0);
	assert_int_equal(mesh_drops(m, DROP_NO_ENDPOINT), 1);
}

static void test_connect_registry_only_unknown_refused(void **state)
{
	(void)state;
	m->outbound = OUTBOUND_REGISTRY_ONLY;
	m->plain_b = true;
	apply();
	assert_int_equal(mesh_connect(&m->pods[0], AF_INET, "10.98.0.1:80"), -EPERM);
	assert_int_equal(mesh_drops(m, DROP_NOT_IN_REGISTRY), 1);
}

/* The helper's connection to the application: the application sees the true caller. */
static void check_local(const char *to, const char *peer_text)
{
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, to));
	struct err err = ERR_INIT;
	int fd = kernel_pod_socket(m->kernel, m->pods[1].pod, POD_CONNECT_LOCAL, &err);
	struct sockaddr_in6 sa;
	struct addr_port peer, a;

	assert_true(fd >= 0);
	assert_int_equal(addr_port_parse(peer_text, &peer), 0);
	addr_to_sockaddr6(&peer, &sa);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(mesh_connect_fd(fd, AF_INET6, mesh_text(m, to)), 0);
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
	m->pods[1].policy = strict();
	apply();
	check_local("$b4:8080", "10.77.3.4:5555");
	check_local("$b4:8080", "10.77.3.4:443"); /* a low port needs no privilege */
	check_local("[$b6]:8080", "[fd77::5]:5556");
}

static void test_connect_loopback_untouched(void **state)
{
	struct addr_port a;

	(void)state;
	m->pods[0].policy = strict();
	apply();
	int listener = mesh_listen(&m->pods[0], SOCK_STREAM, "127.0.0.1:8080");
	int client = mesh_connect(&m->pods[0], AF_INET, "127.0.0.1:8080");

	assert_true(client >= 0);
	mesh_peer(client, &a);
	assert_addr(a, "127.0.0.1:8080");
	close(client);
	close(listener);
}

#define T(f) cmocka_unit_test_setup_teardown(f, on_setup, on_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_connect_vip_v4_attested),
		T(test_connect_vip_v6_attested),
		T(test_connect_vip_v4_mapped_attested),
		T(test_connect_pod_address_attested),
		T(test_connect_self_passes_own_policy),
		T(test_connect_unenrolled_strict_refused),
		T(test_connect_allowed_principal_passes_other_refused),
		T(test_connect_to_mesh_port_refused),
		T(test_hbone_port_steered_to_listener),
		T(test_connect_remote_hbone_captured),
		T(test_connect_same_node_mtls_captured),
		T(test_connect_without_listener_not_ready),
		T(test_connect_service_without_endpoint_refused),
		T(test_connect_registry_only_unknown_refused),
		T(test_connect_local_shows_true_peer),
		T(test_connect_loopback_untouched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
