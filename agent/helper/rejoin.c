/* SPDX-License-Identifier: Apache-2.0 */
/* From one agent to the next. The agent gives its helper a listening socket that has a name in the agent's directory, where
 * only root can call it. When the agent is gone the helper waits there; the agent that comes next calls, is told what the
 * helper has, and from then on answers its questions, renews its certificates and changes its policies as its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/helper/helper_internal.h"
#include "agent/link/channel.h"

struct rejoin {
	struct helper *h;
	int listener, memory; /* -1: none */
	struct loop_io *io;
};

int rejoin_new(struct helper *h, struct rejoin **out)
{
	struct rejoin *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = (struct rejoin){ .h = h, .listener = -1, .memory = -1 };
	*out = r;
	return 0;
}

void rejoin_free(struct rejoin *r)
{
	if (!r)
		return;
	loop_io_free(r->io);
	fd_closep(&r->listener);
	fd_closep(&r->memory);
	free(r);
}

void rejoin_listener(struct rejoin *r, int fd)
{
	loop_io_free(TAKE(r->io));
	fd_closep(&r->listener);
	r->listener = fd;
}

void rejoin_memory(struct rejoin *r, int fd)
{
	fd_closep(&r->memory);
	r->memory = fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

bool rejoin_possible(const struct rejoin *r)
{
	return r->listener >= 0 && r->memory >= 0;
}

static bool is_root(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == 0;
}

static int rejoin_tell(const struct helper *h, const struct rejoin *r, struct channel *channel)
{
	Weft__Link__Rejoined m = WEFT__LINK__REJOINED__INIT;
	Weft__Link__ToAgent wrapped = WEFT__LINK__TO_AGENT__INIT;
	AUTO(mem_freep) uint64_t *pods = calloc(table_count(h->pods) + 1, sizeof(*pods));
	if (!pods)
		return -ENOMEM;
	struct table_iter it = { 0 };
	while (table_next(h->pods, &it))
		pods[m.n_pods++] = ((const struct pod_spec *)it.value)->cookie;
	m.version = LINK_VERSION;
	m.draining = h->draining;
	m.pods = pods;
	wrapped.msg_case = WEFT__LINK__TO_AGENT__MSG_REJOINED;
	wrapped.rejoined = &m;
	return message_send(channel, &wrapped.base, &r->memory, 1);
}

void rejoin_link_closed(const struct err *err, void *helper)
{
	helper_agent_gone(helper, err->text);
}

static void on_caller(struct loop_io *io, int events, void *arg)
{
	struct rejoin *r = arg;
	struct channel *channel;
	(void)events;
	int fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (!is_root(fd)) {
		close(fd);
		return;
	}
	if (channel_new(r->h->loop, fd, control_on_message, rejoin_link_closed, r->h, &channel) < 0)
		return;
	if (rejoin_tell(r->h, r, channel) < 0) {
		channel_free(channel);
		return;
	}
	loop_io_set(io, 0);
	helper_agent_back(r->h, channel);
}

void rejoin_await(struct rejoin *r)
{
	int rc = r->io ? loop_io_set(r->io, LOOP_READ) :
			 loop_io_open(r->h->loop, r->listener, LOOP_READ, on_caller, r, &r->io);
	if (rc < 0)
		log_error("out of memory: the next agent will not find this helper");
}
