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

/* --- plan */

static struct workload *workload_build(const struct mesh *m, int i)
{
	const struct mesh_pod *p = &m->pods[i];
	struct workload *w = workload_new();
	bool remote = i == 1 && m->remote_b;

	w->uid = str_format("t/%s", p->name);
	w->name = strdup(p->name);
	w->ns = strdup("t");
	w->node = strdup(remote ? "other" : "here");
	w->locality = strdup("");
	w->canonical_name = strdup(p->name);
	w->canonical_revision = strdup("v1");
	w->owner = strdup(p->name);
	w->identity = identity_new("cluster.local", "t", p->name);
	w->identity->id = 100 + (uint32_t)i;
	w->addrs = calloc(2, sizeof(*w->addrs));
	addr_parse(p->v4, &w->addrs[0]);
	addr_parse(p->v6, &w->addrs[1]);
	w->addr_count = 2;
	w->enrolled = !(i == 1 && m->plain_b);
	w->tunnel = w->enrolled ? TUNNEL_HBONE : TUNNEL_NONE;
	w->place = remote || !w->enrolled ? WORKLOAD_REMOTE : WORKLOAD_NETNS;
	w->place_name = strdup(p->netns);
	if (w->enrolled && !remote) {
		w->l7_ports = calloc(p->l7_port_count + 1, sizeof(*w->l7_ports));
		for (size_t port = 0; port < p->l7_port_count; port++)
			w->l7_ports[port] = p->l7_ports[port];
		w->l7_port_count = p->l7_port_count;
		w->l7_other_ports = p->l7_other_ports;
		w->policy = p->policy ? policy_ref(p->policy) : policy_new();
		if (!p->policy)
			w->policy->id = 1;
	}
	return w;
}

static struct workload *extra_build(const struct mesh *m)
{
	struct workload *w = workload_new();

	w->uid = strdup("t/host");
	w->name = strdup("host");
	w->ns = strdup("t");
	w->node = strdup("here");
	w->locality = strdup("");
	w->canonical_name = strdup("host");
	w->canonical_revision = strdup("v1");
	w->owner = strdup("host");
	w->identity = identity_new("cluster.local", "t", "host");
	w->identity->id = 200;
	w->addrs = calloc(1, sizeof(*w->addrs));
	addr_parse(m->extra.v4, &w->addrs[0]);
	w->addr_count = 1;
	w->enrolled = true;
	w->tunnel = TUNNEL_HBONE;
	w->place = WORKLOAD_CGROUP;
	w->place_name = strdup(m->extra.cgroup);
	w->ports = calloc(1, sizeof(*w->ports));
	w->ports[0] = (struct port_range){ m->extra.port, m->extra.port };
	w->port_count = 1;
	w->policy = m->extra.policy ? policy_ref(m->extra.policy) : policy_new();
	if (!m->extra.policy)
		w->policy->id = 1;
	return w;
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

/* Endpoints refer to workloads of one plan, so services are made anew for each. */
static void endpoint_resolve(const struct plan *plan, struct service *s)
{
	for (size_t i = 0; i < s->port_count; i++)
		for (size_t j = 0; j < s->ports[i].endpoint_count; j++) {
			struct endpoint *e = &s->ports[i].endpoints[j];

			e->workload = plan_workload_by_addr(plan, &e->addr);
		}
}

static struct service *service_copy(const struct service *s)
{
	struct service *c = service_new();

	c->id = s->id;
	c->name = strdup(s->name);
	c->ns = strdup(s->ns);
	c->hostname = strdup(s->hostname);
	c->kind = s->kind;
	c->vip_count = s->vip_count;
	c->vips = calloc(s->vip_count + 1, sizeof(*c->vips));
	memcpy(c->vips, s->vips, s->vip_count * sizeof(*c->vips));
	c->affinity_timeout_s = s->affinity_timeout_s;
	c->lb = s->lb;
	c->port_count = 1;
	c->ports = calloc(1, sizeof(*c->ports));
	const struct service_port *from = &s->ports[0];
	struct service_port *to = &c->ports[0];

	*to = *from;
	to->name = strdup(from->name);
	to->lb = c->lb;
	to->endpoints = calloc(from->endpoint_count + 1, sizeof(*to->endpoints));
	memcpy(to->endpoints, from->endpoints, from->endpoint_count * sizeof(*to->endpoints));
	to->slots = calloc(from->endpoint_count + 1, sizeof(uint32_t));
	to->slots6 = calloc(from->endpoint_count + 1, sizeof(uint32_t));
	to->slot_count = to->slot6_count = 0;
	for (uint32_t i = 0; i < from->endpoint_count; i++)
		if (addr_is_v4(&from->endpoints[i].addr))
			to->slots[to->slot_count++] = i;
		else
			to->slots6[to->slot6_count++] = i;
	return c;
}

struct plan *mesh_plan(struct mesh *m)
{
	struct plan *plan = plan_new();

	plan->revision = ++m->revision;
	plan->node = strdup("here");
	plan->mesh.same_node = m->same_node;
	plan->mesh.outbound = m->outbound;
	plan->workloads = calloc(MESH_PODS + 1, sizeof(*plan->workloads));
	plan->workload_count = MESH_PODS;
	for (int i = 0; i < MESH_PODS; i++)
		plan->workloads[i] = workload_build(m, i);
	if (m->extra.cgroup)
		plan->workloads[plan->workload_count++] = extra_build(m);
	plan->services = calloc(m->service_count + 1, sizeof(*plan->services));
	plan->service_count = m->service_count;
	for (size_t i = 0; i < m->service_count; i++)
		plan->services[i] = service_copy(m->services[i]);
	assert_int_equal(plan_seal(plan), 0);
	for (size_t i = 0; i < plan->service_count; i++)
		endpoint_resolve(plan, plan->services[i]);
	return plan;
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

static struct policy *policy_build(void)
{
	static uint64_t last_id = 1000;
	struct policy *p = policy_new();

	p->id = ++last_id;
	return p;
}

struct policy *mesh_policy_strict(void)
{
	struct policy *p = policy_build();

	p->mtls = MTLS_STRICT;
	return p;
}

struct policy *mesh_policy_of(enum policy_action action, const char *principal)
{
	struct policy *p = policy_build();

	p->has_allow = action == POLICY_ALLOW;
	p->rules = calloc(1, sizeof(*p->rules));
	p->rule_count = 1;
	p->rules[0] = (struct policy_rule){
		.action = action, .name = strdup("t/rule"), .origin = strdup("x.yaml:1"), .match_count = 1
	};
	p->rules[0].matches = calloc(1, sizeof(struct policy_match));
	struct match_strings *s = &p->rules[0].matches[0].principals;

	s->v = calloc(1, sizeof(*s->v));
	s->n = 1;
	char *full = str_format("cluster.local/ns/t/sa/%s", principal);

	match_string_init(&s->v[0], full);
	free(full);
	return p;
}

struct service *mesh_service(struct mesh *m, const char *name, const char *vips, uint16_t port, uint8_t proto,
			     const char *endpoints, enum lb_algorithm lb)
{
	struct service *s = service_new();
	char text[256], *save = NULL;

	s->name = strdup(name);
	s->ns = strdup("t");
	s->hostname = str_format("%s.t.svc.cluster.local", name);
	s->id = 1000 + (uint32_t)m->service_count;
	s->lb = lb;
	s->vips = calloc(8, sizeof(*s->vips));
	snprintf(text, sizeof(text), "%s", vips);
	for (char *v = strtok_r(text, " ", &save); v; v = strtok_r(NULL, " ", &save))
		assert_int_equal(cidr_parse(v, &s->vips[s->vip_count++]), 0);
	s->port_count = 1;
	s->ports = calloc(1, sizeof(*s->ports));
	s->ports[0] = (struct service_port){ .port = port, .proto = proto, .name = strdup("p"), .lb = lb };
	s->ports[0].endpoints = calloc(16, sizeof(struct endpoint));
	snprintf(text, sizeof(text), "%s", mesh_text(m, endpoints));
	for (char *v = strtok_r(text, " ", &save); v; v = strtok_r(NULL, " ", &save)) {
		struct endpoint *e = &s->ports[0].endpoints[s->ports[0].endpoint_count++];
		struct addr_port a;

		assert_int_equal(addr_port_parse(v, &a), 0);
		*e = (struct endpoint){ .addr = a.addr, .port = a.port, .weight = 1, .healthy = true };
	}
	m->services[m->service_count++] = s;
	return s;
}

const char *mesh_text(const struct mesh *m, const char *text)
{
	static char buffers[8][512];
	static int next;
	char *out = buffers[next++ % 8];
	size_t n = 0;

	for (const char *p = text; *p && n < 400; p++) {
		if (p[0] == '$' && p[1] >= 'a' && p[1] < 'a' + MESH_PODS) {
			const struct mesh_pod *pod = &m->pods[p[1] - 'a'];

			n += (size_t)snprintf(out + n, 512 - n, "%s", p[2] == '6' ? pod->v6 : pod->v4);
			p += 2;
		} else {
			out[n++] = *p;
		}
	}
	out[n] = '\0';
	return out;
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

uint64_t mesh_drops(struct mesh *m, enum drop_reason reason)
{
	uint64_t counts[DROP_REASON_COUNT];

	kernel_drops(m->kernel, counts);
	return counts[reason];
}
