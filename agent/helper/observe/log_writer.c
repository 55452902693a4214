/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/log_writer.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SINKS_MAX = 16, QUEUE_BYTES_MAX = 8 << 20, PATIENCE_MS = 1000 };

struct sink {
	char *path;
	int fd;	       /* -1: none */
	size_t queued; /* chunks; its place is free again when there are none, and no descriptor */
	bool stuck;    /* took nothing for a second: the next chunk isn't waited for */
	bool torn;     /* the last line has no end */
};

struct chunk {
	STAILQ_ENTRY(chunk) next;
	size_t sink, len;
	uint32_t count;
	char *bytes;
};

struct log_writer {
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_t thread;
	STAILQ_HEAD(, chunk) queue;
	size_t queued_bytes;
	struct sink sinks[SINKS_MAX];
	size_t sink_count;
	uint64_t dropped;
	bool stopping;
};

static void chunk_free(struct chunk *c)
{
	free(c->bytes);
	free(c);
}

/* The descriptors are shared with the agent, and so may block: what is not a file gets no more than a pipe that is ready has
 * room for (pipe(7)). Returns how much was written: all of it, unless the descriptor takes nothing for so long. */
static size_t write_all(int fd, const char *p, size_t n, int patience_ms)
{
	struct stat st;
	bool file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	size_t done = 0;
	while (done < n) {
		struct pollfd wait = { .fd = fd, .events = POLLOUT };
		int ready = poll(&wait, 1, patience_ms);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0 || !(wait.revents & POLLOUT))
			break;
		size_t part = !file && n - done > PIPE_BUF ? PIPE_BUF : n - done;
		ssize_t wrote = write(fd, p + done, part);
		if (wrote > 0)
			done += (size_t)wrote;
		else if (wrote == 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return done;
}

/* Lines that are not there whole. */
static uint32_t lines_lost(const struct chunk *c, size_t written)
{
	uint32_t n = 0;
	for (size_t i = written; i < c->len; i++)
		n += c->bytes[i] == '\n';
	return n < c->count ? n : c->count;
}

/* The lock is held, but not while it writes: the sink may be replaced meanwhile, so a duplicate is written to. */
static void chunk_write(struct log_writer *w, struct chunk *c)
{
	struct sink *s = &w->sinks[c->sink];
	int fd = s->fd >= 0 ? fcntl(s->fd, F_DUPFD_CLOEXEC, 0) : -1, patience_ms = s->stuck ? 0 : PATIENCE_MS;
	bool torn = s->torn;
	size_t written = 0;
	pthread_mutex_unlock(&w->lock);
	if (fd >= 0 && (!torn || write_all(fd, "\n", 1, patience_ms) == 1)) {
		torn = false;
		written = write_all(fd, c->bytes, c->len, patience_ms);
	}
	if (fd >= 0)
		close(fd);
	pthread_mutex_lock(&w->lock);
	s->stuck = written < c->len;
	s->torn = written ? c->bytes[written - 1] != '\n' : torn;
	s->queued--;
	w->queued_bytes -= c->len;
	w->dropped += lines_lost(c, written);
	chunk_free(c);
}

static void *run(void *arg)
{
	struct log_writer *w = arg;
	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct chunk *c = STAILQ_FIRST(&w->queue);
		if (c) {
			STAILQ_REMOVE_HEAD(&w->queue, next);
			chunk_write(w, c);
		} else if (w->stopping) {
			break;
		} else {
			pthread_cond_wait(&w->work, &w->lock);
		}
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int log_writer_new(struct log_writer **out)
{
	struct log_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	STAILQ_INIT(&w->queue);
	int rc = pthread_create(&w->thread, NULL, run, w);
	if (rc) {
		free(w);
		return -rc;
	}
	*out = w;
	return 0;
}

void log_writer_free(struct log_writer *w)
{
	if (!w)
		return;
	struct timespec until;
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_MS / 1000;
	if (pthread_timedjoin_np(w->thread, NULL, &until) != 0)
		return; /* it still writes, and the process is about to end */
	for (size_t i = 0; i < w->sink_count; i++) {
		free(w->sinks[i].path);
		fd_closep(&w->sinks[i].fd);
	}
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static struct sink *sink_find(struct log_writer *w, const char *path)
{
	for (size_t i = 0; i < w->sink_count; i++)
		if (w->sinks[i].path && str_eq(w->sinks[i].path, path))
			return &w->sinks[i];
	return NULL;
}

/* A place for one more path: that of one which has ended, or a new one. */
static struct sink *sink_place(struct log_writer *w)
{
	for (size_t i = 0; i < w->sink_count; i++)
		if (w->sinks[i].fd < 0 && !w->sinks[i].queued)
			return &w->sinks[i];
	return w->sink_count < SINKS_MAX ? &w->sinks[w->sink_count++] : NULL;
}

static int sink_set(struct log_writer *w, const char *path, int fd)
{
	struct sink *s = sink_find(w, path);
	if (!s) {
		char *copy = strdup(path);
		if (!copy)
			return -ENOMEM;
		s = sink_place(w);
		if (!s) {
			free(copy);
			return -E2BIG;
		}
		free(s->path);
		*s = (struct sink){ .path = copy, .fd = -1 };
	}
	fd_closep(&s->fd);
	s->fd = fd;
	s->stuck = s->torn = false;
	return 0;
}

int log_writer_sink(struct log_writer *w, const char *path, int fd)
{
	pthread_mutex_lock(&w->lock);
	int rc = sink_set(w, path, fd);
	pthread_mutex_unlock(&w->lock);
	if (rc < 0 && fd >= 0)
		close(fd);
	return rc;
}

bool log_writer_put(struct log_writer *w, const char *path, char *lines, size_t len, uint32_t count)
{
	struct chunk *c = malloc(sizeof(*c));
	pthread_mutex_lock(&w->lock);
	struct sink *s = sink_find(w, path);
	bool takes = c && s && s->fd >= 0 && w->queued_bytes + len <= QUEUE_BYTES_MAX;
	if (takes) {
		*c = (struct chunk){ .sink = (size_t)(s - w->sinks), .len = len, .count = count, .bytes = lines };
		STAILQ_INSERT_TAIL(&w->queue, c, next);
		w->queued_bytes += len;
		s->queued++;
		pthread_cond_signal(&w->work);
	} else {
		w->dropped += count;
	}
	pthread_mutex_unlock(&w->lock);
	if (!takes) {
		free(c);
		free(lines);
	}
	return takes;
}

uint64_t log_writer_dropped(struct log_writer *w)
{
	pthread_mutex_lock(&w->lock);
	uint64_t n = w->dropped;
	w->dropped = 0;
	pthread_mutex_unlock(&w->lock);
	return n;
}

bool log_writer_busy(struct log_writer *w)
{
	pthread_mutex_lock(&w->lock);
	bool busy = w->queued_bytes > 0;
	pthread_mutex_unlock(&w->lock);
	return busy;
}
