/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/transport/rig.h"

#include "agent/base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { TIMEOUT_MS = 5000 };

/* --- the worker --- */

struct loop *worker_loop(struct worker *w)
{
	return w->loop;
}

struct link_shard *worker_metrics(struct worker *w)
{
	return &w->metrics;
}

const struct helper_settings *worker_settings(const struct worker *w)
{
	return &w->settings;
}

struct transports *worker_transports(struct worker *w)
{
	return w->transports;
}

struct worker_pod *worker_pod_ref(struct worker_pod *pod)
{
	pod->refs++;
	return pod;
}

void worker_pod_unref(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	assert_true(pod->refs > 0);
	pod->refs--;
}

struct worker_pod *worker_pod_by_addr(struct worker *w, const struct addr *addr)
{
	(void)w;
	(void)addr;
	return NULL;
}

bool worker_pod_admit(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	if (pod->connections >= pod->max_connections)
		return false;
	pod->connections++;
	return true;
}

void worker_pod_leave(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	assert_true(pod->connections > 0);
	pod->connections--;
}

void worker_drop(struct worker *w, const struct worker_drop *drop)
{
	w->drops[drop->reason]++;
}

int rig_setup(void **state)
{
	struct worker *w = calloc(1, sizeof(*w));
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	assert_int_equal(transports_new(w, &w->transports), 0);
	w->pod.max_connections = 100;
	*state = w;
	return 0;
}

int rig_teardown(void **state)
{
	struct worker *w = *state;
	transports_free(w->transports);
	loop_free(w->loop);
	assert_int_equal(w->metrics.buffers_bytes, 0);
	assert_int_equal(w->pod.connections, 0);
	assert_int_equal(w->pod.refs, 0);
	free(w);
	return 0;
}

/* --- what a transport tells --- */

static size_t on_data(struct transport *t, const uint8_t *bytes, size_t len, void *arg)
{
	struct told *told = arg;
	assert_ptr_equal(t, told->t);
	assert_true(len > 0);
	size_t took = len < told->take ? len : told->take;
	if (told->echo)
		took = transport_write(told->echo, &(struct iovec){ (void *)(uintptr_t)bytes, took }, 1);
	if (told->take != SIZE_MAX)
		told->take -= took;
	told->received += took;
	if (took && !told->count_only)
		sb_add_bytes(&told->data, bytes, took);
	if (told->close_on_data || told->abort_on_data) {
		transport_close(t, told->abort_on_data);
		told->t = NULL;
	}
	return took;
}

static void on_end(struct transport *t, void *arg)
{
	struct told *told = arg;
	assert_ptr_equal(t, told->t);
	told->ends++;
	if (told->close_on_end) {
		transport_close(t, false);
		told->t = NULL;
	}
}

static void on_room(struct transport *t, void *arg)
{
	struct told *told = arg;
	assert_ptr_equal(t, told->t);
	told->rooms++;
	if (told->echo == t)
		transport_resume(t);
}

static void on_broken(struct transport *t, int error, void *arg)
{
	struct told *told = arg;
	assert_ptr_equal(t, told->t);
	assert_true(error < 0);
	told->broken++;
	told->error = error;
	told->t = NULL;
	transport_close(t, true);
}

const struct transport_events told_events = { on_data, on_end, on_room, on_broken };

void told_done(struct told *told)
{
	if (told->t)
		transport_close(told->t, true);
	sb_done(&told->data);
	*told = (struct told){ 0 };
}

int rig_transport(struct worker *w, struct told *told, const void *first, size_t first_len)
{
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	*told = (struct told){ .take = SIZE_MAX };
	assert_int_equal(transport_socket_new(w, fds[0], first, first_len, &told->t), 0);
	transport_on(told->t, &told_events, told);
	return fds[1];
}

size_t rig_write(struct transport *t, const void *bytes, size_t len)
{
	return transport_write(t, &(struct iovec){ (void *)(uintptr_t)bytes, len }, 1);
}

/* --- running --- */

struct run {
	struct loop *loop;
	bool (*done)(void *arg);
	void *arg;
	int turns;
	bool late;
};

static void on_poll(struct loop_timer *timer, void *arg)
{
	struct run *run = arg;
	(void)timer;
	run->late = run->turns-- <= 0;
	if (run->late || run->done(run->arg))
		loop_stop(run->loop);
}

static void run_until(struct worker *w, bool (*done)(void *arg), void *arg)
{
	struct run run = { .loop = w->loop, .done = done, .arg = arg, .turns = TIMEOUT_MS };
	struct loop_timer *timer;
	assert_int_equal(loop_timer_new(w->loop, on_poll, &run, &timer), 0);
	loop_timer_start(timer, 0, 1);
	loop_run(w->loop);
	loop_timer_free(timer);
	if (run.late)
		fail_msg("what the test waits for did not happen in %d ms", TIMEOUT_MS);
}

struct wanted {
	const unsigned int *value;
	const size_t *bytes;
	size_t want;
};

static bool reached(void *arg)
{
	const struct wanted *x = arg;
	return (x->value ? *x->value : *x->bytes) >= x->want;
}

void rig_until(struct worker *w, const unsigned int *value, unsigned int want)
{
	run_until(w, reached, &(struct wanted){ .value = value, .want = want });
}

void rig_until_bytes(struct worker *w, const struct told *told, size_t want)
{
	run_until(w, reached, &(struct wanted){ .bytes = &told->received, .want = want });
}

static bool turned(void *arg)
{
	int *left = arg;
	return --*left < 0;
}

void rig_run(struct worker *w, int turns)
{
	run_until(w, turned, &turns);
}

struct next {
	int fd;
	void *bytes;
	size_t len;
	ssize_t result;
};

static bool came(void *arg)
{
	struct next *x = arg;
	x->result = recv(x->fd, x->bytes, x->len, MSG_DONTWAIT);
	if (x->result < 0)
		x->result = -errno;
	return x->result != -EAGAIN;
}

ssize_t rig_next(struct worker *w, int fd, void *bytes, size_t len)
{
	struct next x = { fd, bytes, len, 0 };
	run_until(w, came, &x);
	return x.result;
}
