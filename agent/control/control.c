/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control/control.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/backend.h"
#include "agent/control/internal.h"
#include "agent/control/server.h"

/* A follower that has gone away is found out by writing to it. */
enum { HEARTBEAT_MS = 15000 };

struct control {
	struct control_backend backend;
	struct loop *loop;
	struct server *admin, *metrics;
	struct loop_timer *heartbeat, *wake;
	char *socket_path;
	uint64_t socket_inode;
	bool has_group, group_may_change, closing;
	gid_t group;
	uint16_t metrics_port;
	struct request *waiting;
	struct follower *followers;
	struct tap_reader *taps;
};

const struct control_backend *control_backend(const struct control *c)
{
	return &c->backend;
}

bool control_group(const struct control *c, gid_t *gid, bool *may_change)
{
	*gid = c->group;
	*may_change = c->group_may_change;
	return c->has_group;
}

struct loop *control_loop(const struct control *c)
{
	return c->loop;
}

bool control_is_closing(const struct control *c)
{
	return c->closing;
}

struct request **control_waiting(struct control *c)
{
	return &c->waiting;
}

struct follower **control_followers(struct control *c)
{
	return &c->followers;
}

struct tap_reader **control_taps(struct control *c)
{
	return &c->taps;
}

static void on_heartbeat(struct loop_timer *timer, void *arg)
{
	(void)timer;
	followers_wake(arg, true);
}

static void on_wake(struct loop_timer *timer, void *arg)
{
	(void)timer;
	followers_wake(arg, false);
}

void control_flows_added(struct control *c)
{
	if (c->followers)
		loop_timer_start(c->wake, 0, 0);
}

static int open_admin(struct control *c, const struct control_options *o, struct err *err)
{
	if (!o->socket_path)
		return 0;
	struct group *g = o->group && *o->group ? getgrnam(o->group) : NULL;
	c->has_group = g != NULL;
	c->group = g ? g->gr_gid : 0;
	c->group_may_change = o->group_may_change;
	int fd = socket_listen_unix(o->socket_path, o->group, &c->socket_inode, err);
	if (fd < 0)
		return fd;
	c->socket_path = strdup(o->socket_path);
	int rc = server_new(c->loop, c, fd, true, &c->admin, err);
	return rc == 0 && !c->socket_path ? err_set(err, -ENOMEM, "admin API: no memory") : rc;
}

static int open_metrics(struct control *c, const struct control_options *o, struct err *err)
{
	if (!o->metrics_listen || str_eq(o->metrics_listen, "off"))
		return 0;
	int fd = socket_listen_tcp(o->metrics_listen, &c->metrics_port, err);
	return fd < 0 ? fd : server_new(c->loop, c, fd, false, &c->metrics, err);
}

int control_new(const struct control_options *options, const struct control_backend *backend, struct control **out,
		struct err *err)
{
	struct control *c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, -ENOMEM, "admin API: no memory");
	c->backend = *backend;
	c->loop = options->loop;
	int rc = loop_timer_new(c->loop, on_heartbeat, c, &c->heartbeat);
	if (rc == 0)
		rc = loop_timer_new(c->loop, on_wake, c, &c->wake);
	if (rc < 0)
		err_sys(err, rc, "admin API: timer");
	if (rc == 0)
		rc = open_admin(c, options, err);
	if (rc == 0)
		rc = open_metrics(c, options, err);
	if (rc < 0) {
		control_free(c);
		return rc;
	}
	loop_timer_start(c->heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
	*out = c;
	return 0;
}

/* Only when it is still ours: the next agent may have put its own in its place. */
static void socket_remove(const struct control *c)
{
	struct stat st;

	if (c->socket_path && stat(c->socket_path, &st) == 0 && st.st_ino == c->socket_inode)
		unlink(c->socket_path);
}

void control_free(struct control *c)
{
	if (!c)
		return;
	c->closing = true;
	/* libmicrohttpd must not be stopped while a connection is suspended. */
	while (c->waiting) {
		struct request *rq = c->waiting;
		request_cancel_waiting(rq); /* takes itself off the list */
	}
	followers_wake(c, false);
	taps_end(c);
	socket_remove(c);
	server_free(c->admin);
	server_free(c->metrics);
	loop_timer_free(c->heartbeat);
	loop_timer_free(c->wake);
	free(c->socket_path);
	free(c);
}

uint16_t control_metrics_port(const struct control *c)
{
	return c->metrics_port;
}
