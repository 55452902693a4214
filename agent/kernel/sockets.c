// SPDX-License-Identifier: Apache-2.0
/* The mesh's own sockets inside pods: created in the pod's network namespace and marked through their descriptor, so
 * that programs know them and no pod can forge the mark. */
#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/kernel/internal.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const kind_names[POD_SOCKET_COUNT] = {
	[POD_LISTEN_OUTBOUND] = "outbound listener",
	[POD_LISTEN_HBONE] = "HBONE listener",
	[POD_LISTEN_ATTESTED] = "attested inbound listener",
	[POD_LISTEN_ANONYMOUS] = "anonymous inbound listener",
	[POD_LISTEN_NODE] = "inbound listener for the node",
	[POD_DNS_UDP] = "DNS socket",
	[POD_DNS_TCP] = "DNS listener",
	[POD_CONNECT_REMOTE] = "outbound socket",
	[POD_CONNECT_LOCAL] = "inbound socket",
	[POD_UDP_REMOTE] = "UDP socket",
};

static bool is_udp(enum pod_socket kind)
{
	return kind == POD_DNS_UDP || kind == POD_UDP_REMOTE;
}

static int socket_bind(int fd, int family, uint16_t port)
{
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_port = htons(port) };

	return family == AF_INET6 ? bind(fd, (struct sockaddr *)&any6, sizeof(any6)) :
				    bind(fd, (struct sockaddr *)&any4, sizeof(any4));
}

/* The first free port of the mesh's range. One that the kernel picks may be any application's: the ephemeral range holds
 * gRPC's 50051, among others. Without SO_REUSEADDR, with which two sockets could bind one port and the second fail in
 * listen(); so ports with connections in TIME_WAIT are passed over as well. */
static int socket_bind_reserved(int fd, int family)
{
	for (uint16_t i = 0; i < MESH_LISTEN_PORTS; i++) {
		if (socket_bind(fd, family, (uint16_t)(MESH_LISTEN_PORT + i)) == 0)
			return 0;
		if (errno != EADDRINUSE)
			return -errno;
	}
	return socket_bind(fd, family, 0) < 0 ? -errno : 0;
}

/* In the pod's namespace. Listeners are bound to every address because one descriptor serves both families; what comes
 * to their ports from outside is refused by inbound.bpf.c. */
static int socket_open(struct kernel *k, uint64_t cookie, enum pod_socket kind)
{
	struct sock_mark mark = { .pod = cookie, .kind = kind };
	int type = (is_udp(kind) ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
	int family = AF_INET6, zero = 0, one = 1;
	AUTO(fd_closep) int fd = socket(AF_INET6, type, 0);

	if (fd < 0 && errno == EAFNOSUPPORT) {
		family = AF_INET;
		fd = socket(AF_INET, type, 0);
	}
	if (fd < 0)
		return -errno;
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) < 0)
		return -errno;
	if (bpf_map_update_elem(k->maps[KMAP_SOCK_MARKS], &fd, &mark, BPF_ANY) < 0)
		return -errno;
	/* Its bind() says what the application sees; the port is chosen at connect(), per destination. */
	if (kind == POD_CONNECT_LOCAL && setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) < 0)
		return -errno;
	if (kind <= POD_DNS_TCP) {
		int rc = socket_bind_reserved(fd, family);

		if (rc < 0)
			return rc;
		if (!is_udp(kind) && listen(fd, 4096) < 0)
			return -errno;
	}
	int out = fd;

	fd = -1;
	return out;
}

int pod_enter(struct kernel *k, const struct kernel_pod *pub, struct err *err)
{
	AUTO(fd_closep) int netns = -1;
	struct netns_id id;
	char path[PATH_MAX];
	uint64_t cookie;
	int rc = netns_path(pub->workload, path, err);

	if (rc == 0)
		rc = netns_open(path, &netns, &id, err);
	if (rc == 0)
		rc = netns_enter(k, netns, err);
	if (rc < 0)
		return rc;
	rc = netns_cookie(&cookie, err);
	if (rc == 0 && cookie != pub->cookie) /* the name may stand for another namespace by now */
		rc = err_set(err, -ESTALE, "%s is another network namespace by now", path);
	if (rc < 0)
		netns_leave(k);
	return rc;
}

int kernel_pod_sockets(struct kernel *k, const struct kernel_pod *pub, enum pod_socket kind, int *fds, size_t count,
		       struct err *err)
{
	struct pod *pod = pod_of(k, pub);
	size_t n = 0;
	int rc;

	if (!pod || pod->gone || kind >= POD_SOCKET_COUNT)
		return err_set(err, -ENOENT, "kernel: no such pod");
	rc = pub->host_network ? 0 : pod_enter(k, pub, err);
	if (rc < 0)
		return rc;
	while (rc >= 0 && n < count) {
		rc = socket_open(k, pub->cookie, kind);
		if (rc >= 0)
			fds[n++] = rc;
	}
	if (!pub->host_network)
		netns_leave(k);
	return n ? (int)n : err_sys(err, rc, "pod %s: open %s", pub->workload->uid, kind_names[kind]);
}

int kernel_pod_socket(struct kernel *k, const struct kernel_pod *pub, enum pod_socket kind, struct err *err)
{
	int fd = -1, rc = kernel_pod_sockets(k, pub, kind, &fd, 1, err);

	return rc < 0 ? rc : fd;
}

static int bound_port(int fd, uint16_t *port)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);

	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	*port = sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port :
					   ((struct sockaddr_in *)&sa)->sin_port;
	return 0;
}

int kernel_pod_listeners_set(struct kernel *k, const struct kernel_pod *pub, const int fds[POD_DNS_TCP + 1],
			     struct err *err)
{
	struct pod *pod = pod_of(k, pub);
	struct pod_value v;
	int rc;

	if (!pod || pod->gone)
		return err_set(err, -ENOENT, "kernel: no such pod");
	v = pod->value;
	for (uint32_t kind = 0; kind < POD_PORTS; kind++) {
		struct listener_key key = { .pod = pub->cookie, .kind = kind };
		uint64_t fd = (uint64_t)fds[kind];

		rc = bound_port(fds[kind], &v.ports[kind]);
		if (rc == 0 && !is_udp(kind) && bpf_map_update_elem(k->maps[KMAP_LISTENERS], &key, &fd, BPF_ANY) < 0)
			rc = -errno;
		if (rc < 0)
			return err_sys(err, rc, "pod %s: put the %s in force", pub->workload->uid, kind_names[kind]);
	}
	pod->value = v; /* after the sockets are in place */
	rc = pub->host_network ? host_pods_sync(k, err) : 0;
	return rc < 0 ? rc : pod_write(k, pod, err);
}
