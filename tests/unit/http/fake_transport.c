/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http/fake_transport.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"

static struct fake_transport *fake(const struct transport *t)
{
	return container_of(t, struct fake_transport, t);
}

static void out_add(struct fake_transport *f, const void *bytes, size_t len)
{
	if (mem_reserve(&f->out, &f->out_cap, f->out_len + len + 1, 1) < 0)
		abort();
	if (len)
		memcpy(f->out + f->out_len, bytes, len);
	f->out_len += len;
	f->out[f->out_len] = '\0';
}

static size_t fake_write(struct transport *t, const struct iovec *iov, int count)
{
	struct fake_transport *f = fake(t);
	assert(!f->closed && !f->ended);
	f->writes++;
	size_t taken = 0;
	for (int i = 0; i < count; i++) {
		size_t n = iov[i].iov_len, room = f->hold ? f->limit - f->queued : SIZE_MAX;
		if (n > room)
			n = room;
		out_add(f, iov[i].iov_base, n);
		taken += n;
		if (f->hold)
			f->queued += n;
		if (n < iov[i].iov_len) {
			f->cut = true;
			break;
		}
	}
	return taken;
}

static void fake_flush(struct transport *t)
{
	fake(t)->flushes++;
}

/* Delivers until the codec takes less than it was given. */
static void deliver(struct fake_transport *f)
{
	if (f->delivering)
		return;
	f->delivering = true;
	while (f->kept_len && !f->closed) {
		uint8_t *bytes = f->kept;
		size_t len = f->kept_len;
		f->kept = NULL;
		f->kept_len = 0;
		size_t taken = f->t.events->on_data(&f->t, bytes, len, f->t.arg);
		if (f->closed) {
			free(bytes);
			break;
		}
		assert(taken <= len);
		f->delivered += taken;
		size_t left = len - taken;
		if (left) {
			f->kept = malloc(left);
			assert(f->kept);
			memcpy(f->kept, bytes + taken, left);
			f->kept_len = left;
		}
		free(bytes);
		if (left)
			break;
	}
	if (!f->closed && f->kept_len == 0 && f->end_kept && !f->end_told) {
		f->end_told = true;
		f->t.events->on_end(&f->t, f->t.arg);
	}
	f->delivering = false;
}

static void fake_resume(struct transport *t)
{
	deliver(fake(t));
}

static void fake_end(struct transport *t)
{
	struct fake_transport *f = fake(t);
	assert(!f->closed);
	f->ended = true;
}

static void fake_close(struct transport *t, bool abort)
{
	struct fake_transport *f = fake(t);
	assert(!f->closed);
	f->closed = true;
	f->aborted = abort;
}

static size_t fake_queued(const struct transport *t)
{
	return fake(t)->queued;
}

static const struct transport_ops ops = { .write = fake_write,
					  .flush = fake_flush,
					  .resume = fake_resume,
					  .end = fake_end,
					  .close = fake_close,
					  .queued = fake_queued };

struct fake_transport *fake_transport_new(void)
{
	struct fake_transport *f = calloc(1, sizeof(*f));
	assert(f);
	f->t.ops = &ops;
	f->limit = TRANSPORT_QUEUE;
	out_add(f, NULL, 0);
	return f;
}

void fake_transport_free(struct fake_transport *f)
{
	if (!f)
		return;
	assert(f->closed);
	free(f->kept);
	free(f->out);
	free(f);
}

void fake_push(struct fake_transport *f, const void *bytes, size_t len)
{
	if (f->closed || len == 0)
		return;
	bool was_kept = f->kept_len > 0;
	uint8_t *all = malloc(f->kept_len + len); /* exactly as long */
	assert(all);
	if (f->kept_len)
		memcpy(all, f->kept, f->kept_len);
	memcpy(all + f->kept_len, bytes, len);
	free(f->kept);
	f->kept = all;
	f->kept_len += len;
	if (!was_kept)
		deliver(f);
}

void fake_push_text(struct fake_transport *f, const char *text)
{
	fake_push(f, text, strlen(text));
}

void fake_push_pieces(struct fake_transport *f, const void *bytes, size_t len, size_t piece)
{
	for (size_t i = 0; i < len;) {
		size_t n = piece && piece < len - i ? piece : len - i;
		fake_push(f, (const uint8_t *)bytes + i, n);
		i += n;
	}
}

void fake_push_random(struct fake_transport *f, const void *bytes, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len;) {
		size_t n = 1 + (size_t)rand_r(&seed) % (rand_r(&seed) % 4 ? 8 : 64);
		n = n < len - i ? n : len - i;
		fake_push(f, (const uint8_t *)bytes + i, n);
		i += n;
	}
}

void fake_push_end(struct fake_transport *f)
{
	f->end_kept = true;
	if (!f->closed)
		deliver(f);
}

void fake_break(struct fake_transport *f, int error)
{
	if (!f->closed)
		f->t.events->on_broken(&f->t, error, f->t.arg);
}

void fake_drain(struct fake_transport *f)
{
	f->queued = 0;
	if (!f->cut || f->closed)
		return;
	f->cut = false;
	f->t.events->on_room(&f->t, f->t.arg);
}

void fake_forget(struct fake_transport *f)
{
	f->out_len = 0;
	out_add(f, NULL, 0);
}

static void tick_over(struct loop_timer *timer, void *arg)
{
	(void)timer;
	loop_stop(arg);
}

void fake_tick(struct loop *loop, unsigned int ms)
{
	struct loop_timer *timer;
	if (loop_timer_new(loop, tick_over, loop, &timer) < 0)
		abort();
	loop_timer_start(timer, ms, 0);
	loop_run(loop);
	loop_timer_free(timer);
}
