/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers that outlive their agent. Each has a listening socket, helper-PID.sock in the agent's directory, at which the next
 * agent calls. A helper that answers is one more peer from then on: it drains, its questions are answered, and policies,
 * trust and certificates that change are its too. One that does not (another version of the link) is only known by its
 * process: SIGTERM drains it, and a change of the rules ends it. */
#include "agent/link/supervisor_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"

enum { ANSWER_TIMEOUT_MS = 5000, PRUNE_MS = 30000 };

/* --- names --- */

/* By way of the directory's descriptor: its own path may be longer than an address can be. */
static int socket_at(const struct supervisor *s, pid_t pid, struct sockaddr_un *at)
{
	int dir = open(s->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(at->sun_path, sizeof(at->sun_path), "/proc/self/fd/%d/helper-%d.sock", dir, (int)pid);
	return dir;
}

void rejoin_unlink(const struct supervisor *s, pid_t pid)
{
	struct sockaddr_un at;
	AUTO(fd_closep) int dir = socket_at(s, pid, &at);
	if (dir >= 0)
		unlink(at.sun_path);
}

/* Those of helpers that ended while no agent was there. */
static void rejoin_sweep(const struct supervisor *s)
{
	DIR *dir = opendir(s->run_dir);
	const struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		int pid, end = 0;
		if (sscanf(entry->d_name, "helper-%d.sock%n", &pid, &end) != 1 || !end || entry->d_name[end])
			continue;
		bool used = false;
		for (size_t i = 0; i < ORPHANS_MAX; i++)
			used |= s->orphans[i] && s->orphans[i]->process.pid == pid;
		if (!used)
			rejoin_unlink(s, pid);
	}
	if (dir)
		closedir(dir);
}

/* --- what a new helper is given --- */

static int rejoin_listen(const struct supervisor *s, pid_t pid)
{
	struct sockaddr_un at;
	AUTO(fd_closep) int dir = socket_at(s, pid, &at);
	if (dir < 0)
		return dir;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlink(at.sun_path);
	/* The mode of a socket is that of its name: root alone may call. */
	if (fchmod(fd, 0600) == 0 && bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 1) == 0)
		return fd;
	int rc = -errno;
	close(fd);
	return rc;
}

void rejoin_tell(struct peer *peer, bool with_socket)
{
	struct supervisor *s = peer->s;
	Weft__Link__Rejoin m = WEFT__LINK__REJOIN__INIT;
	m.drain_timeout_ms = s->drain_ms;
	int fd = with_socket ? rejoin_listen(s, peer->process.pid) : -1;
	if (with_socket && fd < 0)
		peer_log(s, LOG_WARN, "%s/helper-%d.sock: %s; an agent after this one can't speak with this helper",
			 s->run_dir, (int)peer->process.pid, strerror(-fd));
	peer_send(peer, WEFT__LINK__TO_HELPER__MSG_REJOIN, &m, &fd, fd >= 0);
	fd_closep(&fd);
}

/* --- helpers of an agent before this one --- */

static void orphan_free(struct orphan *o)
{
	if (o->peer)
		peer_free(o->peer);
	loop_io_free(o->exit_io);
	process_done(&o->process);
	free(o);
}

static void orphan_forget(struct orphan *o)
{
	struct supervisor *s = o->s;
	for (size_t i = 0; i < ORPHANS_MAX; i++)
		if (s->orphans[i] == o)
			s->orphans[i] = NULL;
	orphan_free(o);
}

static void on_orphan_exit(struct loop_io *io, int events, void *arg)
{
	struct orphan *o = arg;
	struct supervisor *s = o->s;
	(void)io;
	(void)events;
	rejoin_unlink(s, o->process.pid);
	orphan_forget(o);
	supervisor_note_pids(s);
}

static int orphan_watch(struct orphan *o)
{
	int rc = loop_io_new(o->s->loop, o->process.pidfd, on_orphan_exit, o, &o->exit_io);
	return rc < 0 ? rc : loop_io_set(o->exit_io, LOOP_READ);
}

/* What was to be done with it, had it not been called. */
static void orphan_settle(struct orphan *o)
{
	if (o->peer)
		return;
	if (o->s->orphans_ending)
		process_signal(&o->process, SIGKILL);
	else if (o->s->orphans_draining)
		process_signal(&o->process, SIGTERM);
}

static void orphan_give_up(struct orphan *o, const char *why)
{
	peer_log(o->s, LOG_WARN, "weft-helper (pid %d) of an agent before this one can't be spoken with: %s",
		 (int)o->process.pid, why);
	peer_free(TAKE(o->peer));
	orphan_settle(o);
}

static void on_orphan_closed(const struct err *err, void *arg)
{
	struct peer *peer = arg;
	if (peer->orphan)
		orphan_give_up(peer->orphan, err->text);
	else
		peer_on_closed(err, peer);
}

static void on_answer_timeout(struct loop_timer *timer, void *arg)
{
	struct peer *peer = arg;
	(void)timer;
	if (peer->orphan)
		orphan_give_up(peer->orphan, "it does not answer");
	else
		peer_condemn(peer, "it was drained and did not end");
}

static void orphan_call(struct orphan *o)
{
	struct supervisor *s = o->s;
	struct sockaddr_un at;
	AUTO(fd_closep) int dir = socket_at(s, o->process.pid, &at);
	int fd = dir < 0 ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)&at, sizeof(at)) < 0) {
		close(fd); /* one of a version that has none */
		return;
	}
	channel_buffers(fd);
	struct peer *peer = peer_new(s);
	if (!peer) {
		close(fd);
		return;
	}
	peer->orphan = o;
	int rc = channel_new(s->loop, fd, peer_on_message, on_orphan_closed, peer, &peer->channel);
	if (rc == 0)
		rc = loop_timer_new(s->loop, on_answer_timeout, peer, &peer->timer);
	if (rc < 0) {
		peer_free(peer);
		return;
	}
	channel_limit(peer->channel, LINK_HELPER_MESSAGE_MAX);
	loop_timer_start(peer->timer, ANSWER_TIMEOUT_MS, 0);
	o->peer = peer;
}

void supervisor_find_orphans(struct supervisor *s)
{
	struct process found[ORPHANS_MAX];
	size_t count = process_file_read(s->pid_file, found, ORPHANS_MAX);
	for (size_t i = 0; i < count; i++) {
		struct orphan *o = calloc(1, sizeof(*o));
		if (!o) {
			process_done(&found[i]);
			continue;
		}
		o->s = s;
		o->process = found[i];
		if (orphan_watch(o) < 0) {
			orphan_free(o);
			continue;
		}
		s->orphans[i] = o;
		peer_log(s, LOG_INFO, "weft-helper (pid %d) of an agent before this one is still running",
			 (int)o->process.pid);
		orphan_call(o);
	}
	rejoin_sweep(s);
}

void supervisor_orphans_free(struct supervisor *s)
{
	for (size_t i = 0; i < ORPHANS_MAX; i++)
		if (s->orphans[i])
			orphan_free(TAKE(s->orphans[i]));
}

void supervisor_orphans_drain(struct supervisor *s)
{
	s->orphans_draining = true;
	for (size_t i = 0; i < ORPHANS_MAX; i++)
		if (s->orphans[i])
			orphan_settle(s->orphans[i]);
}

/* They can't be told: what they still carry would go on by the rules of the agent before this one. */
void supervisor_orphans_end(struct supervisor *s)
{
	s->orphans_ending = true;
	for (size_t i = 0; i < ORPHANS_MAX; i++) {
		if (!s->orphans[i] || s->orphans[i]->peer)
			continue;
		peer_log(s, LOG_INFO, "weft-helper (pid %d) of an agent before this one ends: the rules have changed",
			 (int)s->orphans[i]->process.pid);
		orphan_settle(s->orphans[i]);
	}
}

/* --- the answer --- */

/* Only what nobody can take pages away from, nor make reads wait for. */
static struct link_memory *memory_take(int fd)
{
	enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 ||
	    st.st_size != (off_t)sizeof(struct link_memory))
		return NULL;
	struct link_memory *m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return m == MAP_FAILED ? NULL : m;
}

/* Pods that it has and this agent has not, once there was time to enrol them. */
static void on_prune(struct loop_timer *timer, void *arg)
{
	struct peer *peer = arg;
	(void)timer;
	for (size_t i = 0; i < peer->unsure_count; i++) {
		Weft__Link__PodRemove m = WEFT__LINK__POD_REMOVE__INIT;
		m.cookie = peer->unsure[i];
		if (!table_get(peer->s->pods, &m.cookie, sizeof(m.cookie)))
			peer_send(peer, WEFT__LINK__TO_HELPER__MSG_POD_REMOVE, &m, NULL, 0);
	}
	free(TAKE(peer->unsure));
	peer->unsure_count = 0;
}

static void unsure_keep(struct peer *peer, const Weft__Link__Rejoined *m)
{
	if (!m->n_pods || loop_timer_new(peer->s->loop, on_prune, peer, &peer->prune) < 0)
		return;
	peer->unsure = malloc(m->n_pods * sizeof(*peer->unsure));
	if (!peer->unsure)
		return;
	memcpy(peer->unsure, m->pods, m->n_pods * sizeof(*peer->unsure));
	peer->unsure_count = m->n_pods;
	loop_timer_start(peer->prune, PRUNE_MS, 0);
}

static int rejoin_take(struct peer *peer, const Weft__Link__ToAgent *m, const int *fds, size_t fd_count)
{
	struct orphan *o = peer->orphan;
	struct supervisor *s = peer->s;
	if (m->msg_case != WEFT__LINK__TO_AGENT__MSG_REJOINED || m->rejoined->version != LINK_VERSION || fd_count != 1)
		return -EPROTO;
	peer->memory = memory_take(fds[0]);
	if (!peer->memory)
		return -EPROTO;
	loop_io_free(TAKE(o->exit_io)); /* a descriptor is watched once */
	if (peer_watch(peer, &o->process) < 0)
		return orphan_watch(o) < 0 ? -EIO : -ENOMEM;
	loop_timer_stop(peer->timer);
	o->peer = NULL;
	peer->orphan = NULL;
	orphan_forget(o);
	peer->ready = peer->outgoing = peer->rejoined = true;
	peer->draining = m->rejoined->draining;
	unsure_keep(peer, m->rejoined);
	struct peer **end = &s->peers;
	while (*end)
		end = &(*end)->next;
	*end = peer;
	return 0;
}

void rejoin_on_message(struct peer *peer, const Weft__Link__ToAgent *m, const int *fds, size_t fd_count)
{
	struct supervisor *s = peer->s;
	int rc = rejoin_take(peer, m, fds, fd_count);
	if (rc < 0) {
		orphan_give_up(peer->orphan, rc == -EPROTO ? "it is of another version" : "out of memory");
		return;
	}
	peer_log(s, LOG_INFO, "weft-helper (pid %d) of an agent before this one is with this one now",
		 (int)peer->process.pid);
	peer_tell_rest(peer);
	supervisor_note_pids(s);
	supervisor_bound_peers(s);
	if (s->current && s->current->ready)
		peer_drain(peer);
}
