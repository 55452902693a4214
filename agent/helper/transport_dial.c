/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/transport_dial.h"

#include "agent/model/service.h"

#include <errno.h>
#include <netinet/tcp.h>

static socklen_t to_sockaddr(int domain, const struct addr_port *a, struct sockaddr_storage *out)
{
	if (domain != AF_INET6)
		return addr_to_sockaddr(a, out);
	addr_to_sockaddr6(a, (struct sockaddr_in6 *)out);
	return sizeof(struct sockaddr_in6);
}

static int dial_as(int fd, int domain, const struct addr_port *from, const struct addr_port *to, bool near)
{
	struct sockaddr_storage sa;
	socklen_t len;
	if (from) {
		len = to_sockaddr(domain, from, &sa);
		if (bind(fd, (struct sockaddr *)&sa, len) < 0)
			return -errno;
	}
	len = to_sockaddr(domain, to, &sa);
	if (connect(fd, (struct sockaddr *)&sa, len) == 0)
		return 0;
	if (errno != EINPROGRESS || !near)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, len) == 0)
		return 0;
	return errno == EALREADY ? -EINPROGRESS : -errno;
}

int transport_dial(int fd, const struct addr_port *from, const struct addr_port *to, bool near)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* The pod's sockets are of AF_INET6 where its kernel has that; a socket that isn't says so, and nothing has happened. */
	int rc = dial_as(fd, AF_INET6, from, to, near);
	return rc == -EAFNOSUPPORT ? dial_as(fd, AF_INET, from, to, near) : rc;
}

void transport_keepalive(int fd, const struct tcp_settings *tcp)
{
	int one = 1, time_s = (int)tcp->keepalive_time_s, interval_s = (int)tcp->keepalive_interval_s,
	    probes = (int)tcp->keepalive_probes;
	if (!time_s && !interval_s && !probes)
		return;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	if (time_s)
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &time_s, sizeof(time_s));
	if (interval_s)
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	if (probes)
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}
