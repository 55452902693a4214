// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/mesh.h"

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mesh mesh_shared;

static struct mesh *up; /* for the cleanup at exit */
static int host_netns = -1;
static struct loop *loop;

bool mesh_has_root(void)
{
	return geteuid() == 0;
}

__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	return system(command);
}

static void namespaces_down(struct mesh *m)
{
	int pid = getpid();

	run("ip -force -batch - >/dev/null 2>&1 <<END\nnetns del wt%d-sw\nnetns del %s\nnetns del %s\nnetns del %s\n"
	    "netns del %s\nlink del wt%d\nEND",
	    pid, m->pods[0].netns, m->pods[1].netns, m->pods[2].netns, m->pods[3].netns, pid);
}

static void on_exit_cleanup(void)
{
	struct mesh *m = up;

	if (!m || m->options.instance == NULL)
		return;
	up = NULL;
	mesh_enter(NULL);
	kernel_cleanup(&m->options, NULL);
	namespaces_down(m);
}

static void on_signal(int signum)
{
	on_exit_cleanup();
	signal(signum, SIG_DFL);
	raise(signum);
}

/* Starts `ip -batch` in a namespace (NULL: the host's); the lines are written to it. */
static FILE *batch_open(const char *netns)
{
	char command[128];

	snprintf(command, sizeof(command), netns ? "ip -n %.31s -batch -" : "ip -batch -", netns);
	FILE *f = popen(command, "w");

	assert_non_null(f);
	return f;
}

static void pod_name(struct mesh *m, int i)
{
	struct mesh_pod *p = &m->pods[i];
	int pid = getpid();

	snprintf(p->name, sizeof(p->name), "%c", 'a' + i);
	snprintf(p->netns, sizeof(p->netns), "wt%d-%c", pid, 'a' + i);
	snprintf(p->v4, sizeof(p->v4), "10.%d.%d.%d", 128 + pid % 100, pid / 100 % 250, i + 1);
	snprintf(p->v6, sizeof(p->v6), "fd%02x:1%02x::%d", pid % 100, pid / 100 % 250, i + 1);
	for (size_t j = 0; j < POD_DNS_TCP + 1; j++)
		p->fds[j] = -1;
}

static void pod_up(const struct mesh_pod *p)
{
	FILE *f = batch_open(p->netns);

	fprintf(f, "addr add %s/24 dev eth0\naddr add %s/64 dev eth0 nodad\nlink set eth0 up\n", p->v4, p->v6);
	/* Virtual addresses are routed somewhere, so that an uncaptured connection times out instead of failing. */
	fprintf(f, "route add default dev eth0\nroute add ::/0 dev eth0\n");
	assert_int_equal(pclose(f), 0);
}

static void namespaces_up(struct mesh *m)
{
	char bridge[32];
	FILE *f = batch_open(NULL);

	snprintf(bridge, sizeof(bridge), "wt%d-sw", getpid());
	fprintf(f, "netns add %s\n", bridge);
	for (int i = 0; i < MESH_PODS; i++) {
		pod_name(m, i);
		fprintf(f, "netns add %s\n", m->pods[i].netns);
	}
	assert_int_equal(pclose(f), 0);
	f = batch_open(bridge);
	fprintf(f, "link add br0 type bridge\nlink set br0 up\n");
	for (int i = 0; i < MESH_PODS; i++)
		fprintf(f, "link add p%d type veth peer name eth0 netns %s\nlink set p%d master br0 up\n", i,
			m->pods[i].netns, i);
	assert_int_equal(pclose(f), 0);
	for (int i = 0; i < MESH_PODS; i++)
		pod_up(&m->pods[i]);
}

static void on_added(const struct kernel_pod *pod, void *arg)
{
	struct mesh *m = arg;

	m->added++;
	if (pod->host_network)
		m->extra.pod = pod;
	for (int i = 0; i < MESH_PODS; i++)
		if (str_eq(pod->workload->name, m->pods[i].name))
			m->pods[i].pod = pod;
}

static void on_removed(const struct kernel_pod *pod, void *arg)
{
	struct mesh *m = arg;

	m->removed++;
	if (pod == m->extra.pod)
		m->extra.pod = NULL;
	for (int i = 0; i < MESH_PODS; i++) {
		if (m->pods[i].pod != pod)
			continue;
		m->pods[i].pod = NULL;
		for (int j = 0; j <= POD_DNS_TCP; j++) {
			if (m->pods[i].fds[j] >= 0)
				close(m->pods[i].fds[j]);
			m->pods[i].fds[j] = -1;
		}
	}
}

static void on_changed(const struct kernel_pod *pod, void *arg)
{
	(void)pod;
	((struct mesh *)arg)->changed++;
}

static void on_failed(const struct workload *w, const struct err *err, void *arg)
{
	struct mesh *m = arg;

	(void)w;
	m->failed++;
	str_copy(m->failure, sizeof(m->failure), err->text);
}

static void on_flow(const struct flow *flow, void *arg)
{
	struct mesh *m = arg;

	if (m->flow_count < MESH_FLOWS)
		m->flows[m->flow_count++] = *flow;
}

static struct kernel_events mesh_events(struct mesh *m)
{
	return (struct kernel_events){ on_added, on_changed, on_removed, on_failed, on_flow, m };
}

void mesh_open(struct mesh *m)
{
	struct kernel_events events = mesh_events(m);
	struct err err = ERR_INIT;

	if (kernel_open(&m->options, &events, &m->kernel, &err) < 0)
		fail_msg("%s", err.text);
}

void mesh_up(struct mesh *m)
{
	struct err err = ERR_INIT;
	int pid = getpid();

	memset(m, 0, sizeof(*m));
	if (host_netns < 0) {
		host_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		atexit(on_exit_cleanup);
		signal(SIGINT, on_signal);
		signal(SIGTERM, on_signal);
		signal(SIGPIPE, SIG_IGN);
	}
	up = m;
	snprintf(m->instance, sizeof(m->instance), "test-%d", pid);
	assert_int_equal(loop_new(&loop, &err), 0);
	m->options = (struct kernel_options){ .instance = m->instance, .bpffs = "/sys/fs/bpf", .loop = loop };
	kernel_cleanup(&m->options, NULL);
	namespaces_up(m);
	for (int i = 0; i <= POD_DNS_TCP; i++)
		m->extra.fds[i] = -1;
	mesh_open(m);
}

void mesh_down(struct mesh *m)
{
	for (int i = 0; i < MESH_PODS; i++) {
		for (int j = 0; j <= POD_DNS_TCP; j++)
			if (m->pods[i].fds[j] >= 0)
				close(m->pods[i].fds[j]);
		policy_unref(m->pods[i].policy);
	}
	for (int i = 0; i <= POD_DNS_TCP; i++)
		if (m->extra.fds[i] >= 0)
			close(m->extra.fds[i]);
	policy_unref(m->extra.policy);
	for (size_t i = 0; i < m->service_count; i++)
		service_unref(m->services[i]);
	kernel_close(m->kernel);
	loop_free(loop);
	assert_int_equal(kernel_cleanup(&m->options, NULL), 0);
	namespaces_down(m);
	up = NULL;
}

int mesh_setup(void **state)
{
	(void)state;
	mesh_up(&mesh_shared);
	return 0;
}

int mesh_teardown(void **state)
{
	(void)state;
	mesh_down(&mesh_shared);
	return 0;
}

static int pod_listeners(struct mesh *m, const struct kernel_pod *pod, int fds[POD_DNS_TCP + 1], struct err *err)
{
	for (int kind = 0; kind <= POD_DNS_TCP; kind++) {
		fds[kind] = kernel_pod_socket(m->kernel, pod, (enum pod_socket)kind, err);
		if (fds[kind] < 0)
			return fds[kind];
	}
	return kernel_pod_listeners_set(m->kernel, pod, fds, err);
}

int mesh_apply(struct mesh *m, struct err *err)
{
	struct plan *plan = mesh_plan(m);
	int rc = kernel_apply(m->kernel, plan, err);

	for (int i = 0; i < MESH_PODS && rc == 0; i++)
		if (m->pods[i].pod && m->pods[i].fds[0] < 0 && !m->no_listeners)
			rc = pod_listeners(m, m->pods[i].pod, m->pods[i].fds, err);
	if (rc == 0 && m->extra.pod && m->extra.fds[0] < 0)
		rc = pod_listeners(m, m->extra.pod, m->extra.fds, err);
	plan_unref(plan);
	return rc;
}

void mesh_must_apply(struct mesh *m)
{
	struct err err = ERR_INIT;

	if (mesh_apply(m, &err) < 0)
		fail_msg("%s", err.text);
	if (m->failed)
		fail_msg("%s", m->failure);
}

static void on_stop(struct loop_timer *timer, void *arg)
{
	(void)timer;
	(void)arg;
	loop_stop(loop);
}

void mesh_poll(struct mesh *m)
{
	struct loop_timer *timer;

	(void)m;
	assert_int_equal(loop_timer_new(loop, on_stop, NULL, &timer), 0);
	loop_timer_start(timer, 250, 0); /* events are read every 100 ms */
	loop_run(loop);
	loop_timer_free(timer);
}

/* --- sockets */

void mesh_enter(const struct mesh_pod *pod)
{
	char path[64];
	int fd = host_netns;

	if (pod) {
		snprintf(path, sizeof(path), "/run/netns/%s", pod->netns);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) {
		perror("setns");
		abort();
	}
	if (pod)
		close(fd);
}

int mesh_socket(const struct mesh_pod *pod, int family, int type)
{
	mesh_enter(pod);
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	mesh_enter(NULL);
	assert_true(fd >= 0);
	return fd;
}

int mesh_listen(const struct mesh_pod *pod, int type, const char *addr_port)
{
	struct sockaddr_storage sa;
	struct addr_port a;
	int one = 1;

	assert_int_equal(addr_port_parse(addr_port, &a), 0);
	socklen_t len = addr_to_sockaddr(&a, &sa);
	int fd = mesh_socket(pod, sa.ss_family, type);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, len) < 0)
		fail_msg("bind %s: %s", addr_port, strerror(errno));
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 16), 0);
	return fd;
}

static int wait_for(int fd, short events, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, timeout_ms);
}

int mesh_connect_fd(int fd, int family, const char *addr_port)
{
	struct sockaddr_storage sa;
	struct sockaddr_in6 sa6;
	struct addr_port a;
	socklen_t len, error_len = sizeof(int);
	int error = 0;

	assert_int_equal(addr_port_parse(addr_port, &a), 0);
	len = addr_to_sockaddr(&a, &sa);
	if (family == AF_INET6) {
		addr_to_sockaddr6(&a, &sa6);
		memcpy(&sa, &sa6, sizeof(sa6));
		len = sizeof(sa6);
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS)
		error = errno;
	else if (wait_for(fd, POLLOUT, 2000) <= 0)
		error = ETIMEDOUT;
	else
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return -error;
}

int mesh_connect(const struct mesh_pod *pod, int family, const char *addr_port)
{
	int fd = mesh_socket(pod, family, SOCK_STREAM);
	int rc = mesh_connect_fd(fd, family, addr_port);

	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

int mesh_accept(int listener, struct addr_port *peer)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	if (wait_for(listener, POLLIN, 2000) <= 0)
		return -ETIMEDOUT;
	int fd = accept4(listener, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (peer)
		addr_from_sockaddr((struct sockaddr *)&sa, peer);
	return fd;
}

bool mesh_is_pending(int listener)
{
	return wait_for(listener, POLLIN, 100) > 0;
}

void mesh_peer(int fd, struct addr_port *out)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);

	assert_int_equal(getpeername(fd, (struct sockaddr *)&sa, &len), 0);
	addr_from_sockaddr((struct sockaddr *)&sa, out);
}

void mesh_local(int fd, struct addr_port *out)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	addr_from_sockaddr((struct sockaddr *)&sa, out);
}

/* expected may be "addr:port" or "addr:*". */
void mesh_assert_addr(const struct addr_port *actual, const char *expected, const char *file, int line)
{
	char text[ADDR_PORT_TEXT_MAX], want[ADDR_PORT_TEXT_MAX];

	addr_port_text(actual, text);
	str_copy(want, sizeof(want), expected);
	if (str_ends(want, ":*")) {
		want[strlen(want) - 1] = '\0';
		if (str_starts(text, want))
			return;
	} else if (str_eq(text, want)) {
		return;
	}
	print_error("address is %s, not %s\n", text, expected);
	_fail(file, line);
}

int mesh_connect_local(struct mesh *m, const struct mesh_pod *pod, const char *peer_text, const char *to)
{
	struct err err = ERR_INIT;
	struct sockaddr_in6 sa;
	struct addr_port peer;
	int fd = kernel_pod_socket(m->kernel, pod->pod, POD_CONNECT_LOCAL, &err);

	assert_true(fd >= 0);
	assert_int_equal(addr_port_parse(peer_text, &peer), 0);
	addr_to_sockaddr6(&peer, &sa);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(mesh_connect_fd(fd, AF_INET6, to), 0);
	return fd;
}

void mesh_assert_captured(struct mesh *m, int family, const char *vip, const char *endpoint, const char *source)
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
	if (endpoint)
		assert_addr(a, mesh_text(m, endpoint));
	else
		assert_int_equal(a.port, 0);
	mesh_peer(client, &a);
	assert_addr(a, vip);
	mesh_local(client, &a);
	assert_addr(a, mesh_text(m, source));
	close(server);
	close(client);
}

uint64_t mesh_drops(struct mesh *m, enum drop_reason reason)
{
	uint64_t counts[DROP_REASON_COUNT];

	kernel_drops(m->kernel, counts);
	return counts[reason];
}
