/* SPDX-License-Identifier: Apache-2.0 */
/* Access logs that go to a collector: the helper writes their lines into a pipe, as into a file, and what comes out here goes
 * to the exporters. A full pipe is the helper's to count; it never waits for a collector. */
#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/daemon/internal.h"
#include "agent/telemetry/exporters.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 64 << 10, PIPE_BYTES = 512 << 10, READS_PER_WAKE = 8 };

struct log_pipe {
	struct daemon *d;
	char *provider;
	int fd;
	struct loop_io *io;
	bool skips; /* up to the next end of a line, as this one is too long */
	size_t len;
	char bytes[LINE_MAX_BYTES];
};

void log_pipe_free(struct log_pipe *p)
{
	if (!p)
		return;
	loop_io_free(p->io);
	fd_closep(&p->fd);
	free(p->provider);
	free(p);
}

static void lines_take(struct log_pipe *p)
{
	char *from = p->bytes, *end = p->bytes + p->len, *newline;
	while ((newline = memchr(from, '\n', (size_t)(end - from)))) {
		if (!p->skips && newline > from) /* an empty one ends one that was torn */
			exporters_add_line(p->d->exporters, p->provider, from, (size_t)(newline - from));
		p->skips = false;
		from = newline + 1;
	}
	p->len = (size_t)(end - from);
	memmove(p->bytes, from, p->len);
	if (p->len == sizeof(p->bytes)) {
		p->skips = true;
		p->len = 0;
	}
}

static void on_lines(struct loop_io *io, int events, void *arg)
{
	struct log_pipe *p = arg;
	(void)io;
	(void)events;
	for (int i = 0; i < READS_PER_WAKE; i++) {
		ssize_t n = read(p->fd, p->bytes + p->len, sizeof(p->bytes) - p->len);
		if (n == 0)
			loop_io_set(p->io, 0); /* nobody has the other end any more */
		if (n <= 0)
			return;
		p->len += (size_t)n;
		lines_take(p);
	}
}

int log_pipe_open(struct daemon *d, const char *provider, struct log_pipe **out, struct err *err)
{
	int ends[2];
	struct log_pipe *p = calloc(1, sizeof(*p));
	if (!p || !(p->provider = strdup(provider)) || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		if (p)
			free(p->provider);
		free(p);
		return err_set(err, -ENOMEM, "access log of %s: no pipe", provider);
	}
	fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES); /* less will do */
	p->d = d;
	p->fd = ends[0];
	int rc = loop_io_open(d->loop, p->fd, LOOP_READ, on_lines, p, &p->io);
	if (rc < 0) {
		close(ends[1]);
		log_pipe_free(p);
		return err_sys(err, rc, "access log of %s: watch its pipe", provider);
	}
	*out = p;
	return ends[1];
}
