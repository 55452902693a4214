/* SPDX-License-Identifier: Apache-2.0 */
/* DNS over UDP. The kernel shows each query as coming from {the resolver that was asked, the client's port}, and lets an
 * answer to that address look as if it came from there. A query for a name that is not ours goes on as it is, over a
 * socket of its own: its port is as hard to guess as the client's would have been, and only the resolver's answers reach
 * it. */
#include "agent/helper/dns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/dns_internal.h"

enum { DNS_BATCH = 32, DNS_UDP_READ_MAX = 4096, DNS_UPSTREAM_TIMEOUT_MS = 5000 };

struct dns_udp_query {
	TAILQ_ENTRY(dns_udp_query) by_pod;
	struct dns_pod *pod;
	struct addr_port client; /* the resolver's address with the client's port */
	struct dns_query question;
	bool parsed; /* question holds */
	struct dns_name_wait *name_wait;
	struct worker_wait *socket_wait;
	int fd; /* upstream */
	struct loop_io *io;
	struct loop_timer *timer;
	size_t len;
	uint8_t message[];
};

void dns_count(uint64_t *counter)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

void dns_malformed(struct dns_pod *pod, const struct addr_port *resolver)
{
	struct worker_drop drop = { .pod = pod->pod, .reason = DROP_DNS_MALFORMED, .destination = *resolver };
	drop.destination.port = DNS_UPSTREAM_PORT;
	worker_drop(pod->dns->w, &drop);
}

static socklen_t sockaddr_for(int fd, const struct addr_port *to, struct sockaddr_storage *out)
{
	int family = AF_INET6;
	socklen_t len = sizeof(family);
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len);
	if (family == AF_INET)
		return addr_to_sockaddr(to, out);
	struct sockaddr_in6 in6;
	addr_to_sockaddr6(to, &in6);
	memcpy(out, &in6, sizeof(in6));
	return sizeof(in6);
}

int dns_connect(int fd, const struct addr_port *to)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_for(fd, to, &ss);
	if (connect(fd, (const struct sockaddr *)&ss, len) == 0 || errno == EINPROGRESS)
		return 0;
	return -errno;
}

static void udp_reply(struct dns_pod *pod, const struct addr_port *client, const uint8_t *bytes, size_t len)
{
	struct sockaddr_storage ss;
	socklen_t ss_len = sockaddr_for(pod->fd, client, &ss);
	/* A full socket loses it, as UDP may. */
	sendto(pod->fd, bytes, len, MSG_NOSIGNAL, (const struct sockaddr *)&ss, ss_len);
}

/* --- one query --- */

static void query_free(struct dns_udp_query *q)
{
	struct dns_pod *pod = q->pod;
	TAILQ_REMOVE(&pod->queries, q, by_pod);
	pod->query_count--;
	pod->dns->live--;
	dns_names_cancel(q->name_wait);
	worker_wait_cancel(q->socket_wait);
	loop_io_free(q->io);
	loop_timer_free(q->timer);
	fd_closep(&q->fd);
	free(q);
}

/* Says so at once when it is known to be in vain, instead of letting the client wait for its own timeout. */
static void query_fail(struct dns_udp_query *q)
{
	uint8_t reply[DNS_UDP_EDNS_MAX];
	dns_count(&q->pod->dns->w->shard->dns_failed);
	size_t n = q->parsed ? dns_response_write(q->message, &q->question, DNS_SERVFAIL, NULL, 0, 0, reply,
						  sizeof(reply)) :
			       0;
	if (n)
		udp_reply(q->pod, &q->client, reply, n);
	query_free(q);
}

static void on_upstream(struct loop_io *io, int events, void *arg)
{
	struct dns_udp_query *q = arg;
	uint8_t reply[DNS_MESSAGE_MAX];
	(void)io;
	(void)events;
	ssize_t n = recv(q->fd, reply, sizeof(reply), 0);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			query_fail(q); /* nobody listens there, say */
		return;
	}
	if (!dns_is_response(reply, (size_t)n, q->question.id))
		return;
	udp_reply(q->pod, &q->client, reply, (size_t)n);
	dns_count(&q->pod->dns->w->shard->dns_forwarded);
	query_free(q);
}

static void on_upstream_timeout(struct loop_timer *timer, void *arg)
{
	struct dns_udp_query *q = arg;
	(void)timer;
	dns_count(&q->pod->dns->w->shard->dns_failed);
	query_free(q);
}

static void on_query_socket(int fd, void *arg)
{
	struct dns_udp_query *q = arg;
	struct loop *loop = q->pod->dns->w->loop;
	q->socket_wait = NULL;
	if (fd < 0) {
		query_fail(q);
		return;
	}
	q->fd = fd;
	struct addr_port resolver = { q->client.addr, DNS_UPSTREAM_PORT };
	int rc = dns_connect(fd, &resolver);
	if (rc == 0 && send(fd, q->message, q->len, MSG_NOSIGNAL) < 0)
		rc = -errno;
	if (rc == 0)
		rc = loop_io_new(loop, fd, on_upstream, q, &q->io);
	if (rc == 0)
		rc = loop_timer_new(loop, on_upstream_timeout, q, &q->timer);
	if (rc < 0) {
		query_fail(q);
		return;
	}
	loop_timer_start(q->timer, DNS_UPSTREAM_TIMEOUT_MS, 0);
	loop_io_set(q->io, LOOP_READ);
}

static void query_forward(struct dns_udp_query *q)
{
	/* q may be gone when this returns without a handle. */
	struct worker_wait *wait = worker_socket_take(q->pod->dns->w, q->pod->pod, POD_UDP_REMOTE, on_query_socket, q);
	if (wait)
		q->socket_wait = wait;
}

static void on_query_name(const struct dns_answer *answer, void *arg)
{
	struct dns_udp_query *q = arg;
	q->name_wait = NULL;
	if (!answer) {
		query_forward(q);
		return;
	}
	uint8_t reply[DNS_UDP_EDNS_MAX];
	size_t n = dns_response_write(q->message, &q->question, DNS_NOERROR, answer->addrs, answer->addr_count,
				      answer->ttl_s, reply, dns_udp_limit(&q->question));
	if (n)
		udp_reply(q->pod, &q->client, reply, n);
	dns_count(n ? &q->pod->dns->w->shard->dns_answered : &q->pod->dns->w->shard->dns_failed);
	query_free(q);
}

static void udp_query(struct dns_pod *pod, const struct addr_port *client, const uint8_t *message, size_t len)
{
	struct dns_query question = { 0 };
	int rc = dns_query_parse(message, len, &question);
	if (rc == -EINVAL) {
		uint8_t reply[DNS_HEADER_LEN];
		size_t n = dns_formerr_write(message, len, reply);
		dns_malformed(pod, client);
		if (n)
			udp_reply(pod, client, reply, n);
		return;
	}
	struct dns_udp_query *q = pod->query_count < DNS_QUERIES_PER_POD ? malloc(sizeof(*q) + len) : NULL;
	if (!q) {
		dns_count(&pod->dns->w->shard->dns_failed); /* the client asks again */
		return;
	}
	*q = (struct dns_udp_query){
		.pod = pod, .client = *client, .question = question, .parsed = rc == 0, .fd = -1, .len = len
	};
	memcpy(q->message, message, len);
	TAILQ_INSERT_TAIL(&pod->queries, q, by_pod);
	pod->query_count++;
	pod->dns->live++;
	if (rc < 0 || !question.name[0]) {
		query_forward(q);
		return;
	}
	struct dns_name_wait *wait = dns_names_get(pod->dns->names, pod->pod->cookie, question.name, on_query_name, q);
	if (wait)
		q->name_wait = wait;
}

/* --- the pod's socket --- */

static void on_pod_udp(struct loop_io *io, int events, void *arg)
{
	struct dns_pod *pod = arg;
	uint8_t message[DNS_UDP_READ_MAX];
	(void)io;
	(void)events;
	for (int i = 0; i < DNS_BATCH; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		ssize_t n = recvfrom(pod->fd, message, sizeof(message), MSG_TRUNC, (struct sockaddr *)&ss, &len);
		if (n < 0 && errno != EINTR && errno != ECONNREFUSED)
			return;
		struct addr_port client;
		if (n < 0 || addr_from_sockaddr((const struct sockaddr *)&ss, &client) < 0)
			continue;
		/* The kernel had no note of which resolver was asked: there is none to ask. */
		if (addr_is_loopback(&client.addr) || (size_t)n > sizeof(message)) {
			dns_malformed(pod, &client);
			continue;
		}
		udp_query(pod, &client, message, (size_t)n);
	}
}

struct dns_pod *dns_pod_new(struct dns *dns, struct worker_pod *worker_pod, int fd)
{
	struct dns_pod *pod = calloc(1, sizeof(*pod));
	if (!pod) {
		close(fd);
		return NULL;
	}
	pod->dns = dns;
	pod->pod = worker_pod;
	pod->fd = fd;
	TAILQ_INIT(&pod->queries);
	TAILQ_INIT(&pod->conns);
	if (loop_io_new(dns->w->loop, fd, on_pod_udp, pod, &pod->io) < 0 || loop_io_set(pod->io, LOOP_READ) < 0) {
		log_error("pod %s: can't wait on its DNS socket; its names will not resolve", worker_pod->uid);
		dns_pod_free(pod);
		return NULL;
	}
	return pod;
}

void dns_pod_free(struct dns_pod *pod)
{
	if (!pod)
		return;
	while (!TAILQ_EMPTY(&pod->queries))
		query_free(TAILQ_FIRST(&pod->queries));
	dns_conns_free(pod);
	loop_io_free(pod->io);
	fd_closep(&pod->fd);
	free(pod);
}

/* --- the worker's side --- */

int dns_new(struct worker *w, struct dns **out)
{
	struct dns *dns = calloc(1, sizeof(*dns));
	if (!dns)
		return -ENOMEM;
	dns->w = w;
	int rc = dns_names_new(w, &dns->names);
	if (rc < 0) {
		free(dns);
		return rc;
	}
	*out = dns;
	return 0;
}

void dns_free(struct dns *dns)
{
	if (!dns)
		return;
	dns_names_free(dns->names);
	free(dns);
}

void dns_answered(struct dns *dns, uint64_t cookie, const struct dns_answer *answer)
{
	dns_names_answered(dns->names, cookie, answer);
}

void dns_flush(struct dns *dns)
{
	dns_names_flush(dns->names);
}

void dns_alone(struct dns *dns)
{
	dns_names_alone(dns->names);
}

void dns_back(struct dns *dns)
{
	dns_names_back(dns->names);
}

size_t dns_live(const struct dns *dns)
{
	return dns->live;
}
