// SPDX-License-Identifier: Apache-2.0
/* Pods that come and go, an agent that is restarted, and cleaning up. */
#include "tests/bpf/mesh.h"

#include "agent/base/err.h"
#include "agent/base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mesh *const m = &mesh_shared;

/* New and established connections of a caller, again and again while the agent is away and comes back. */
struct caller {
	pthread_t thread;
	volatile bool stop;
	int connects, failures, first_error;
	const char *to;
	struct mesh_pod *from;
};

static void *call(void *arg)
{
	struct caller *c = arg;

	while (!c->stop) {
		int fd = mesh_connect(c->from, AF_INET, c->to);

		c->connects++;
		if (fd < 0 && !c->failures++)
			c->first_error = fd;
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void *serve(void *arg)
{
	int listener = *(int *)arg;

	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			return NULL;
		close(fd);
	}
}

static void restart(void)
{
	struct err err = ERR_INIT;

	/* The helper's listeners end with it here; direct paths must not notice. */
	kernel_close(m->kernel);
	for (int i = 0; i < MESH_PODS; i++) {
		m->pods[i].pod = NULL;
		for (int j = 0; j <= POD_DNS_TCP; j++) {
			close(m->pods[i].fds[j]);
			m->pods[i].fds[j] = -1;
		}
	}
	usleep(50000);
	mesh_open(m);
	if (mesh_apply(m, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_restart_under_load_refuses_nothing(void **state)
{
	struct caller c = { .to = "10.99.0.1:80", .from = &m->pods[0] };
	pthread_t server;

	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));

	assert_int_equal(pthread_create(&server, NULL, serve, &listener), 0);
	assert_int_equal(pthread_create(&c.thread, NULL, call, &c), 0);
	usleep(100000);
	for (int i = 0; i < 3; i++)
		restart();
	c.stop = true;
	pthread_join(c.thread, NULL);
	shutdown(listener, SHUT_RDWR);
	pthread_join(server, NULL);
	close(listener);
	if (c.failures)
		fail_msg("%d of %d connects failed: %s", c.failures, c.connects, strerror(-c.first_error));
	assert_true(c.connects > 10);
}

static void test_closed_agent_policy_stays(void **state)
{
	(void)state;
	m->pods[0].policy = mesh_policy_strict();
	m->plain_b = true;
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[0], SOCK_STREAM, mesh_text(m, "$a4:8080"));
	int other = mesh_connect(&m->pods[2], AF_INET, mesh_text(m, "$a4:8080"));

	assert_true(other >= 0);
	kernel_close(m->kernel);
	assert_int_equal(mesh_connect(&m->pods[1], AF_INET, mesh_text(m, "$a4:8080")), -ECONNREFUSED);
	assert_int_equal(write(other, "x", 1), 1);
	close(other);
	close(listener);
	for (int i = 0; i < MESH_PODS; i++)
		m->pods[i].pod = NULL;
	mesh_open(m);
	mesh_must_apply(m);
}

static void test_restart_removes_what_is_gone(void **state)
{
	struct explain_outbound out;
	struct addr_port vip;
	struct err err = ERR_INIT;

	(void)state;
	mesh_service(m, "old", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	mesh_service(m, "stays", "10.99.0.2", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	kernel_close(m->kernel);
	m->kernel = NULL;
	for (int i = 0; i < MESH_PODS; i++)
		m->pods[i].pod = NULL;
	service_unref(m->services[0]);
	m->services[0] = m->services[--m->service_count];
	mesh_open(m);
	mesh_must_apply(m);
	addr_port_parse("10.99.0.1:80", &vip);
	assert_int_equal(kernel_explain_outbound(m->kernel, m->pods[0].pod, &vip, IPPROTO_TCP, &out, &err), 0);
	assert_int_equal(out.path, PATH_PASS);
	addr_port_parse("10.99.0.2:80", &vip);
	assert_int_equal(kernel_explain_outbound(m->kernel, m->pods[0].pod, &vip, IPPROTO_TCP, &out, &err), 0);
	assert_int_equal(out.path, PATH_DIRECT);
	assert_int_equal(out.service, 1001);
}

static void netns_delete(struct mesh_pod *p)
{
	char command[128];

	snprintf(command, sizeof(command), "ip netns del %s", p->netns);
	assert_int_equal(system(command), 0);
}

static void poll_until(int *counter, int wanted)
{
	for (int i = 0; i < 20 && *counter < wanted; i++)
		mesh_poll(m);
	assert_int_equal(*counter, wanted);
}

static void test_namespace_deleted_pod_removed_and_back(void **state)
{
	char command[160];

	(void)state;
	mesh_must_apply(m);
	assert_int_equal(m->added, 4);
	netns_delete(&m->pods[3]);
	poll_until(&m->removed, 1);
	assert_null(kernel_pod_by_uid(m->kernel, "t/d"));
	snprintf(command, sizeof(command), "ip netns add %.31s", m->pods[3].netns);
	assert_int_equal(system(command), 0);
	poll_until(&m->added, 5);
	assert_non_null(kernel_pod_by_uid(m->kernel, "t/d"));
}

/* A process lives on in a namespace whose name is gone: it is still policed. */
static void test_namespace_unnamed_stays_policed(void **state)
{
	(void)state;
	m->pods[0].policy = mesh_policy_strict();
	m->plain_b = true;
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[0], SOCK_STREAM, mesh_text(m, "$a4:8080"));

	netns_delete(&m->pods[0]);
	poll_until(&m->removed, 1);
	assert_int_equal(mesh_connect(&m->pods[1], AF_INET, mesh_text(m, "$a4:8080")), -ECONNREFUSED);
	int fd = mesh_connect(&m->pods[2], AF_INET, mesh_text(m, "$a4:8080"));

	assert_true(fd >= 0); /* attested callers may */
	close(fd);
	close(listener);
}

static void test_enrol_missing_namespace_reported_once_and_retried(void **state)
{
	struct err err = ERR_INIT;
	char command[160];

	(void)state;
	netns_delete(&m->pods[3]);
	assert_int_equal(mesh_apply(m, &err), 0);
	assert_int_equal(mesh_apply(m, &err), 0);
	assert_int_equal(m->added, 3);
	assert_int_equal(m->failed, 1);
	assert_non_null(strstr(m->failure, m->pods[3].netns));
	snprintf(command, sizeof(command), "ip netns add %.31s", m->pods[3].netns);
	assert_int_equal(system(command), 0);
	poll_until(&m->added, 4);
}

static void test_unenrolled_pod_is_free(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));

	m->plain_b = true;
	mesh_must_apply(m);
	assert_int_equal(m->removed, 1);
	int fd = mesh_connect(&m->pods[2], AF_INET, mesh_text(m, "$b4:8080"));

	assert_true(fd >= 0);
	close(fd);
	close(listener);
}

static void test_cleanup_leaves_nothing(void **state)
{
	char path[128];
	struct err err = ERR_INIT;

	(void)state;
	m->pods[0].policy = mesh_policy_strict();
	m->plain_b = true;
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[0], SOCK_STREAM, mesh_text(m, "$a4:8080"));

	assert_int_equal(mesh_connect(&m->pods[1], AF_INET, mesh_text(m, "$a4:8080")), -ECONNREFUSED);
	kernel_close(m->kernel);
	m->kernel = NULL;
	assert_int_equal(kernel_cleanup(&m->options, &err), 0);
	snprintf(path, sizeof(path), "/sys/fs/bpf/weft/%.31s", m->instance);
	assert_int_equal(access(path, F_OK), -1);
	int fd = mesh_connect(&m->pods[1], AF_INET, mesh_text(m, "$a4:8080"));

	assert_true(fd >= 0);
	close(fd);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MESH_TEST(test_restart_under_load_refuses_nothing),
		MESH_TEST(test_closed_agent_policy_stays),
		MESH_TEST(test_restart_removes_what_is_gone),
		MESH_TEST(test_namespace_deleted_pod_removed_and_back),
		MESH_TEST(test_namespace_unnamed_stays_policed),
		MESH_TEST(test_enrol_missing_namespace_reported_once_and_retried),
		MESH_TEST(test_unenrolled_pod_is_free),
		MESH_TEST(test_cleanup_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
