/* SPDX-License-Identifier: Apache-2.0 */
/* A connection for the HTTP engine or a relay: first the way to the endpoint (a socket of the pod's, or an HBONE stream),
 * then, when the cluster originates TLS, TLS over it. Each step ends in step_done() or connect_fail(). */
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/tls_client.h"
#include "agent/helper/transport_dial.h"
#include "agent/helper/transport_internal.h"
#include "agent/helper/transport_pair.h"
#include "agent/helper/worker.h"
#include "agent/helper/worker_accept.h"
#include "agent/model/cluster.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECT_TIMEOUT_MS = 10000 }; /* when no config says otherwise */

struct transport_connect {
	struct worker *w;
	struct worker_pod *pod;
	struct http_cluster *cluster; /* a reference; NULL: the pod's own application */
	struct addr_port to, from;    /* from: shown to the application */
	bool near;
	transport_connect_fn fn;
	void *arg;
	struct worker_wait *wait;
	int fd;
	struct loop_io *io;
	struct loop_timer *timer;
	struct transport *opening;	   /* HBONE */
	struct transport_through *through; /* an HTTP proxy */
	struct transport *secured;	   /* TLS in the making */
	struct tls_client *tls;		   /* for it; NULL: none is wanted, or it has it */
	struct transport *t;		   /* the result */
	int error;
	char *failure; /* why, in words; NULL: nothing is known */
	bool inside;   /* of the call that made it */
	bool over, cancelled, deferred;
};

static void connect_free(struct transport_connect *c)
{
	worker_wait_cancel(TAKE(c->wait));
	loop_io_free(TAKE(c->io));
	loop_timer_free(TAKE(c->timer));
	if (c->fd >= 0)
		close(c->fd);
	if (c->opening)
		hbone_open_cancel(TAKE(c->opening));
	if (c->through)
		transport_through_cancel(TAKE(c->through));
	if (c->secured)
		transport_tls_cancel(TAKE(c->secured));
	if (c->t)
		transport_close(TAKE(c->t), true);
	worker_pod_unref(c->w, c->pod);
	http_cluster_unref(c->cluster);
	tls_client_free(c->tls);
	free(c->failure);
	free(c);
}

static void connect_deliver(struct transport_connect *c)
{
	struct transports *ts = worker_transports(c->w);
	ts->failure = c->failure;
	if (!c->cancelled)
		c->fn(TAKE(c->t), c->error, c->arg);
	ts->failure = NULL;
	connect_free(c);
}

const char *transport_failure(struct worker *w)
{
	return worker_transports(w)->failure;
}

/* Before a failure is told. */
static void connect_why(struct transport_connect *c, const char *before, const char *why)
{
	free(c->failure);
	c->failure = str_format("%s%s", before, why);
}

static void on_tick_end(void *arg)
{
	connect_deliver(arg);
}

/* Tells now, or when the caller is out of the way. */
static void connect_over(struct transport_connect *c)
{
	c->over = true;
	if (!c->inside) {
		connect_deliver(c);
		return;
	}
	c->deferred = true;
	loop_defer(worker_loop(c->w), on_tick_end, c);
}

static void connect_fail(struct transport_connect *c, int error)
{
	c->error = error;
	connect_over(c);
}

static void tls_why(struct transport_connect *c, const char *why)
{
	if (why)
		connect_why(c, "TLS_error: ", str_starts(why, "tls: ") ? why + strlen("tls: ") : why);
}

static void on_timeout(struct loop_timer *timer, void *arg)
{
	(void)timer;
	connect_fail(arg, -ETIMEDOUT);
}

static int timer_start(struct transport_connect *c)
{
	uint32_t timeout_ms =
		c->cluster ? c->cluster->tcp.connect_timeout_ms : worker_settings(c->w)->connect_timeout_ms;
	if (c->timer)
		return 0; /* one time for all of it */
	int rc = loop_timer_new(worker_loop(c->w), on_timeout, c, &c->timer);
	if (rc == 0)
		loop_timer_start(c->timer, timeout_ms ? timeout_ms : CONNECT_TIMEOUT_MS, 0);
	return rc;
}

/* --- TLS --- */

static void on_secured(struct transport *t, int error, void *arg)
{
	struct transport_connect *c = arg;
	c->secured = NULL;
	c->t = t;
	if (t)
		connect_over(c);
	else {
		tls_why(c, transport_failure(c->w));
		connect_fail(c, error);
	}
}

static void way_stands(struct transport_connect *c, struct transport *t)
{
	if (!c->tls) {
		c->t = t;
		connect_over(c);
		return;
	}
	c->secured = transport_tls_open(c->w, t, TAKE(c->tls), on_secured, c);
	if (!c->secured || timer_start(c) < 0)
		connect_fail(c, -ENOMEM);
}

/* --- what goes ahead --- */

static void on_through(struct transport *t, int error, void *arg)
{
	struct transport_connect *c = arg;
	c->through = NULL;
	if (t)
		way_stands(c, t);
	else
		connect_fail(c, error);
}

/* The way to the endpoint, or to a proxy, stands. */
static void step_done(struct transport_connect *c, struct transport *t)
{
	const struct http_cluster *cluster = c->cluster;
	if (cluster && cluster->proxy_protocol)
		transport_proxy_header(t, cluster->proxy_protocol, &t->local, &c->to);
	if (!cluster || !cluster->proxy_host) {
		way_stands(c, t);
		return;
	}
	c->through = transport_through(t, cluster->proxy_host, on_through, c);
	if (!c->through || timer_start(c) < 0)
		connect_fail(c, -ENOMEM);
}

/* --- a socket --- */

static int errno_of(int error)
{
	return error == -ETIMEDOUT || error == -EPERM || error == -ENOMEM ? error : -ECONNREFUSED;
}

static void socket_fail(struct transport_connect *c, int error)
{
	connect_why(c, "delayed connect error: ", strerror(-error)); /* Envoy's words */
	connect_fail(c, errno_of(error));
}

static void connect_stands(struct transport_connect *c)
{
	int fd = c->fd;
	c->fd = -1;
	loop_io_free(TAKE(c->io));
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct transport *t;
	bool named = getsockname(fd, (struct sockaddr *)&sa, &len) == 0;
	int rc = transport_socket_new(c->w, fd, NULL, 0, &t);
	if (rc < 0) {
		connect_fail(c, rc);
		return;
	}
	if (named)
		addr_from_sockaddr((struct sockaddr *)&sa, &t->local);
	t->remote = c->to;
	step_done(c, t);
}

static void on_connected(struct loop_io *io, int events, void *arg)
{
	struct transport_connect *c = arg;
	int error = 0;
	socklen_t len = sizeof(error);
	(void)io;
	(void)events;
	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error)
		socket_fail(c, -error);
	else
		connect_stands(c);
}

static void on_socket(int fd, void *arg)
{
	struct transport_connect *c = arg;
	c->wait = NULL;
	if (fd < 0) {
		connect_fail(c, fd == -ENOMEM ? fd : -ETIMEDOUT); /* counted by the worker */
		return;
	}
	c->fd = fd;
	if (c->cluster)
		transport_keepalive(fd, &c->cluster->tcp);
	int rc = transport_dial(fd, c->cluster ? NULL : &c->from, &c->to, c->near);
	if (rc == 0) {
		connect_stands(c);
		return;
	}
	if (rc != -EINPROGRESS) {
		socket_fail(c, rc);
		return;
	}
	rc = loop_io_open(worker_loop(c->w), fd, LOOP_WRITE, on_connected, c, &c->io);
	if (rc == 0)
		rc = timer_start(c);
	if (rc < 0)
		connect_fail(c, rc);
}

static struct transport_connect *connect_new(struct worker *w, struct worker_pod *pod, transport_connect_fn fn,
					     void *arg)
{
	struct transport_connect *c = calloc(1, sizeof(*c));
	if (!c)
		abort(); /* the callback is promised, and there is no memory to keep the promise */
	c->w = w;
	c->pod = worker_pod_ref(pod);
	c->fd = -1;
	c->fn = fn;
	c->arg = arg;
	c->inside = true;
	return c;
}

static void connect_socket(struct transport_connect *c, enum pod_socket kind)
{
	struct worker_wait *wait = worker_socket_take(c->w, c->pod, kind, on_socket, c);
	if (wait)
		c->wait = wait;
}

/* --- HBONE --- */

static void on_opened(struct transport *t, int error, void *arg)
{
	struct transport_connect *c = arg;
	c->opening = NULL;
	if (t)
		step_done(c, t);
	else
		connect_fail(c, error);
}

static void connect_hbone(struct transport_connect *c, const struct cluster_endpoint *endpoint)
{
	const struct tcp_settings *tcp = &c->cluster->tcp;
	struct endpoint_info info = {
		.endpoint = endpoint->addr,
		.known = true,
		.hbone = true,
		.tunnel = endpoint->tunnel_addr,
		.identities = endpoint->identities,
		.identity_count = endpoint->identity_count,
		.connect_timeout_ms = tcp->connect_timeout_ms,
		.keepalive_time_s = tcp->keepalive_time_s,
		.keepalive_interval_s = tcp->keepalive_interval_s,
		.keepalive_probes = tcp->keepalive_probes,
	};
	if (info.identity_count == 0) {
		connect_fail(c, -EPERM); /* nobody could be expected there */
		return;
	}
	c->opening = hbone_open(worker_hbone(c->w), c->pod, &info, on_opened, c);
	if (!c->opening)
		connect_fail(c, -ENOMEM);
}

/* --- what is called --- */

/* TLS that can't be had is never left out. */
static int prepare_tls(struct transport_connect *c, const struct cluster_endpoint *endpoint, const char *alpn,
		       const char *sni)
{
	struct err err = ERR_INIT;
	if (!transport_wants_tls(c->cluster, endpoint))
		return 0;
	int rc = transport_tls_client(c->w, c->pod, c->cluster, endpoint, alpn, sni, &c->tls, &err);
	if (rc < 0 && err.code) {
		log_debug("cluster %s: %s", c->cluster->name ? c->cluster->name : "", err.text);
		tls_why(c, err.text);
	}
	return rc == -ENOMEM ? rc : rc < 0 ? -EPERM : 0;
}

struct transport_connect *transport_connect(struct worker *w, struct worker_pod *pod,
					    const struct http_cluster *cluster, const struct cluster_endpoint *endpoint,
					    const char *alpn, const char *sni, transport_connect_fn fn, void *arg)
{
	struct transport_connect *c = connect_new(w, pod, fn, arg);
	c->cluster = http_cluster_ref((struct http_cluster *)(uintptr_t)cluster);
	c->to = endpoint->addr;
	c->near = endpoint->local;
	struct transport *beside = transport_beside(w, pod, cluster, endpoint, alpn);
	int rc = beside ? 0 : prepare_tls(c, endpoint, alpn, sni);
	if (beside)
		way_stands(c, beside);
	else if (rc < 0)
		connect_fail(c, rc);
	else if (endpoint->tunnel == ENDPOINT_HBONE)
		connect_hbone(c, endpoint);
	else
		connect_socket(c, POD_CONNECT_REMOTE);
	c->inside = false;
	return c;
}

struct transport_connect *transport_connect_local(struct worker *w, struct worker_pod *pod,
						  const struct addr_port *peer, const struct addr_port *local,
						  transport_connect_fn fn, void *arg)
{
	struct transport_connect *c = connect_new(w, pod, fn, arg);
	c->to = pod_inbound_target(pod, local);
	c->from = *peer;
	c->near = true;
	connect_socket(c, POD_CONNECT_LOCAL);
	c->inside = false;
	return c;
}

void transport_connect_cancel(struct transport_connect *c)
{
	if (!c)
		return;
	c->cancelled = true;
	if (!c->deferred)
		connect_free(c);
}
