/* SPDX-License-Identifier: Apache-2.0 */
/* One helper process: start, watch, first messages, end. */
#include "agent/link/supervisor_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"

enum { READY_TIMEOUT_MS = 5000, EXIT_TIMEOUT_MS = 5000 };

void peer_log(struct supervisor *s, enum log_level level, const char *format, ...)
{
	char text[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (s->events.on_log)
		s->events.on_log(level, text, s->events.arg);
}

void peer_condemn(struct peer *peer, const char *why)
{
	if (peer->condemned)
		return;
	peer->condemned = true;
	peer->s->protocol_errors++;
	peer_log(peer->s, LOG_ERROR, "weft-helper (pid %d): %s; it is killed and replaced", (int)peer->process.pid,
		 why);
	process_signal(&peer->process, SIGKILL);
	channel_free(TAKE(peer->channel));
}

int peer_send(struct peer *peer, Weft__Link__ToHelper__MsgCase which, void *message, const int *fds, size_t fd_count)
{
	if (!peer->channel)
		return -EPIPE;
	Weft__Link__ToHelper wrapped = WEFT__LINK__TO_HELPER__INIT;
	wrapped.msg_case = which;
	wrapped.hello = message; /* every member of the union is a pointer */
	int rc = message_send(peer->channel, &wrapped.base, fds, fd_count);
	if (rc == -ENOBUFS || rc == -ENOMEM)
		peer_condemn(peer, "it does not read what it is sent");
	return rc;
}

void peer_drain(struct peer *peer)
{
	if (peer->draining)
		return;
	peer->draining = true;
	Weft__Link__Drain drain = WEFT__LINK__DRAIN__INIT;
	drain.timeout_ms = peer->s->drain_ms;
	peer_send(peer, WEFT__LINK__TO_HELPER__MSG_DRAIN, &drain, NULL, 0);
}

/* --- start and end --- */

/* Sealed, so that the helper can't take pages away from under the agent's reads. */
static int memory_make(struct link_memory **out, int *fd_out, struct err *err)
{
	AUTO(fd_closep) int fd = memfd_create("weft-metrics", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, sizeof(struct link_memory)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_sys(err, -errno, "make the helper's metrics memory");
	struct link_memory *m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED)
		return err_sys(err, -errno, "map the helper's metrics memory");
	m->metrics.magic = LINK_METRICS_MAGIC;
	m->requests.magic = REQUEST_METRICS_MAGIC;
	m->metrics.version = m->requests.version = LINK_VERSION;
	m->metrics.shard_count = m->requests.shard_count = LINK_SHARDS_MAX;
	m->requests.series_max = REQUEST_SERIES_MAX;
	*out = m;
	*fd_out = fd;
	fd = -1;
	return 0;
}

static void on_peer_exit(struct loop_io *io, int events, void *arg)
{
	struct peer *peer = arg;
	char how[160] = "has ended"; /* nobody tells how who is not its parent */
	(void)events;
	if (!peer->rejoined && !process_reap(&peer->process, how, sizeof(how)))
		return;
	loop_io_set(io, 0);
	supervisor_peer_ended(peer, how);
}

void peer_on_closed(const struct err *err, void *arg)
{
	struct peer *peer = arg;
	channel_free(TAKE(peer->channel));
	if (err->code == -EPIPE && peer->draining) {
		loop_timer_start(peer->timer, EXIT_TIMEOUT_MS, 0); /* it is done and about to end by itself */
		return;
	}
	/* Nothing more can be asked of it; when it died, its end is about to be noticed anyway. */
	process_signal(&peer->process, SIGKILL);
	if (err->code != -EPIPE) {
		peer->s->protocol_errors++;
		peer_log(peer->s, LOG_ERROR, "weft-helper (pid %d): %s; it is killed and replaced",
			 (int)peer->process.pid, err->text);
	}
}

static void on_peer_timeout(struct loop_timer *timer, void *arg)
{
	struct peer *peer = arg;
	(void)timer;
	peer_condemn(peer, peer->ready ? "it was drained and did not end" : "it was not ready within 5 s of its start");
}

int peer_watch(struct peer *peer, struct process *process)
{
	int rc = loop_io_new(peer->s->loop, process->pidfd, on_peer_exit, peer, &peer->exit_io);
	if (rc == 0)
		rc = loop_io_set(peer->exit_io, LOOP_READ);
	if (rc < 0) {
		loop_io_free(TAKE(peer->exit_io));
		return rc;
	}
	peer->process = *process;
	process->pidfd = -1;
	return 0;
}

static int peer_spawn(struct peer *peer, struct err *err)
{
	struct supervisor *s = peer->s;
	int pair[2];
	int rc = channel_pair(pair, err);
	if (rc < 0)
		return rc;

	char uid[16], gid[16];
	snprintf(uid, sizeof(uid), "%u", (unsigned int)s->uid);
	snprintf(gid, sizeof(gid), "%u", (unsigned int)s->gid);
	char *const argv[] = { (char[]){ "weft-helper" }, (char[]){ "--uid" }, uid, (char[]){ "--gid" }, gid, NULL };
	struct process process = { .pidfd = -1 };
	rc = process_spawn(s->helper_path, argv, pair[1], &process, err);
	close(pair[1]);
	if (rc < 0) {
		close(pair[0]);
		return rc;
	}
	rc = channel_new(s->loop, pair[0], peer_on_message, peer_on_closed, peer, &peer->channel);
	if (rc == 0)
		channel_limit(peer->channel, LINK_HELPER_MESSAGE_MAX);
	if (rc == 0)
		rc = peer_watch(peer, &process);
	if (rc == 0)
		rc = loop_timer_new(s->loop, on_peer_timeout, peer, &peer->timer);
	if (rc < 0) {
		const struct process *left = process.pidfd >= 0 ? &process : &peer->process;
		process_signal(left, SIGKILL);
		waitpid(left->pid, NULL, 0);
		process_done(&process);
		return err_sys(err, rc, "watch weft-helper");
	}
	loop_timer_start(peer->timer, READY_TIMEOUT_MS, 0);
	return 0;
}

/* All that it must know, without waiting for an answer: it is taking connections as soon as it can. */
static void peer_tell_all(struct peer *peer, int metrics_fd)
{
	peer_send(peer, WEFT__LINK__TO_HELPER__MSG_HELLO, peer->s->hello, &metrics_fd, 1);
	rejoin_tell(peer, true);
	peer_tell_rest(peer);
}

void peer_tell_rest(struct peer *peer)
{
	struct supervisor *s = peer->s;
	Weft__Link__SetLogLevel level = WEFT__LINK__SET_LOG_LEVEL__INIT;
	level.level = s->log_level;
	peer_send(peer, WEFT__LINK__TO_HELPER__MSG_LOG_LEVEL, &level, NULL, 0);
	if (s->trust)
		peer_send(peer, WEFT__LINK__TO_HELPER__MSG_TRUST, s->trust, NULL, 0);
	supervisor_observe_tell(peer);
	struct table_iter it = { 0 };
	while (peer->channel && table_next(s->pods, &it)) {
		struct err err = ERR_INIT;
		if (!peer_pod_set(peer, it.value, !peer->outgoing, &err) && err.code != -EPIPE)
			peer_log(s, LOG_ERROR, "%s", err.text);
	}
}

struct peer *peer_new(struct supervisor *s)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	*peer = (struct peer){
		.s = s,
		.serial = ++s->serials,
		.process = { .pidfd = -1 },
		.started_ns = loop_now_ns(s->loop),
		.endpoints = table_new(free),
		.targets = table_new(free),
		.clusters = table_new(free),
		.vhosts = table_new(free),
		.csrs = table_new(free),
		.csr_rate = RATE(200, 2048), /* every identity anew after a restart */
		.socket_rate = RATE(20000, 8192),
		.endpoint_rate = RATE(5000, 10000),
		.target_rate = RATE(2000, 8192),
		.cluster_rate = RATE(5000, 16384),
		.dns_rate = RATE(5000, 5000),
		.drop_rate = RATE(1000, 2000),
		.result_rate = RATE(1000, 2000),
		.log_rate = RATE(100, 1000),
		.bad_rate = RATE(1, 60),
		.span_rate = RATE(500, 1000), /* batches */
		.tap_rate = RATE(5000, 5000),
		.message_rate = RATE(50000, 200000), /* of all kinds: far above any load that makes sense */
	};
	if (peer->endpoints && peer->targets && peer->clusters && peer->vhosts && peer->csrs)
		return peer;
	peer_free(peer);
	return NULL;
}

int peer_start(struct supervisor *s, struct peer **out, struct err *err)
{
	struct peer *peer = peer_new(s);
	if (!peer)
		return err_set(err, -ENOMEM, "start weft-helper: out of memory");
	AUTO(fd_closep) int metrics_fd = -1;
	int rc = memory_make(&peer->memory, &metrics_fd, err);
	if (rc == 0)
		rc = peer_spawn(peer, err);
	if (rc < 0) {
		peer_free(peer);
		return rc;
	}
	peer_tell_all(peer, metrics_fd);
	*out = peer;
	return 0;
}

void peer_free(struct peer *peer)
{
	if (!peer)
		return;
	channel_free(peer->channel);
	loop_io_free(peer->exit_io);
	if (peer->timer)
		loop_timer_free(peer->timer);
	loop_timer_free(peer->prune);
	free(peer->unsure);
	process_done(&peer->process);
	if (peer->memory)
		munmap(peer->memory, sizeof(*peer->memory));
	table_free(peer->endpoints);
	table_free(peer->targets);
	table_free(peer->clusters);
	table_free(peer->vhosts);
	table_free(peer->csrs);
	free(peer);
}
