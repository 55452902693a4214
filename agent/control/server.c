/* SPDX-License-Identifier: Apache-2.0 */
/* libmicrohttpd in its external-polling mode: its epoll descriptor is one descriptor of our loop. What it wants to do
 * without an event (a resumed connection, a time-out) it tells through MHD_get_timeout, asked after every run.
 *
 * A request's life: MHD calls on_access for headers, body pieces and the end; the handler runs at the end. Waiting and
 * streaming suspend the MHD connection, so that it costs nothing until it is resumed. */
#include "agent/control/server.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/internal.h"
#include "agent/control/request_internal.h"

enum { CONNECTIONS_MAX = 64, IDLE_TIMEOUT_S = 30, GROUPS_MAX = 64 };

struct server {
	struct MHD_Daemon *mhd;
	struct control *control;
	struct loop_io *io;
	struct loop_timer *timer;
	bool admin;
};

struct peer_rights {
	bool read, change;
};

static bool in_group(int fd, gid_t primary, gid_t want)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (primary == want)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(gid_t); i++)
		if (groups[i] == want)
			return true;
	return false;
}

static struct peer_rights rights_of(const struct request *rq)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(rq->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct ucred cred;
	socklen_t len = sizeof(cred);
	gid_t gid;
	bool change;

	if (!rq->server->admin)
		return (struct peer_rights){ .read = true };
	if (!info || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return (struct peer_rights){ 0 };
	if (cred.uid == 0 || cred.uid == geteuid())
		return (struct peer_rights){ .read = true, .change = true };
	if (!control_group(rq->server->control, &gid, &change) || !in_group(info->connect_fd, cred.gid, gid))
		return (struct peer_rights){ 0 };
	return (struct peer_rights){ .read = true, .change = change };
}

static void dispatch(struct request *rq, const char *method)
{
	bool wrong_method;
	AUTO(mem_freep) char *asked = strdup(rq->path);
	const struct route *route = route_find(method, rq->path, rq->captures, &wrong_method);
	struct peer_rights rights = rights_of(rq);

	if (rq->body_too_large)
		reply_error(rq, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than %d bytes", REQUEST_BODY_MAX);
	else if (!rights.read)
		reply_error(rq, MHD_HTTP_FORBIDDEN, "only root and the members of the socket's group may ask");
	else if (!route && wrong_method)
		reply_error(rq, MHD_HTTP_METHOD_NOT_ALLOWED, "%s is not for %s; GET /v1 lists what there is", method,
			    asked);
	else if (!route || !(route->flags & (rq->server->admin ? ROUTE_ADMIN : ROUTE_PUBLIC)))
		reply_error(rq, MHD_HTTP_NOT_FOUND, "there is no %s here; %s", asked ? asked : "such path",
			    rq->server->admin ? "GET /v1 lists what there is" :
						"/metrics, /healthz and /readyz are; the rest is on the unix socket");
	else if ((route->flags & ROUTE_CHANGES) && !rights.change)
		reply_error(rq, MHD_HTTP_FORBIDDEN, "only root may change anything here");
	else
		route->fn(rq);
}

static enum MHD_Result reply_send(struct request *rq)
{
	if (!rq->response)
		return MHD_NO;
	enum MHD_Result queued = MHD_queue_response(rq->connection, rq->status, rq->response);
	MHD_destroy_response(TAKE(rq->response)); /* the connection has a reference of its own */
	return queued;
}

static struct request *request_new(struct server *server, struct MHD_Connection *connection, const char *url)
{
	struct request *rq = calloc(1, sizeof(*rq));
	if (!rq)
		return NULL;
	rq->refs = 1;
	rq->server = server;
	rq->connection = connection;
	rq->path = strdup(url);
	if (!rq->path) {
		free(rq);
		return NULL;
	}
	return rq;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
				 const char *version, const char *upload, size_t *upload_size, void **con_cls)
{
	struct request *rq = *con_cls;
	(void)version;

	if (!rq) {
		*con_cls = request_new(cls, connection, url);
		return *con_cls ? MHD_YES : MHD_NO;
	}
	if (*upload_size) {
		if (rq->body.len + *upload_size > REQUEST_BODY_MAX)
			rq->body_too_large = true;
		else
			sb_add_bytes(&rq->body, upload, *upload_size);
		*upload_size = 0;
		return MHD_YES;
	}
	if (!rq->dispatched) {
		rq->dispatched = true;
		dispatch(rq, method);
		/* Not when the backend has answered already, from within the handler. */
		if (rq->waiting) {
			rq->suspended = true;
			MHD_suspend_connection(connection);
			return MHD_YES;
		}
	}
	return reply_send(rq);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
			 enum MHD_RequestTerminationCode code)
{
	struct request *rq = *con_cls;
	(void)cls, (void)connection, (void)code;

	if (!rq)
		return;
	rq->connection = NULL;
	*con_cls = NULL;
	if (rq->response)
		MHD_destroy_response(TAKE(rq->response));
	if (control_is_closing(rq->server->control) && rq->refs > 1)
		rq->server = NULL;
	request_unref(rq);
}

__attribute__((format(printf, 2, 0))) static void on_mhd_log(void *cls, const char *format, va_list args)
{
	char text[256];
	(void)cls;
	vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = 0;
	log_debug("admin API: %s", text);
}

static void server_run(struct server *s)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms;

	MHD_run(s->mhd);
	if (MHD_get_timeout(s->mhd, &timeout_ms) == MHD_YES)
		loop_timer_start(s->timer, timeout_ms, 0);
	else
		loop_timer_stop(s->timer);
}

static void on_readable(struct loop_io *io, int events, void *arg)
{
	(void)io, (void)events;
	server_run(arg);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	(void)timer;
	server_run(arg);
}

void server_run_soon(struct server *s)
{
	loop_timer_start(s->timer, 0, 0);
}

struct control *server_control(const struct server *s)
{
	return s->control;
}

int server_new(struct loop *loop, struct control *control, int fd, bool admin, struct server **out, struct err *err)
{
	struct server *s = calloc(1, sizeof(*s));
	if (!s) {
		close(fd);
		return err_set(err, -ENOMEM, "admin API: no memory");
	}
	s->control = control;
	s->admin = admin;
	s->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
				  on_access, s, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET,
				  fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned int)CONNECTIONS_MAX,
				  MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)IDLE_TIMEOUT_S,
				  MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_END);
	const union MHD_DaemonInfo *info = s->mhd ? MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	int rc = info ? loop_timer_new(loop, on_timer, s, &s->timer) : -EIO;
	if (rc == 0)
		rc = loop_io_new(loop, info->epoll_fd, on_readable, s, &s->io);
	if (rc == 0)
		rc = loop_io_set(s->io, LOOP_READ);
	if (rc < 0) {
		if (!s->mhd)
			close(fd);
		server_free(s);
		return err_sys(err, rc, "admin API: start the HTTP server");
	}
	*out = s;
	return 0;
}

void server_free(struct server *s)
{
	if (!s)
		return;
	loop_io_free(s->io);
	loop_timer_free(s->timer);
	if (s->mhd)
		MHD_stop_daemon(s->mhd);
	free(s);
}
