// SPDX-License-Identifier: Apache-2.0
/* Processes of the host: probes that call a pod, and workloads that are control groups. */
#include "tests/bpf/mesh.h"

#include "agent/base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct mesh *const m = &mesh_shared;
static char cgroup_root[128], cgroup[256], nested[300], host_v4[32];

static void find_cgroup_root(void)
{
	FILE *f = setmntent("/proc/mounts", "r");
	struct mntent *e;

	while (f && (e = getmntent(f)))
		if (str_eq(e->mnt_type, "cgroup2"))
			str_copy(cgroup_root, sizeof(cgroup_root), e->mnt_dir);
	if (f)
		endmntent(f);
}

static void cgroup_enter(const char *path)
{
	char file[400], pid[16];

	snprintf(file, sizeof(file), "%s/cgroup.procs", path);
	int fd = open(file, O_WRONLY | O_CLOEXEC);

	snprintf(pid, sizeof(pid), "%d", getpid());
	assert_int_equal(write(fd, pid, strlen(pid)), strlen(pid));
	close(fd);
}

/* The host gets an address on the pods' bridge. */
static int on_setup(void **state)
{
	char command[512];
	int pid = getpid();

	(void)state;
	mesh_up(m);
	find_cgroup_root();
	snprintf(cgroup, sizeof(cgroup), "%.100s/weft-test-%d", cgroup_root, pid);
	snprintf(nested, sizeof(nested), "%s/inner", cgroup);
	mkdir(cgroup, 0755);
	mkdir(nested, 0755);
	str_copy(host_v4, sizeof(host_v4), m->pods[0].v4);
	snprintf(strrchr(host_v4, '.'), 5, ".254");
	snprintf(command, sizeof(command),
		 "ip link add wt%d type veth peer name host netns wt%d-sw && ip -n wt%d-sw link set host master br0 up "
		 "&& "
		 "ip addr add %.31s/24 dev wt%d && ip link set wt%d up",
		 pid, pid, pid, host_v4, pid, pid);
	assert_int_equal(system(command), 0);
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	cgroup_enter(cgroup_root);
	rmdir(nested);
	rmdir(cgroup);
	mesh_down(m);
	return 0;
}

static void check_call(const char *to, const struct mesh_pod *at, const char *listen)
{
	int listener = mesh_listen(at, SOCK_STREAM, listen);
	int fd = mesh_connect(NULL, AF_INET, to);

	if (fd < 0)
		fail_msg("connect %s: %s", to, strerror(-fd));
	close(fd);
	close(listener);
}

static void test_probe_of_host_passes_strict(void **state)
{
	(void)state;
	m->pods[0].policy = mesh_policy_strict();
	mesh_must_apply(m);
	check_call(mesh_text(m, "$a4:8080"), &m->pods[0], mesh_text(m, "$a4:8080"));
	assert_int_equal(mesh_drops(m, DROP_MTLS_REQUIRED), 0);
}

/* The host's processes are attested, but nobody's workload: where the helper must see what they say, it is told that they
 * are the node's. */
static void test_probe_of_host_has_a_listener_of_its_own(void **state)
{
	static const struct inbound_port http[] = { { .port = 8080, .app = APP_HTTP } };
	struct addr_port peer;

	(void)state;
	m->pods[0].policy = mesh_policy_strict();
	m->pods[0].l7_ports = http;
	m->pods[0].l7_port_count = 1;
	mesh_must_apply(m);
	int fd = mesh_connect(NULL, AF_INET, mesh_text(m, "$a4:8080"));

	assert_true(fd >= 0);
	int server = mesh_accept(m->pods[0].fds[POD_LISTEN_NODE], &peer);

	assert_true(server >= 0);
	close(server);
	close(fd);
}

static void host_workload(bool with_policy)
{
	struct mesh_extra *x = &m->extra;

	x->cgroup = cgroup;
	x->v4 = host_v4;
	x->port = 18080;
	x->policy = with_policy ? mesh_policy_strict() : NULL;
}

static void test_cgroup_connects_as_its_identity(void **state)
{
	char vip[32], to[40];

	(void)state;
	/* On the pods' own subnet: uncaptured packets must not leave the bridge. */
	str_copy(vip, sizeof(vip), host_v4);
	snprintf(strrchr(vip, '.'), 5, ".200");
	snprintf(to, sizeof(to), "%s:80", vip);
	m->pods[0].policy = mesh_policy_strict();
	mesh_service(m, "s", vip, 80, IPPROTO_TCP, "$a4:8080", LB_ROUND_ROBIN);
	host_workload(false);
	mesh_must_apply(m);
	assert_true(mesh_connect(NULL, AF_INET, to) < 0); /* not in the control group */
	cgroup_enter(nested);
	check_call(to, &m->pods[0], mesh_text(m, "$a4:8080"));
	cgroup_enter(cgroup_root);
	mesh_poll(m);
	assert_int_equal(m->flows[0].source_identity, 200);
	assert_int_equal(m->flows[0].path, FLOW_ATTESTED);
}

static void test_cgroup_remote_captured(void **state)
{
	struct addr_port peer, a;

	(void)state;
	m->remote_b = true;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	host_workload(false);
	mesh_must_apply(m);
	cgroup_enter(cgroup);
	int client = mesh_connect(NULL, AF_INET, "10.99.0.1:80");

	cgroup_enter(cgroup_root);
	assert_true(client >= 0);
	int server = mesh_accept(m->extra.fds[POD_LISTEN_OUTBOUND], &peer);

	assert_true(server >= 0);
	assert_addr(peer, "10.99.0.1:80");
	mesh_local(server, &a);
	assert_addr(a, mesh_text(m, "$b4:8080"));
	mesh_peer(client, &a);
	assert_addr(a, "10.99.0.1:80");
	close(server);
	close(client);
}

struct host_listener {
	char address[64];
	int fd;
};

/* On the workload's port, and on another of the host's. */
static void host_listen(struct host_listener *mine, struct host_listener *other)
{
	snprintf(mine->address, sizeof(mine->address), "%.31s:18080", host_v4);
	snprintf(other->address, sizeof(other->address), "%.31s:18081", host_v4);
	mine->fd = mesh_listen(NULL, SOCK_STREAM, mine->address);
	other->fd = mesh_listen(NULL, SOCK_STREAM, other->address);
}

static void test_cgroup_inbound_judged_on_its_ports_only(void **state)
{
	struct host_listener mine, other;

	(void)state;
	host_workload(true);
	m->plain_b = true;
	mesh_must_apply(m);
	host_listen(&mine, &other);
	int fd = mesh_connect(&m->pods[0], AF_INET, mine.address);

	assert_true(fd >= 0); /* attested */
	close(fd);
	assert_int_equal(mesh_connect(&m->pods[1], AF_INET, mine.address), -ECONNREFUSED);
	assert_int_equal(mesh_drops(m, DROP_MTLS_REQUIRED), 1);
	fd = mesh_connect(&m->pods[1], AF_INET, other.address);
	assert_true(fd >= 0); /* not the workload's */
	close(fd);
	close(other.fd);
	close(mine.fd);
}

static void test_cgroup_changed_policy_ends_open_connection(void **state)
{
	struct recheck_counts counts = { 0 };
	struct host_listener mine, other;
	char byte;

	(void)state;
	host_workload(false);
	m->plain_b = true;
	mesh_must_apply(m);
	host_listen(&mine, &other);
	int plain = mesh_connect(&m->pods[1], AF_INET, mine.address);
	int attested = mesh_connect(&m->pods[0], AF_INET, mine.address);
	int not_its_own = mesh_connect(&m->pods[1], AF_INET, other.address);

	assert_true(plain >= 0 && attested >= 0 && not_its_own >= 0);
	m->extra.policy = mesh_policy_strict();
	mesh_must_apply(m);
	for (int i = 0; i < 40 && !counts.cut[DROP_MTLS_REQUIRED]; i++) {
		mesh_poll(m);
		kernel_rechecks(m->kernel, &counts);
	}
	assert_int_equal(counts.cut[DROP_MTLS_REQUIRED], 1);
	assert_int_equal(recv(plain, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(recv(attested, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(recv(not_its_own, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	close(plain);
	close(attested);
	close(not_its_own);
	close(other.fd);
	close(mine.fd);
}

static void test_cgroup_mesh_ports_closed_from_outside(void **state)
{
	struct addr_port a;
	char to[64];

	(void)state;
	host_workload(false);
	mesh_must_apply(m);
	mesh_local(m->extra.fds[POD_LISTEN_OUTBOUND], &a);
	snprintf(to, sizeof(to), "%.31s:%u", host_v4, a.port);
	assert_int_equal(mesh_connect(&m->pods[0], AF_INET, to), -ECONNREFUSED);
	assert_int_equal(mesh_drops(m, DROP_RESERVED_PORT), 1);
}

static void test_cgroup_removed_pod_removed(void **state)
{
	(void)state;
	host_workload(false);
	mesh_must_apply(m);
	assert_int_equal(m->added, 5);
	rmdir(nested);
	rmdir(cgroup);
	for (int i = 0; i < 10 && !m->removed; i++)
		mesh_poll(m);
	assert_int_equal(m->removed, 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, on_setup, on_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_probe_of_host_passes_strict),
		T(test_probe_of_host_has_a_listener_of_its_own),
		T(test_cgroup_connects_as_its_identity),
		T(test_cgroup_remote_captured),
		T(test_cgroup_inbound_judged_on_its_ports_only),
		T(test_cgroup_changed_policy_ends_open_connection),
		T(test_cgroup_mesh_ports_closed_from_outside),
		T(test_cgroup_removed_pod_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
