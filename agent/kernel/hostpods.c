// SPDX-License-Identifier: Apache-2.0
/* Workloads that are control groups and share the host's network (weft.dev/cgroup). Outbound, programs know them by the
 * calling process; inbound, by the addresses and ports that the workload says are its own. One sk_lookup link on the
 * host's namespace serves all of them, and is there only while there are any. */
#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/kernel/internal.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HOST_PORTS_MAX = 4096 }; /* of one workload */

static const uint64_t all_levels = ABI_COOKIE_CGROUP;

int host_pod_path(const struct kernel *k, const struct workload *w, char path[PATH_MAX], struct err *err)
{
	const char *name = w->place_name;
	size_t root = strlen(k->cgroup);
	int n;

	if (!name || !*name || strstr(name, ".."))
		return err_set(err, -EINVAL, "%s: weft.dev/cgroup: \"%s\" is not a control group's path", w->uid,
			       name ? name : "");
	bool absolute = str_starts(name, k->cgroup) && name[root] == '/';

	n = absolute ? snprintf(path, PATH_MAX, "%s", name) :
		       snprintf(path, PATH_MAX, "%s%s%s", k->cgroup, name[0] == '/' ? "" : "/", name);
	for (n = n < PATH_MAX ? n : PATH_MAX - 1; n > 0 && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
	if (strlen(path) <= root)
		return err_set(err, -EINVAL, "%s: weft.dev/cgroup: the root can't be a workload", w->uid);
	return 0;
}

static uint32_t level_of(const struct kernel *k, const char *path)
{
	uint32_t level = 0;

	for (const char *p = path + strlen(k->cgroup); *p; p++)
		level += *p == '/';
	return level;
}

static int ports_check(const struct workload *w, struct err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < w->port_count; i++)
		n += w->ports[i].last >= w->ports[i].first ? (size_t)(w->ports[i].last - w->ports[i].first) + 1 : 0;
	if (n > HOST_PORTS_MAX)
		return err_set(err, -E2BIG,
			       "%s: more than %d ports are its own; the host's other services are on them too", w->uid,
			       HOST_PORTS_MAX);
	return 0;
}

int host_pod_look(struct kernel *k, struct workload *w, struct pod *pod, struct err *err)
{
	char path[PATH_MAX];
	struct stat st;
	int rc = host_pod_path(k, w, path, err);

	if (rc == 0)
		rc = ports_check(w, err);
	if (rc < 0)
		return rc;
	if (stat(path, &st) < 0)
		return err_sys(err, -errno, "%s: control group %s", w->uid, path);
	pod->level = level_of(k, path);
	if (!S_ISDIR(st.st_mode) || pod->level < 1 || pod->level > ABI_CGROUP_LEVELS)
		return err_set(err, -EINVAL, "%s: control group %s is not at most %d levels below the root", w->uid,
			       path, ABI_CGROUP_LEVELS);
	pod->netns = (struct netns_id){ st.st_dev, st.st_ino };
	pod->pub.cookie = ABI_COOKIE_CGROUP | (uint64_t)st.st_ino; /* cgroup ids are the inode numbers */
	pod->pub.host_network = true;
	return 0;
}

bool host_pod_alive(const struct kernel *k, const struct pod *pod)
{
	char path[PATH_MAX];
	struct stat st;

	return host_pod_path(k, pod->pub.workload, path, NULL) == 0 && stat(path, &st) == 0 &&
	       st.st_ino == pod->netns.ino;
}

/* --- ports */

static int port_set(struct kernel *k, const struct ip_addr *addr, __be16 port, uint8_t proto, uint64_t pod)
{
	struct host_port_key key = { .addr = *addr, .port = port, .proto = proto };

	/* The first workload that says so has it. */
	if (bpf_map_update_elem(k->maps[KMAP_HOST_PORTS], &key, &pod, BPF_NOEXIST) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int ports_set(struct kernel *k, const struct pod *pod)
{
	const struct workload *w = pod->pub.workload;
	const struct ip_addr any = { { 0 } };
	int rc = 0;

	for (uint32_t kind = 0; kind < POD_PORTS && rc == 0; kind++)
		if (pod->value.ports[kind])
			rc = port_set(k, &any, pod->value.ports[kind], kind == POD_DNS_UDP ? IPPROTO_UDP : IPPROTO_TCP,
				      pod->pub.cookie);
	for (size_t a = 0; a < w->addr_count && rc == 0; a++) {
		struct ip_addr addr = abi_addr(&w->addrs[a]);

		rc = port_set(k, &addr, htons(MESH_HBONE_PORT), IPPROTO_TCP, pod->pub.cookie);
		for (size_t i = 0; i < w->port_count && rc == 0; i++)
			for (uint32_t port = w->ports[i].first; port <= w->ports[i].last && rc == 0; port++) {
				rc = port_set(k, &addr, htons((uint16_t)port), IPPROTO_TCP, pod->pub.cookie);
				if (rc == 0)
					rc = port_set(k, &addr, htons((uint16_t)port), IPPROTO_UDP, pod->pub.cookie);
			}
	}
	return rc;
}

static bool pod_has_port(const struct pod *pod, const struct host_port_key *key)
{
	const struct workload *w = pod->pub.workload;
	const struct ip_addr any = { { 0 } };
	struct addr addr = abi_addr_from(&key->addr);
	uint16_t port = ntohs(key->port);

	if (memcmp(&key->addr, &any, sizeof(any)) == 0) {
		for (uint32_t kind = 0; kind < POD_PORTS; kind++)
			if (pod->value.ports[kind] == key->port)
				return true;
		return false;
	}
	if (!workload_has_addr(w, &addr))
		return false;
	for (size_t i = 0; i < w->port_count; i++)
		if (port >= w->ports[i].first && port <= w->ports[i].last)
			return true;
	return port == MESH_HBONE_PORT && key->proto == IPPROTO_TCP;
}

static bool keep_port(const void *key, const void *value, void *arg)
{
	const struct kernel *k = arg;
	const struct pod *pod = table_get(k->pods_by_cookie, value, sizeof(uint64_t));

	return pod && pod_has_port(pod, key);
}

/* --- the link on the host's namespace */

static void link_path(const struct kernel *k, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.400s/weft_inbound_host", k->paths.links);
}

static int link_ensure(struct kernel *k, struct err *err)
{
	char path[PATH_MAX];

	if (k->host_link >= 0)
		return 0;
	link_path(k, path);
	return inbound_attach(k, k->host_cookie, true, k->own_netns, path, &k->host_link, err);
}

static void link_drop(struct kernel *k)
{
	char path[PATH_MAX];

	link_path(k, path);
	if (k->host_link < 0)
		k->host_link = bpf_obj_get(path);
	if (k->host_link < 0)
		return;
	unlink(path);
	bpf_link_detach(k->host_link);
	close(k->host_link);
	k->host_link = -1;
}

/* Makes ports, levels and link equal to the host pods that are enrolled. */
int host_pods_sync(struct kernel *k, struct err *err)
{
	struct pod_value levels = { 0 };
	struct table_iter it = { 0 };
	int rc = 0;

	kmap_sweep(k->maps[KMAP_HOST_PORTS], sizeof(struct host_port_key), sizeof(uint64_t), keep_port, k);
	while (table_next(k->pods_by_cookie, &it)) {
		const struct pod *pod = it.value;

		if (!pod->pub.host_network || pod->gone)
			continue;
		levels.flags |= 1u << pod->level;
		int one = ports_set(k, pod);

		rc = rc == 0 ? one : rc;
	}
	if (rc < 0)
		return err_sys(err, rc, "kernel: write the ports of workloads on the host");
	if (!levels.flags) {
		bpf_map_delete_elem(k->maps[KMAP_PODS], &all_levels);
		link_drop(k);
		return 0;
	}
	if (bpf_map_update_elem(k->maps[KMAP_PODS], &all_levels, &levels, BPF_ANY) < 0)
		return err_sys(err, -errno, "kernel: write the levels of control groups");
	return link_ensure(k, err);
}
