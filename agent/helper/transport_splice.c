/* SPDX-License-Identifier: Apache-2.0 */
/* From socket to socket: while there is much, the bytes stay in the kernel (a third less work than copying them out and in).
 * The worker's one pipe is empty outside of transport_splice(). */
#include "agent/helper/transport_socket_internal.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { SPLICE_MIN = 16 << 10 };

bool transport_can_splice(struct transport_socket *s)
{
	const struct transport_socket *to = s->joined;
	if (!to || !s->bulk || s->closed || to->closed || to->error || to->ending || to->full || to->out.len)
		return false;
	struct transports *ts = s->ts;
	if (ts->pipe[0] < 0 && pipe2(ts->pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
		ts->pipe[0] = ts->pipe[1] = -1;
		s->joined = NULL; /* copying always works */
	}
	return s->joined != NULL;
}

/* What the socket did not take leaves the pipe again. */
static void splice_rest(struct transport_socket *s, size_t len)
{
	struct transport_socket *to = s->joined;
	struct transports *ts = s->ts;
	if (!ts->scratch && !(ts->scratch = malloc(TRANSPORT_SCRATCH)))
		abort(); /* bytes that were acknowledged would be lost, or another's connection get them */
	while (len) {
		ssize_t n = read(ts->pipe[0], ts->scratch, len < TRANSPORT_SCRATCH ? len : TRANSPORT_SCRATCH);
		if (n <= 0)
			abort();
		len -= (size_t)n;
		if (!to->error && transports_append(ts, &to->out, ts->scratch, (size_t)n) < 0)
			transport_socket_fail(to, -ENOMEM);
	}
	if (to->error)
		return;
	to->full = true;
	transport_socket_arm(to, to->events | LOOP_WRITE);
	transport_socket_count(to);
}

bool transport_splice(struct transport_socket *s)
{
	struct transport_socket *to = s->joined;
	struct transports *ts = s->ts;
	ssize_t n = splice(s->fd, NULL, ts->pipe[1], NULL, TRANSPORT_SCRATCH, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n == 0)
		transport_socket_eof(s);
	if (n < 0) {
		s->bulk = false; /* nothing there; or an error, which the next read meets */
		return errno != EAGAIN && errno != EINTR;
	}
	size_t done = 0, len = (size_t)n;
	while (done < len) {
		ssize_t m = splice(ts->pipe[0], NULL, to->fd, NULL, len - done, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (m < 0 && errno != EAGAIN && errno != EINTR)
			transport_socket_fail(to, -errno);
		if (m <= 0)
			break;
		done += (size_t)m;
	}
	*s->moved += len;
	if (done < len)
		splice_rest(s, len - done);
	s->bulk = len >= SPLICE_MIN;
	return s->bulk && !to->error;
}

void transport_socket_join(struct transport *a, struct transport *b, uint64_t *a_moved, uint64_t *b_moved)
{
	if (a->ops != &transport_socket_ops || b->ops != &transport_socket_ops)
		return;
	struct transport_socket *x = (struct transport_socket *)a, *y = (struct transport_socket *)b;
	if (x->gone || y->gone)
		return;
	x->joined = y;
	y->joined = x;
	x->moved = a_moved;
	y->moved = b_moved;
}
