// SPDX-License-Identifier: Apache-2.0
/* Connections that the helper must see because of what is said on them: callers of services that speak HTTP, inbound
 * connections of pods with HTTP rules, and the helper's own calls on behalf of a pod. */
#include "tests/bpf/mesh.h"

#include "agent/base/err.h"
#include "agent/model/l7.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mesh *const m = &mesh_shared;

static void service_l7(const char *vips, const char *endpoints)
{
	mesh_service(m, "s", vips, 80, IPPROTO_TCP, endpoints, LB_ROUND_ROBIN)->ports[0].l7 = L7_HTTP;
}

static void test_outbound_http_service_captured(void **state)
{
	(void)state;
	service_l7("10.99.0.1 fd99::1", "$b4:8080 [$b6]:8080");
	mesh_must_apply(m);
	mesh_assert_captured(m, AF_INET, "10.99.0.1:80", NULL, "$a4:*");
	mesh_assert_captured(m, AF_INET6, "10.99.0.1:80", NULL, "$a4:*");
	mesh_assert_captured(m, AF_INET6, "[fd99::1]:80", NULL, "[$a6]:*");
	mesh_poll(m);
	assert_int_equal(m->flows[0].path, FLOW_HTTP);
	assert_true(m->flows[0].source_side);
	assert_addr(m->flows[0].destination, "10.99.0.1:80");
}

static void test_outbound_headless_http_service_captured(void **state)
{
	(void)state;
	struct service *s = mesh_service(m, "s", "", 80, IPPROTO_TCP, "$b4:8080 [$b6]:8080", LB_ROUND_ROBIN);

	s->kind = SERVICE_HEADLESS;
	s->by_endpoint = true;
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));
	int client = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:8080"));

	assert_true(client >= 0); /* it is not HTTP yet */
	assert_true(mesh_is_pending(listener));
	close(client);
	close(listener);

	s = mesh_service(m, "h", "", 80, IPPROTO_TCP, "$b4:8080 [$b6]:8080", LB_ROUND_ROBIN);
	s->kind = SERVICE_HEADLESS;
	s->by_endpoint = true;
	s->ports[0].l7 = L7_HTTP;
	mesh_must_apply(m);
	mesh_assert_captured(m, AF_INET, mesh_text(m, "$b4:8080"), NULL, "$a4:*");
	mesh_assert_captured(m, AF_INET6, mesh_text(m, "$b4:8080"), NULL, "$a4:*");
	mesh_assert_captured(m, AF_INET6, mesh_text(m, "[$b6]:8080"), NULL, "[$a6]:*");
	mesh_poll(m);
	bool seen = false;
	for (size_t i = 0; i < m->flow_count; i++)
		seen |= m->flows[i].path == FLOW_HTTP && m->flows[i].service == s->id;
	assert_true(seen);
	/* Neither the service's own port nor others of the pod. */
	listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:80"));
	client = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:80"));
	assert_true(client >= 0);
	assert_true(mesh_is_pending(listener));
	close(client);
	close(listener);
}

/* The helper listens at every address that nothing else is known of; a pod's own is its own. */
static void test_outbound_any_address_captured_but_pods(void **state)
{
	(void)state;
	struct service *quiet = mesh_service(m, "a", "::/0", 80, IPPROTO_TCP, "", LB_PASSTHROUGH);
	struct service *heard = mesh_service(m, "b", "::/0", 80, IPPROTO_TCP, "", LB_PASSTHROUGH);

	quiet->any_address = heard->any_address = true;
	heard->ports[0].l7 = L7_HTTP;
	mesh_must_apply(m);
	mesh_assert_captured(m, AF_INET, "203.0.113.1:80", NULL, "$a4:*");
	mesh_assert_captured(m, AF_INET6, "203.0.113.1:80", NULL, "$a4:*");
	mesh_assert_captured(m, AF_INET6, "[2001:db8::1]:80", NULL, "[$a6]:*");
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:80"));
	int client = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:80"));

	assert_true(client >= 0);
	assert_true(mesh_is_pending(listener));
	close(client);
	close(listener);
	mesh_poll(m);
	for (size_t i = 0; i < m->flow_count; i++)
		if (m->flows[i].path == FLOW_HTTP)
			assert_int_equal(m->flows[i].service, 0); /* whose it is the helper finds out */
}

/* A route may answer by itself. */
static void test_outbound_http_service_without_endpoint_captured(void **state)
{
	(void)state;
	service_l7("10.99.0.1", "");
	mesh_must_apply(m);
	mesh_assert_captured(m, AF_INET, "10.99.0.1:80", NULL, "$a4:*");
}

static void test_outbound_http_service_without_listener_refused(void **state)
{
	(void)state;
	m->no_listeners = true;
	service_l7("10.99.0.1", "$b4:8080");
	mesh_must_apply(m);
	assert_true(mesh_connect(&m->pods[0], AF_INET, "10.99.0.1:80") < 0);
	assert_int_equal(mesh_drops(m, DROP_NOT_READY), 1);
}

static const struct inbound_port http_8080[] = { { .port = 7000, .app = APP_TCP }, { .port = 8080, .app = APP_HTTP } };

static void pod_b_has_rules(bool others)
{
	m->pods[1].l7_ports = http_8080;
	m->pods[1].l7_port_count = 2;
	m->pods[1].l7_other_ports = others;
}

/* Whether a call arrives at this listener of b, both ends' addresses untouched. */
static void check_inbound(const struct mesh_pod *from, int family, const char *to, enum pod_socket kind)
{
	int client = mesh_connect(from, family, mesh_text(m, to));
	struct addr_port peer, a, own;

	assert_true(client >= 0);
	int server = mesh_accept(m->pods[1].fds[kind], &peer);

	assert_true(server >= 0);
	mesh_local(client, &own);
	assert_int_equal(own.port, peer.port);
	assert_true(addr_eq(&own.addr, &peer.addr));
	mesh_local(server, &a);
	assert_addr(a, mesh_text(m, to));
	close(server);
	close(client);
}

static void test_inbound_attested_goes_to_helper(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	pod_b_has_rules(false);
	mesh_must_apply(m);
	check_inbound(&m->pods[0], AF_INET, "$b4:8080", POD_LISTEN_ATTESTED);
	check_inbound(&m->pods[0], AF_INET6, "$b4:8080", POD_LISTEN_ATTESTED);
	check_inbound(&m->pods[0], AF_INET6, "[$b6]:8080", POD_LISTEN_ATTESTED);
}

static void test_inbound_declared_tcp_goes_to_application(void **state)
{
	(void)state;
	pod_b_has_rules(true);
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:7000"));
	int client = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:7000"));

	assert_true(client >= 0);
	assert_true(mesh_is_pending(listener));
	close(client);
	close(listener);
	check_inbound(&m->pods[0], AF_INET, "$b4:9999", POD_LISTEN_ATTESTED); /* nobody declared it */
}

static void test_inbound_rules_change_while_in_force(void **state)
{
	(void)state;
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));
	int client = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:8080"));

	assert_true(client >= 0);
	assert_true(mesh_is_pending(listener));
	close(client);
	pod_b_has_rules(false);
	mesh_must_apply(m);
	check_inbound(&m->pods[0], AF_INET, "$b4:8080", POD_LISTEN_ATTESTED);
	close(listener);
}

/* What the helper opens for a pod is that pod's call: under STRICT only an attested one arrives. */
static void check_for_pod(const char *to)
{
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, to));
	struct err err = ERR_INIT;
	int fd = kernel_pod_socket(m->kernel, m->pods[0].pod, POD_CONNECT_REMOTE, &err);
	struct addr_port peer, own;

	assert_true(fd >= 0);
	assert_int_equal(mesh_connect_fd(fd, AF_INET6, mesh_text(m, to)), 0);
	int server = mesh_accept(listener, &peer);

	assert_true(server >= 0);
	mesh_local(fd, &own);
	assert_int_equal(own.port, peer.port);
	close(server);
	close(fd);
	close(listener);
}

static void test_helper_calls_for_pod_attested(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_must_apply(m);
	check_for_pod("$b4:8080");
	check_for_pod("[$b6]:8080");
	mesh_poll(m);
	size_t seen = 0;
	for (size_t i = 0; i < m->flow_count; i++) {
		if (m->flows[i].kind != FLOW_OPENED)
			continue;
		assert_false(m->flows[i].source_side); /* its request is what is counted there */
		assert_int_equal(m->flows[i].path, FLOW_ATTESTED);
		assert_int_equal(m->flows[i].source_identity, m->pods[0].pod->workload->identity->id);
		seen++;
	}
	assert_int_equal(seen, 2);
}

static void test_explain_http_paths(void **state)
{
	(void)state;
	struct addr_port vip, source;
	struct explain_outbound out;
	struct explain_inbound in;
	struct err err = ERR_INIT;

	service_l7("10.99.0.1", "$b4:8080");
	pod_b_has_rules(false);
	mesh_must_apply(m);
	addr_port_parse("10.99.0.1:80", &vip);
	assert_int_equal(kernel_explain_outbound(m->kernel, m->pods[0].pod, &vip, IPPROTO_TCP, &out, &err), 0);
	assert_int_equal(out.path, PATH_HELPER_L7);
	addr_port_parse(mesh_text(m, "$a4:1"), &source);
	assert_int_equal(kernel_explain_inbound(m->kernel, m->pods[1].pod, m->pods[0].pod->workload->identity->id,
						&source.addr, 8080, IPPROTO_TCP, &in, &err),
			 0);
	assert_int_equal(in.reason, DROP_NONE);
	assert_true(in.to_helper);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MESH_TEST(test_outbound_http_service_captured),
		MESH_TEST(test_outbound_any_address_captured_but_pods),
		MESH_TEST(test_outbound_headless_http_service_captured),
		MESH_TEST(test_outbound_http_service_without_endpoint_captured),
		MESH_TEST(test_outbound_http_service_without_listener_refused),
		MESH_TEST(test_inbound_attested_goes_to_helper),
		MESH_TEST(test_inbound_declared_tcp_goes_to_application),
		MESH_TEST(test_inbound_rules_change_while_in_force),
		MESH_TEST(test_helper_calls_for_pod_attested),
		MESH_TEST(test_explain_http_paths),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
