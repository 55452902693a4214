// SPDX-License-Identifier: Apache-2.0
/* Open connections under a changed policy: what it forbids ends, and nothing else does. */
#include "tests/bpf/mesh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/capability.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct mesh *const m = &mesh_shared;

struct pair {
	int listener, client, server;
};

static struct pair pair_open(const struct mesh_pod *from, int family, const struct mesh_pod *at, const char *to)
{
	struct pair p = { .listener = mesh_listen(at, SOCK_STREAM, mesh_text(m, to)) };

	p.client = mesh_connect(from, family, mesh_text(m, to));
	assert_true(p.client >= 0);
	p.server = mesh_accept(p.listener, NULL);
	assert_true(p.server >= 0);
	return p;
}

static void pair_close(struct pair *p)
{
	close(p->client);
	close(p->server);
	close(p->listener);
}

static bool is_open(const struct pair *p)
{
	char byte = 'x';

	if (send(p->client, &byte, 1, MSG_NOSIGNAL) != 1)
		return false;
	for (int i = 0; i < 3000; i++) {
		if (recv(p->server, &byte, 1, MSG_DONTWAIT) == 1)
			return true;
		if (errno != EAGAIN)
			return false;
		usleep(10000);
	}
	return false;
}

static uint64_t cut(enum drop_reason reason)
{
	struct recheck_counts counts;

	kernel_rechecks(m->kernel, &counts);
	assert_int_equal(counts.failed, 0);
	return counts.cut[reason];
}

static void wait_for_cuts(enum drop_reason reason, uint64_t n)
{
	for (int i = 0; i < 40 && cut(reason) < n; i++)
		mesh_poll(m);
	assert_int_equal(cut(reason), n);
}

/* Long enough for every look but those for slow handshakes. */
static void wait_for_looks(void)
{
	for (int i = 0; i < 6; i++)
		mesh_poll(m);
}

/* Both ends are told; the application's call fails instead of waiting. */
static void check_cut(const struct pair *p)
{
	char byte;

	assert_int_equal(recv(p->server, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNABORTED);
	assert_int_equal(recv(p->client, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
}

static void policy_set(struct mesh_pod *pod, struct policy *policy)
{
	policy_unref(pod->policy);
	pod->policy = policy;
}

/* Takes the capability away for a while, from this thread. */
static void net_admin(bool on)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	assert_int_equal(syscall(SYS_capget, &header, data), 0);
	if (on)
		data[0].effective |= 1u << CAP_NET_ADMIN;
	else
		data[0].effective &= ~(1u << CAP_NET_ADMIN);
	assert_int_equal(syscall(SYS_capset, &header, data), 0);
}

static void test_recheck_denied_caller_is_cut_others_live(void **state)
{
	static const struct {
		int family;
		const char *to;
	} ways[] = { { AF_INET, "$b4:8080" }, { AF_INET6, "$b4:8081" }, { AF_INET6, "[$b6]:8082" } };
	struct pair denied[3], allowed[3];

	(void)state;
	mesh_must_apply(m);
	for (int i = 0; i < 3; i++) {
		char other[64];

		denied[i] = pair_open(&m->pods[0], ways[i].family, &m->pods[1], ways[i].to);
		snprintf(other, sizeof(other), "%.*s9090", (int)strlen(ways[i].to) - 4, ways[i].to);
		other[strlen(other) - 1] = (char)('0' + i);
		allowed[i] = pair_open(&m->pods[2], ways[i].family, &m->pods[1], other);
	}
	policy_set(&m->pods[1], mesh_policy_of(POLICY_DENY, "a"));
	mesh_must_apply(m);
	wait_for_cuts(DROP_POLICY_DENY, 3);
	wait_for_looks();
	assert_int_equal(cut(DROP_POLICY_DENY), 3);
	for (int i = 0; i < 3; i++) {
		check_cut(&denied[i]);
		assert_true(is_open(&allowed[i]));
		pair_close(&denied[i]);
		pair_close(&allowed[i]);
	}
}

static void test_recheck_cut_is_reported(void **state)
{
	size_t refused = 0, closed = 0;

	(void)state;
	mesh_must_apply(m);
	struct pair p = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8080");

	policy_set(&m->pods[1], mesh_policy_of(POLICY_DENY, "a"));
	mesh_must_apply(m);
	wait_for_cuts(DROP_POLICY_DENY, 1);
	mesh_poll(m);
	for (size_t i = 0; i < m->flow_count; i++) {
		const struct flow *f = &m->flows[i];

		closed += f->kind == FLOW_CLOSED && !f->source_side;
		if (f->kind != FLOW_REFUSED)
			continue;
		refused++;
		assert_int_equal(f->reason, DROP_POLICY_DENY);
		assert_int_equal(f->rule, 0);
		assert_int_equal(f->policy_id, m->pods[1].policy->id);
		assert_int_equal(f->path, FLOW_ATTESTED);
		assert_int_equal(f->source_identity, 100);
		assert_int_equal(f->destination_identity, 101);
		assert_addr(f->source, mesh_text(m, "$a4:*"));
		assert_addr(f->destination, mesh_text(m, "$b4:8080"));
	}
	assert_int_equal(refused, 1);
	assert_int_equal(closed, 1);
	pair_close(&p);
}

/* b is not in the mesh: its call is anonymous, c's is attested. */
static void test_recheck_strict_cuts_anonymous(void **state)
{
	(void)state;
	m->plain_b = true;
	mesh_must_apply(m);
	struct pair plain = pair_open(&m->pods[1], AF_INET, &m->pods[0], "$a4:8080");
	struct pair plain6 = pair_open(&m->pods[1], AF_INET6, &m->pods[0], "[$a6]:8080");
	struct pair attested = pair_open(&m->pods[2], AF_INET, &m->pods[0], "$a4:8081");
	struct pair probe = pair_open(&m->pods[0], AF_INET, &m->pods[0], "$a4:8082"); /* the pod itself */

	policy_set(&m->pods[0], mesh_policy_strict());
	mesh_must_apply(m);
	wait_for_cuts(DROP_MTLS_REQUIRED, 2);
	wait_for_looks();
	check_cut(&plain);
	check_cut(&plain6);
	assert_true(is_open(&attested));
	assert_true(is_open(&probe));
	pair_close(&plain);
	pair_close(&plain6);
	pair_close(&attested);
	pair_close(&probe);
}

static void test_recheck_caller_that_no_rule_allows_is_cut(void **state)
{
	(void)state;
	policy_set(&m->pods[1], mesh_policy_of(POLICY_ALLOW, "a"));
	mesh_must_apply(m);
	struct pair p = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8080");

	policy_set(&m->pods[1], mesh_policy_of(POLICY_ALLOW, "c"));
	mesh_must_apply(m);
	wait_for_cuts(DROP_POLICY_NO_ALLOW, 1);
	check_cut(&p);
	pair_close(&p);
}

static void test_recheck_port_gets_http_rules(void **state)
{
	static const struct inbound_port http_8080[] = { { .port = 7000, .app = APP_TCP },
							 { .port = 8080, .app = APP_HTTP } };

	(void)state;
	mesh_must_apply(m);
	struct pair http = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8080");
	struct pair tcp = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:7000");

	m->pods[1].l7_ports = http_8080;
	m->pods[1].l7_port_count = 2;
	mesh_must_apply(m);
	wait_for_cuts(DROP_HTTP_RULES, 1);
	check_cut(&http);
	assert_true(is_open(&tcp));
	pair_close(&http);
	pair_close(&tcp);
}

static void test_recheck_request_under_way_is_answered_first(void **state)
{
	static const struct inbound_port http_8080[] = { { .port = 8080, .app = APP_HTTP } };
	char byte = 'x';

	(void)state;
	mesh_must_apply(m);
	struct pair p = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8080");

	assert_int_equal(send(p.client, &byte, 1, 0), 1);
	assert_int_equal(recv(p.server, &byte, 1, 0), 1);
	m->pods[1].l7_ports = http_8080;
	m->pods[1].l7_port_count = 1;
	mesh_must_apply(m);
	mesh_poll(m); /* a look, and far from the end of its grace */
	assert_int_equal(cut(DROP_HTTP_RULES), 0);
	assert_int_equal(send(p.server, &byte, 1, 0), 1);
	assert_int_equal(recv(p.client, &byte, 1, 0), 1);
	wait_for_cuts(DROP_HTTP_RULES, 1);
	check_cut(&p);
	pair_close(&p);
}

/* A connection that nobody has judged is nobody's to end. */
static void test_recheck_connection_older_than_enrolment_lives(void **state)
{
	(void)state;
	struct pair v4 = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8080");
	struct pair v6 = pair_open(&m->pods[0], AF_INET6, &m->pods[1], "[$b6]:8080");

	mesh_must_apply(m);
	struct pair judged = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8081");

	policy_set(&m->pods[1], mesh_policy_of(POLICY_DENY, "a"));
	mesh_must_apply(m);
	wait_for_cuts(DROP_POLICY_DENY, 1);
	wait_for_looks();
	check_cut(&judged);
	assert_true(is_open(&v4));
	assert_true(is_open(&v6));
	pair_close(&v4);
	pair_close(&v6);
	pair_close(&judged);
}

/* What the helper accepted, what it opened to the application for a caller that it has judged itself, and the pod's own
 * calls. */
static void test_recheck_helpers_and_callers_sockets_live(void **state)
{
	struct pair local = { .listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080")) };
	struct pair tunnel = { .listener = -1 };

	(void)state;
	mesh_must_apply(m);
	local.client = mesh_connect_local(m, &m->pods[1], "10.77.3.4:5555", mesh_text(m, "$b4:8080"));
	local.server = mesh_accept(local.listener, NULL);
	tunnel.client = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:15008"));
	assert_true(tunnel.client >= 0);
	tunnel.server = mesh_accept(m->pods[1].fds[POD_LISTEN_HBONE], NULL);
	struct pair judged = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8081");
	struct pair outbound = pair_open(&m->pods[1], AF_INET, &m->pods[2], "$c4:8080");

	struct policy *nobody = mesh_policy_of(POLICY_ALLOW, "nobody");
	nobody->mtls = MTLS_STRICT;
	policy_set(&m->pods[1], nobody);
	mesh_must_apply(m);
	wait_for_cuts(DROP_POLICY_NO_ALLOW, 1);
	wait_for_looks();
	assert_int_equal(cut(DROP_POLICY_NO_ALLOW), 1);
	assert_true(is_open(&local));
	assert_true(is_open(&tunnel));
	assert_true(is_open(&outbound));
	pair_close(&judged);
	pair_close(&outbound);
	pair_close(&local);
	pair_close(&tunnel);
}

/* What finds the table of connections full is noted in the sockets. */
static void test_recheck_full_table_cuts_all(void **state)
{
	enum { CONNECTIONS = 12 };
	int clients[CONNECTIONS], servers[CONNECTIONS];

	(void)state;
	kernel_close(m->kernel);
	assert_int_equal(kernel_cleanup(&m->options, NULL), 0);
	m->options.map_connections = 8;
	mesh_open(m);
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "[$b6]:8080"));

	for (int i = 0; i < CONNECTIONS; i++) {
		clients[i] = mesh_connect(&m->pods[0], AF_INET6, mesh_text(m, "[$b6]:8080"));
		servers[i] = mesh_accept(listener, NULL);
		assert_true(clients[i] >= 0 && servers[i] >= 0);
	}
	policy_set(&m->pods[1], mesh_policy_of(POLICY_DENY, "a"));
	mesh_must_apply(m);
	wait_for_cuts(DROP_POLICY_DENY, CONNECTIONS);
	for (int i = 0; i < CONNECTIONS; i++) {
		close(clients[i]);
		close(servers[i]);
	}
	close(listener);
}

/* More than one message of the kernel's list, and ends of sockets while it is read. */
static void test_recheck_many_connections_of_two_callers(void **state)
{
	enum { EACH = 150 };
	int fds[4 * EACH];
	size_t n = 0;

	(void)state;
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));

	for (int i = 0; i < 2 * EACH; i++) {
		fds[n++] = mesh_connect(&m->pods[i % 2 ? 2 : 0], AF_INET, mesh_text(m, "$b4:8080"));
		fds[n++] = mesh_accept(listener, NULL);
		assert_true(fds[n - 2] >= 0 && fds[n - 1] >= 0);
	}
	policy_set(&m->pods[1], mesh_policy_of(POLICY_DENY, "a"));
	mesh_must_apply(m);
	wait_for_cuts(DROP_POLICY_DENY, EACH);
	wait_for_looks();
	assert_int_equal(cut(DROP_POLICY_DENY), EACH);
	while (n > 0)
		close(fds[--n]);
	close(listener);
}

static void test_recheck_changed_while_no_agent_was_there(void **state)
{
	(void)state;
	mesh_must_apply(m);
	struct pair denied = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8080");
	struct pair allowed = pair_open(&m->pods[2], AF_INET, &m->pods[1], "$b4:8081");

	kernel_close(m->kernel);
	policy_set(&m->pods[1], mesh_policy_of(POLICY_DENY, "a"));
	mesh_open(m);
	mesh_must_apply(m);
	wait_for_cuts(DROP_POLICY_DENY, 1);
	wait_for_looks();
	check_cut(&denied);
	assert_true(is_open(&allowed));
	pair_close(&denied);
	pair_close(&allowed);
}

static void test_recheck_that_an_agent_owed_is_done_by_the_next(void **state)
{
	(void)state;
	mesh_must_apply(m);
	struct pair p = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8080");

	policy_set(&m->pods[1], mesh_policy_of(POLICY_DENY, "a"));
	mesh_must_apply(m);
	kernel_close(m->kernel); /* before its loop has come to it */
	mesh_open(m);
	mesh_must_apply(m);
	wait_for_cuts(DROP_POLICY_DENY, 1);
	check_cut(&p);
	pair_close(&p);
}

/* Without CAP_NET_ADMIN, as where the kernel can't: a connection that can't be ended is counted, and nothing breaks. */
static void test_recheck_connection_that_cannot_be_ended_is_counted(void **state)
{
	struct recheck_counts counts = { 0 };

	(void)state;
	mesh_must_apply(m);
	struct pair p = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8080");

	policy_set(&m->pods[1], mesh_policy_of(POLICY_DENY, "a"));
	mesh_must_apply(m);
	net_admin(false);
	for (int i = 0; i < 40 && !counts.failed; i++) {
		mesh_poll(m);
		kernel_rechecks(m->kernel, &counts);
	}
	net_admin(true);
	assert_true(counts.failed > 0);
	assert_int_equal(counts.cut[DROP_POLICY_DENY], 0);
	assert_true(is_open(&p));
	for (int i = 0; i < 40 && !counts.cut[DROP_POLICY_DENY]; i++) { /* now it can */
		mesh_poll(m);
		kernel_rechecks(m->kernel, &counts);
	}
	check_cut(&p);
	pair_close(&p);
}

/* The listener defers accept(): the handshake is complete for the caller, and for the pod when the first byte has come. */
static void test_recheck_handshake_under_way_is_cut_later(void **state)
{
	int seconds = 10;
	char byte = 'x';

	(void)state;
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));

	assert_int_equal(setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds)), 0);
	int client = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:8080"));

	assert_true(client >= 0);
	policy_set(&m->pods[1], mesh_policy_of(POLICY_DENY, "a"));
	mesh_must_apply(m);
	mesh_poll(m); /* the first look has found a handshake */
	assert_int_equal(cut(DROP_POLICY_DENY), 0);
	assert_int_equal(send(client, &byte, 1, MSG_NOSIGNAL), 1);
	wait_for_cuts(DROP_POLICY_DENY, 1);
	close(client);
	close(listener);
}

/* Two changes, of which the second takes the first back, before the loop comes to it. */
static void test_recheck_change_taken_back_cuts_nothing(void **state)
{
	(void)state;
	mesh_must_apply(m);
	struct pair p = pair_open(&m->pods[0], AF_INET, &m->pods[1], "$b4:8080");

	policy_set(&m->pods[1], mesh_policy_of(POLICY_DENY, "a"));
	mesh_must_apply(m);
	policy_set(&m->pods[1], NULL);
	mesh_must_apply(m);
	wait_for_looks();
	assert_int_equal(cut(DROP_POLICY_DENY), 0);
	assert_true(is_open(&p));
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MESH_TEST(test_recheck_denied_caller_is_cut_others_live),
		MESH_TEST(test_recheck_cut_is_reported),
		MESH_TEST(test_recheck_strict_cuts_anonymous),
		MESH_TEST(test_recheck_caller_that_no_rule_allows_is_cut),
		MESH_TEST(test_recheck_port_gets_http_rules),
		MESH_TEST(test_recheck_request_under_way_is_answered_first),
		MESH_TEST(test_recheck_connection_older_than_enrolment_lives),
		MESH_TEST(test_recheck_helpers_and_callers_sockets_live),
		MESH_TEST(test_recheck_full_table_cuts_all),
		MESH_TEST(test_recheck_many_connections_of_two_callers),
		MESH_TEST(test_recheck_changed_while_no_agent_was_there),
		MESH_TEST(test_recheck_that_an_agent_owed_is_done_by_the_next),
		MESH_TEST(test_recheck_connection_that_cannot_be_ended_is_counted),
		MESH_TEST(test_recheck_handshake_under_way_is_cut_later),
		MESH_TEST(test_recheck_change_taken_back_cuts_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
