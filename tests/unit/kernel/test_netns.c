// SPDX-License-Identifier: Apache-2.0
#include "agent/base/err.h"
#include "agent/base/str.h"
#include "agent/kernel/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

static struct workload workload_at(enum workload_place place, const char *name)
{
	return (struct workload){ .uid = (char *)"shop/a", .place = place, .place_name = (char *)name };
}

static void check_path(enum workload_place place, const char *name, const char *expected)
{
	struct workload w = workload_at(place, name);
	struct err err = ERR_INIT;
	char path[PATH_MAX];

	assert_int_equal(netns_path(&w, path, &err), 0);
	assert_string_equal(path, expected);
}

static void check_refused(enum workload_place place, const char *name)
{
	struct workload w = workload_at(place, name);
	struct err err = ERR_INIT;
	char path[PATH_MAX];

	assert_int_equal(netns_path(&w, path, &err), -EINVAL);
	assert_non_null(strstr(err.text, "shop/a"));
}

static void test_netns_path_name_is_below_run_netns(void **state)
{
	(void)state;
	check_path(WORKLOAD_NETNS, "frontend-1", "/run/netns/frontend-1");
}

static void test_netns_path_absolute_is_kept(void **state)
{
	(void)state;
	check_path(WORKLOAD_NETNS, "/var/run/docker/netns/abc", "/var/run/docker/netns/abc");
}

static void test_netns_path_pid_is_in_proc(void **state)
{
	(void)state;
	check_path(WORKLOAD_PID, "4711", "/proc/4711/ns/net");
}

static void test_netns_path_bad_names_refused(void **state)
{
	(void)state;
	check_refused(WORKLOAD_NETNS, "");
	check_refused(WORKLOAD_NETNS, "..");
	check_refused(WORKLOAD_NETNS, "../x");
	check_refused(WORKLOAD_NETNS, "a/b");
	check_refused(WORKLOAD_PID, "0");
	check_refused(WORKLOAD_PID, "self");
	check_refused(WORKLOAD_PID, "1/../2");
	check_refused(WORKLOAD_PID, "99999999999");
}

static void test_netns_open_plain_file_refused(void **state)
{
	struct err err = ERR_INIT;
	struct netns_id id;
	int fd = -1;

	(void)state;
	assert_int_equal(netns_open("/proc/self/status", &fd, &id, &err), -EINVAL);
	assert_int_equal(netns_open("/nowhere/at/all", &fd, &id, &err), -ENOENT);
	assert_int_equal(fd, -1);
}

static void check_cgroup(const char *name, const char *expected)
{
	struct kernel k = { .cgroup = "/sys/fs/cgroup" };
	struct workload w = workload_at(WORKLOAD_CGROUP, name);
	struct err err = ERR_INIT;
	char path[PATH_MAX];
	int rc = host_pod_path(&k, &w, path, &err);

	if (!expected) {
		assert_int_equal(rc, -EINVAL);
		return;
	}
	assert_int_equal(rc, 0);
	assert_string_equal(path, expected);
}

static void test_host_pod_path_relative_and_absolute(void **state)
{
	(void)state;
	check_cgroup("system.slice/a.service", "/sys/fs/cgroup/system.slice/a.service");
	check_cgroup("/system.slice/a.service/", "/sys/fs/cgroup/system.slice/a.service");
	check_cgroup("/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/system.slice");
}

static void test_host_pod_path_root_and_dots_refused(void **state)
{
	(void)state;
	check_cgroup("", NULL);
	check_cgroup("/", NULL);
	check_cgroup("/sys/fs/cgroup/", NULL);
	check_cgroup("system.slice/../..", NULL);
}

static void test_paths_bad_instance_refused(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b" };
	struct kernel_paths paths;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct kernel_options options = { .instance = bad[i] };

		assert_int_equal(kernel_paths_init(&paths, &options, NULL), -EINVAL);
	}
	struct kernel_options options = { .instance = "node-a" };

	assert_int_equal(kernel_paths_init(&paths, &options, NULL), 0);
	assert_string_equal(paths.maps, "/sys/fs/bpf/weft/node-a/maps");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_netns_path_name_is_below_run_netns),
		cmocka_unit_test(test_netns_path_absolute_is_kept),
		cmocka_unit_test(test_netns_path_pid_is_in_proc),
		cmocka_unit_test(test_netns_path_bad_names_refused),
		cmocka_unit_test(test_netns_open_plain_file_refused),
		cmocka_unit_test(test_host_pod_path_relative_and_absolute),
		cmocka_unit_test(test_host_pod_path_root_and_dots_refused),
		cmocka_unit_test(test_paths_bad_instance_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
