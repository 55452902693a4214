/* SPDX-License-Identifier: Apache-2.0 */
/* The real weft-helper under the real supervisor: what it gave up, what happens when it or its agent dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/link/supervisor.h"
#include "agent/model/filters.h"
#include "agent/model/identity.h"
#include "agent/model/plan.h"
#include "agent/model/policy.h"
#include "agent/model/telemetry.h"

enum { NOBODY = 65534, COOKIE = 77 };

struct fixture {
	struct loop *loop;
	struct supervisor *s;
	struct mesh_settings mesh;
	struct workload *workload;
	char run_dir[64], helper[PATH_MAX];
	int listener; /* HBONE */
	unsigned int ready, died, csrs, sockets, endpoints, dumps;
	char csr_identity[256], dump[4096], log[1024];
	uint64_t csr_request;
	/* run_until */
	bool (*done)(struct fixture *f);
	bool timed_out;
	uint64_t until_ns;
};

static void on_ready(void *arg)
{
	((struct fixture *)arg)->ready++;
}

static void on_died(const char *why, void *arg)
{
	(void)why;
	((struct fixture *)arg)->died++;
}

static int open_sockets(uint64_t cookie, enum pod_socket kind, int *fds, size_t count, struct err *err, void *arg)
{
	struct fixture *f = arg;
	(void)err;
	assert_int_equal(cookie, COOKIE);
	f->sockets += (unsigned int)count;
	int type = (kind == POD_UDP_REMOTE ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
	for (size_t i = 0; i < count; i++)
		fds[i] = socket(AF_INET, type, 0);
	return (int)count;
}

static void endpoint(const struct addr_port *at, struct link_endpoint *out, void *arg)
{
	(void)at;
	(void)out;
	((struct fixture *)arg)->endpoints++;
}

static void dns(uint64_t cookie, const char *name, struct link_dns_answer *out, void *arg)
{
	(void)cookie;
	(void)name;
	(void)out;
	(void)arg;
}

static void on_csr(uint64_t request, const char *identity, const char *csr_pem, void *arg)
{
	struct fixture *f = arg;
	assert_non_null(strstr(csr_pem, "BEGIN CERTIFICATE REQUEST"));
	str_copy(f->csr_identity, sizeof(f->csr_identity), identity);
	f->csr_request = request;
	f->csrs++;
	supervisor_certificate(f->s, request, identity, NULL, 0, "not in this test");
}

static void on_log(enum log_level level, const char *text, void *arg)
{
	struct fixture *f = arg;
	(void)level;
	str_copy(f->log, sizeof(f->log), text);
}

static void on_tick(struct loop_timer *timer, void *arg)
{
	struct fixture *f = arg;
	(void)timer;
	bool holds = f->done(f);
	f->timed_out = !holds && clock_now_ns() > f->until_ns;
	if (holds || f->timed_out)
		loop_stop(f->loop);
}

/* Runs the loop until the condition holds; false when it does not within the time (on a machine with nothing else to do). */
static bool run_until(struct fixture *f, bool (*done)(struct fixture *f), unsigned int ms)
{
	struct loop_timer *timer;
	f->done = done;
	f->until_ns = clock_now_ns() + 20 * ms * 1000000ull;
	f->timed_out = false;
	assert_int_equal(loop_timer_new(f->loop, on_tick, f, &timer), 0);
	loop_timer_start(timer, 0, 2);
	loop_run(f->loop);
	loop_timer_free(timer);
	return !f->timed_out;
}

static struct supervisor *supervise(struct fixture *f)
{
	struct supervisor_options options = { .loop = f->loop,
					      .helper_path = f->helper,
					      .run_dir = f->run_dir,
					      .uid = NOBODY,
					      .gid = NOBODY,
					      .node = "node-a" };
	struct supervisor_events events = { .on_ready = on_ready,
					    .on_died = on_died,
					    .open_sockets = open_sockets,
					    .endpoint = endpoint,
					    .dns = dns,
					    .on_csr = on_csr,
					    .on_log = on_log,
					    .arg = f };
	struct err err = ERR_INIT;
	struct supervisor *s = NULL;
	if (supervisor_new(&options, &f->mesh, &events, &s, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

static int listen_loopback(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 128), 0);
	return fd;
}

static int connect_to(int listener)
{
	struct sockaddr_in in;
	socklen_t len = sizeof(in);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &len), 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static void set_pod(struct fixture *f)
{
	int fds[POD_DNS_TCP + 1];
	struct err err = ERR_INIT;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = -1;
	fds[POD_LISTEN_HBONE] = f->listener;
	if (supervisor_pod_set(f->s, COOKIE, f->workload, fds, &err) < 0)
		fail_msg("%s", err.text);
}

static bool is_ready(struct fixture *f)
{
	struct supervisor_status status;
	supervisor_status(f->s, &status);
	return status.ready;
}

static pid_t helper_pid(struct fixture *f)
{
	struct supervisor_status status;
	supervisor_status(f->s, &status);
	return status.pid;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char self[PATH_MAX] = "";
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	for (int i = 0; i < 4; i++) /* BUILD/tests/unit/helper/test_process */
		*strrchr(self, '/') = 0;
	snprintf(f->helper, sizeof(f->helper), "%.4000s/weft-helper", self);
	strcpy(f->run_dir, "/tmp/weft-test-XXXXXX");
	assert_non_null(mkdtemp(f->run_dir));
	f->mesh = (struct mesh_settings){ .trust_domain = (char *)"cluster.local",
					  .cluster_domain = (char *)"cluster.local",
					  .dns_ttl_s = 30,
					  .connect_timeout_ms = 1000,
					  .helper_threads = 2 };
	f->workload = workload_new();
	f->workload->uid = strdup("shop/web");
	f->workload->ns = strdup("shop");
	f->workload->name = strdup("web");
	f->workload->identity = identity_new("cluster.local", "shop", "web");
	f->workload->addrs = calloc(1, sizeof(struct addr));
	f->workload->addr_count = 1;
	assert_int_equal(addr_parse("10.0.0.1", &f->workload->addrs[0]), 0);
	f->listener = listen_loopback();
	assert_int_equal(loop_new(&f->loop, NULL), 0);
	f->s = supervise(f);
	set_pod(f);
	*state = f;
	return run_until(f, is_ready, 5000) ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char path[128];
	if (helper_pid(f) > 0) {
		kill(helper_pid(f), SIGKILL);
		snprintf(path, sizeof(path), "%s/helper-%d.sock", f->run_dir, (int)helper_pid(f));
		unlink(path);
	}
	supervisor_free(f->s);
	loop_free(f->loop);
	workload_unref(f->workload);
	close(f->listener);
	snprintf(path, sizeof(path), "%s/helper.pid", f->run_dir);
	unlink(path);
	rmdir(f->run_dir);
	free(f);
	return 0;
}

/* The rest of the line of /proc/PID/file that starts with key. */
static const char *proc_line(pid_t pid, const char *file, const char *key, char *line, size_t size)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	const char *found = NULL;
	while (!found && fgets(line, (int)size, f))
		if (strncmp(line, key, strlen(key)) == 0)
			found = line + strlen(key);
	fclose(f);
	if (!found)
		fail_msg("no %s in %s", key, path);
	return found;
}

static void test_sandbox_running_helper_has_no_capability(void **state)
{
	static const char *const sets[] = { "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:" };
	char line[256];
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		assert_int_equal(
			strtoull(proc_line(helper_pid(*state), "status", sets[i], line, sizeof(line)), NULL, 16), 0);
}

static void test_sandbox_running_helper_is_another_user(void **state)
{
	char line[256];
	unsigned int id[4];
	for (int i = 0; i < 2; i++) {
		const char *ids = proc_line(helper_pid(*state), "status", i ? "Gid:" : "Uid:", line, sizeof(line));
		assert_int_equal(sscanf(ids, "%u %u %u %u", &id[0], &id[1], &id[2], &id[3]), 4);
		for (int j = 0; j < 4; j++)
			assert_int_equal(id[j], NOBODY);
	}
	const char *groups = proc_line(helper_pid(*state), "status", "Groups:", line, sizeof(line));
	assert_int_equal(strspn(groups, " \t\n"), strlen(groups));
}

#if defined(__SANITIZE_THREAD__)
enum { SANITIZER_THREADS = 1 }; /* the runtime's own */
#else
enum { SANITIZER_THREADS = 0 };
#endif

static void test_sandbox_running_helper_is_filtered(void **state)
{
	char line[256];
	assert_int_equal(atoi(proc_line(helper_pid(*state), "status", "NoNewPrivs:", line, sizeof(line))), 1);
	assert_int_equal(atoi(proc_line(helper_pid(*state), "status", "Seccomp:", line, sizeof(line))), 2);
	/* Every thread of it. */
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/task", (int)helper_pid(*state));
	DIR *dir = opendir(path);
	assert_non_null(dir);
	unsigned int threads = 0;
	for (struct dirent *e; (e = readdir(dir));) {
		pid_t tid = atoi(e->d_name);
		if (!tid)
			continue;
		threads++;
		assert_int_equal(atoi(proc_line(tid, "status", "Seccomp:", line, sizeof(line))), 2);
	}
	closedir(dir);
	assert_int_equal(threads, 4 + SANITIZER_THREADS); /* the link's, two workers, the writer of access logs */
}

static void test_sandbox_running_helper_sees_no_file(void **state)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/root", (int)helper_pid(*state));
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		assert_true(strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
	closedir(dir);
	snprintf(path, sizeof(path), "/proc/%d/root/x", (int)helper_pid(*state));
	assert_int_equal(open(path, O_CREAT | O_WRONLY, 0600), -1);
	assert_int_equal(errno, EROFS);
	char line[8192];
	(void)proc_line(helper_pid(*state), "mountinfo", "", line, sizeof(line)); /* the only mount there is */
	assert_non_null(strstr(line, " / / ro"));
}

static void test_sandbox_running_helper_leaves_no_core(void **state)
{
	char line[256], path[64];
	unsigned long soft, hard;
	const char *core = proc_line(helper_pid(*state), "limits", "Max core file size", line, sizeof(line));
	assert_int_equal(sscanf(core, "%lu %lu", &soft, &hard), 2);
	assert_int_equal(soft, 0);
	assert_int_equal(hard, 0);
	const char *files = proc_line(helper_pid(*state), "limits", "Max open files", line, sizeof(line));
	assert_int_equal(sscanf(files, "%lu %lu", &soft, &hard), 2);
	assert_int_equal(soft, hard);
	assert_true(soft >= 4096);
	/* What can't be dumped belongs to root in /proc. */
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)helper_pid(*state));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 0);
}

static void test_sandbox_running_helper_inherits_nothing(void **state)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/environ", (int)helper_pid(*state));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char environment[4096] = "";
	assert_true(fd >= 0);
	ssize_t n = read(fd, environment, sizeof(environment) - 1);
	close(fd);
	assert_true(n >= 0);
	assert_null(memmem(environment, (size_t)n, "PATH=", 5));
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { RSS_MAX_KB = 200000, RESPAWN_MAX_MS = 20000 };
#else
enum { RSS_MAX_KB = 6144, RESPAWN_MAX_MS = 5000 };
#endif

static long rss_kb(struct fixture *f)
{
	char line[256];
	return atol(proc_line(helper_pid(f), "status", "VmRSS:", line, sizeof(line)));
}

static bool is_small(struct fixture *f)
{
	return rss_kb(f) <= RSS_MAX_KB;
}

static void test_helper_idle_is_small(void **state)
{
	bool small = run_until(*state, is_small, 5000);
	print_message("VmRSS %ld kB\n", rss_kb(*state));
	assert_true(small);
}

static bool has_csr(struct fixture *f)
{
	return f->csrs > 0;
}

static void test_helper_new_pod_asks_for_its_certificate(void **state)
{
	struct fixture *f = *state;
	assert_true(run_until(f, has_csr, 2000));
	assert_string_equal(f->csr_identity, "spiffe://cluster.local/ns/shop/sa/web");
}

static bool has_sockets(struct fixture *f)
{
	return f->sockets >= 8; /* two kinds, two workers, two each */
}

static void test_helper_new_pod_gets_sockets_ahead(void **state)
{
	assert_true(run_until(*state, has_sockets, 2000));
}

static void on_dump(const char *json, void *arg);
static bool has_dump(struct fixture *f);

/* Scripts of 10 KiB each. */
static struct workload *workload_with_scripts(size_t count)
{
	struct workload *w = workload_new();
	w->uid = strdup("shop/big");
	w->ns = strdup("shop");
	w->name = strdup("big");
	w->identity = identity_new("cluster.local", "shop", "web");
	w->telemetry = telemetry_new();
	telemetry_seal(w->telemetry);
	w->l7_ports = calloc(2, sizeof(*w->l7_ports));
	w->l7_ports[0].port = 80;
	w->l7_ports[1].port = 8080;
	w->l7_port_count = 2;
	w->inbound = http_filters_new();
	w->inbound->scripts = calloc(count, sizeof(*w->inbound->scripts));
	for (size_t i = 0; i < count; i++) {
		char *code = malloc(10241);
		memset(code, '-', 10240);
		code[10240] = 0;
		w->inbound->scripts[w->inbound->script_count++].code = code;
	}
	http_filters_seal(w->inbound);
	return w;
}

static void test_helper_takes_pods_longer_than_a_record(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct workload *big = workload_with_scripts(300), *too_big = workload_with_scripts(900);
	assert_int_equal(supervisor_pod_set(f->s, COOKIE, big, NULL, &err), 0);
	assert_int_equal(supervisor_dump(f->s, "pods", on_dump, f), 0);
	assert_true(run_until(f, has_dump, 5000));
	assert_non_null(strstr(f->dump, "\"shop/big\""));
	assert_int_equal(supervisor_pod_set(f->s, COOKIE, too_big, NULL, &err), -EMSGSIZE);
	assert_non_null(strstr(err.text, "shop/big"));
	f->dumps = 0;
	assert_int_equal(supervisor_dump(f->s, "pods", on_dump, f), 0);
	assert_true(run_until(f, has_dump, 5000));
	assert_int_equal(f->died, 0);
	workload_unref(big);
	workload_unref(too_big);
}

static bool has_died(struct fixture *f)
{
	return f->died > 0;
}

static bool has_new_csr(struct fixture *f)
{
	return f->ready == 2 && f->csrs > 0;
}

static void test_supervisor_killed_helper_is_back_with_its_pods(void **state)
{
	struct fixture *f = *state;
	assert_true(run_until(f, has_csr, 2000));
	f->csrs = 0;
	pid_t before = helper_pid(f);
	uint64_t start = clock_now_ns();
	kill(before, SIGKILL);
	int waiting = connect_to(f->listener); /* in the queue of a listener that nobody serves */
	assert_true(run_until(f, has_died, 2000));
	assert_true(run_until(f, has_new_csr, 2000));
	uint64_t ms = (clock_now_ns() - start) / 1000000;
	print_message("back after %u ms\n", (unsigned int)ms);
	assert_true(ms < RESPAWN_MAX_MS);
	assert_int_not_equal(helper_pid(f), before);

	/* It is served, in the end without a certificate: plaintext to the HBONE port is closed. */
	struct timeval limit = { .tv_sec = 90 };
	char byte;
	setsockopt(waiting, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_true(write(waiting, "GET / HTTP/1.0\r\n\r\n", 18) == 18);
	ssize_t n;
	do {
		n = read(waiting, &byte, 1);
	} while (n > 0); /* a TLS alert may come first */
	assert_true(n == 0 || errno == ECONNRESET);
	close(waiting);
	struct supervisor_status status;
	supervisor_status(f->s, &status);
	assert_int_equal(status.restarts, 1);
}

static bool nothing_drains(struct fixture *f)
{
	struct supervisor_status status;
	supervisor_status(f->s, &status);
	return status.ready && status.draining == 0;
}

static void test_supervisor_new_settings_replace_helper_and_drain_old(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	pid_t before = helper_pid(f);
	f->mesh.helper_threads = 1;
	assert_int_equal(supervisor_settings(f->s, &f->mesh, &err), 0);
	assert_int_not_equal(helper_pid(f), before);
	assert_true(run_until(f, nothing_drains, 8000));
	assert_int_equal(f->died, 0);
	assert_int_equal(kill(before, 0), -1);
	assert_non_null(strstr(f->log, "exited with status 0 after draining"));
}

static bool orphan_answered(struct fixture *f)
{
	struct supervisor_status status;
	supervisor_status(f->s, &status);
	return status.ready && status.orphans == 0 && status.draining == 1;
}

static bool orphan_gone(struct fixture *f)
{
	struct supervisor_status status;
	supervisor_status(f->s, &status);
	return status.orphans == 0 && status.draining == 0;
}

static bool orphan_drained(struct fixture *f)
{
	struct supervisor_status status;
	supervisor_status(f->s, &status);
	return status.orphans == 0 && status.draining == 0 && strstr(f->log, "after draining");
}

/* It asks the next agent for a certificate, gets sockets from it, and is drained when the next helper is ready. */
static void test_supervisor_next_agent_speaks_with_orphan(void **state)
{
	struct fixture *f = *state;
	pid_t orphan = helper_pid(f);
	assert_true(run_until(f, has_csr, 2000));
	supervisor_free(f->s);
	f->s = supervise(f);
	set_pod(f);
	assert_int_not_equal(helper_pid(f), orphan);
	assert_true(run_until(f, orphan_answered, 5000));
	assert_int_equal(kill(orphan, 0), 0);
	assert_true(run_until(f, orphan_drained, 8000));
	assert_int_equal(f->died, 0);
}

/* As one of a version that has no way back. */
static void test_supervisor_next_agent_drains_orphan(void **state)
{
	struct fixture *f = *state;
	struct supervisor_status status;
	pid_t orphan = helper_pid(f);
	char path[128];
	snprintf(path, sizeof(path), "%s/helper-%d.sock", f->run_dir, (int)orphan);
	assert_int_equal(unlink(path), 0);
	supervisor_free(f->s); /* as far as the helper can see, the agent died */
	f->s = supervise(f);
	set_pod(f);
	assert_true(run_until(f, is_ready, 5000));
	supervisor_status(f->s, &status);
	assert_int_equal(status.orphans, 1);
	assert_int_equal(kill(orphan, 0), 0);
	supervisor_orphans_drain(f->s);
	assert_true(run_until(f, orphan_gone, 8000));
}

static void on_dump(const char *json, void *arg)
{
	struct fixture *f = arg;
	f->dumps++;
	str_copy(f->dump, sizeof(f->dump), json ? json : "(none)");
}

static bool has_dump(struct fixture *f)
{
	return f->dumps > 0;
}

static void test_supervisor_dump_answers(void **state)
{
	struct fixture *f = *state;
	static const char *const whats[] = { "pods", "secrets", "connections", "pools" };
	for (size_t i = 0; i < ARRAY_SIZE(whats); i++) {
		f->dumps = 0;
		assert_int_equal(supervisor_dump(f->s, whats[i], on_dump, f), 0);
		assert_true(run_until(f, has_dump, 2000));
		print_message("%s: %s\n", whats[i], f->dump);
		assert_int_equal(f->dump[0], '[');
		if (i < 2)
			assert_non_null(strstr(f->dump, "spiffe://cluster.local/ns/shop/sa/web"));
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_sandbox_running_helper_has_no_capability),
		T(test_sandbox_running_helper_is_another_user),
		T(test_sandbox_running_helper_is_filtered),
		T(test_sandbox_running_helper_sees_no_file),
		T(test_sandbox_running_helper_leaves_no_core),
		T(test_sandbox_running_helper_inherits_nothing),
		T(test_helper_idle_is_small),
		T(test_helper_new_pod_asks_for_its_certificate),
		T(test_helper_new_pod_gets_sockets_ahead),
		T(test_helper_takes_pods_longer_than_a_record),
		T(test_supervisor_killed_helper_is_back_with_its_pods),
		T(test_supervisor_new_settings_replace_helper_and_drain_old),
		T(test_supervisor_next_agent_speaks_with_orphan),
		T(test_supervisor_next_agent_drains_orphan),
		T(test_supervisor_dump_answers),
	};
	if (geteuid() != 0) {
		print_message("[  SKIPPED ] the helper starts as root: run the unit tests as root\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
