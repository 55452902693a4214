/* SPDX-License-Identifier: Apache-2.0 */
/* A stream to a port of unknown protocol whose client says nothing may wait for its server. After a moment the application
 * is called while the client is still listened to (as worker_accept.c does for sockets): what speaks first decides. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/transport_dial.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { AHEAD_MS = 10 };

static void unquiet(struct hbone_stream *s)
{
	if (!s->quiet)
		return;
	s->quiet = false;
	TAILQ_REMOVE(&s->h->quiet, s, queue);
}

void ahead_leave(struct hbone_stream *s)
{
	unquiet(s);
	if (s->ahead == AHEAD_NONE)
		return;
	s->ahead = AHEAD_NONE;
	worker_wait_cancel(TAKE(s->wait));
	loop_io_free(TAKE(s->io));
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

bool ahead_take(struct hbone_stream *s)
{
	if (s->ahead != AHEAD_OPEN) {
		ahead_leave(s); /* what is not there yet begins anew, under the usual deadline */
		return false;
	}
	unquiet(s);
	s->ahead = AHEAD_NONE;
	loop_io_free(TAKE(s->io));
	return true;
}

static void on_spoke(struct loop_io *io, int events, void *arg)
{
	struct hbone_stream *s = arg;
	struct hbone *h = s->h;
	(void)io;
	(void)events;
	if (s->ahead != AHEAD_OPEN)
		return;
	hbone_enter(h);
	inbound_late(s);
	hbone_leave(h);
}

static void open_done(struct hbone_stream *s)
{
	s->ahead = AHEAD_OPEN;
	loop_io_free(TAKE(s->io));
	if (loop_io_open(s->h->loop, s->fd, LOOP_READ, on_spoke, s, &s->io) < 0)
		ahead_leave(s);
}

static void on_connected(struct loop_io *io, int events, void *arg)
{
	struct hbone_stream *s = arg;
	int error = 0;
	socklen_t len = sizeof(error);
	(void)io;
	(void)events;
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error)
		ahead_leave(s); /* it may still be HTTP; its time will tell */
	else
		open_done(s);
}

static void on_socket(int fd, void *arg)
{
	struct hbone_stream *s = arg;
	s->wait = NULL;
	s->fd = fd;
	int rc = fd < 0 ? fd : transport_dial(fd, &s->conn->remote, &s->destination, true);
	if (rc == 0)
		open_done(s);
	else if (rc != -EINPROGRESS || loop_io_open(s->h->loop, fd, LOOP_WRITE, on_connected, s, &s->io) < 0)
		ahead_leave(s);
}

static void ahead_begin(struct hbone_stream *s)
{
	unquiet(s);
	if (s->to_app.len || !inbound_admits(s))
		return; /* it has begun to speak, or would be refused */
	s->ahead = AHEAD_CONNECTING;
	struct worker_wait *wait = worker_socket_take(s->h->w, s->pod, POD_CONNECT_LOCAL, on_socket, s);
	if (wait)
		s->wait = wait;
}

static void on_quiet(struct loop_timer *timer, void *arg)
{
	struct hbone *h = arg;
	struct hbone_stream *s;
	uint32_t now = (uint32_t)hbone_now_ms(h);
	(void)timer;
	hbone_enter(h);
	while ((s = TAILQ_FIRST(&h->quiet)) && now - s->quiet_ms >= AHEAD_MS)
		ahead_begin(s);
	if (s)
		loop_timer_start(h->quiet_timer, AHEAD_MS, 0);
	hbone_leave(h);
}

void ahead_wait(struct hbone_stream *s)
{
	struct hbone *h = s->h;
	if (TAILQ_EMPTY(&h->quiet))
		loop_timer_start(h->quiet_timer, AHEAD_MS, 0);
	s->quiet = true;
	s->quiet_ms = (uint32_t)hbone_now_ms(h);
	TAILQ_INSERT_TAIL(&h->quiet, s, queue);
}

int ahead_init(struct hbone *h)
{
	TAILQ_INIT(&h->quiet);
	return loop_timer_new(h->loop, on_quiet, h, &h->quiet_timer);
}
