/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that is only a loop, transports over socket pairs, and what they told. */
#pragma once

#include "agent/base/str.h"
#include "agent/helper/transport.h"
#include "agent/helper/worker.h"

struct worker {
	struct loop *loop;
	struct link_shard metrics;
	struct helper_settings settings;
	struct transports *transports;
	struct worker_pod pod;
	unsigned int drops[DROP_REASON_COUNT];
	struct stage *stage; /* stage.h: what tests of acceptance add */
};

struct told { /* by one transport */
	struct transport *t;
	struct sb data;
	size_t take;	 /* how much of what is offered is taken, in all; SIZE_MAX: everything */
	size_t received; /* all, also what `data` does not keep */
	bool count_only;
	unsigned int ends, rooms, broken;
	int error;
	bool close_on_data, abort_on_data, close_on_end;
	struct transport *echo; /* writes what comes to it */
};

extern const struct transport_events told_events;

int rig_setup(void **state); /* *state: struct worker */
int rig_teardown(void **state);
/* A transport over one end; returns the other end, non-blocking. */
int rig_transport(struct worker *w, struct told *told, const void *first, size_t first_len);
void told_done(struct told *told);
size_t rig_write(struct transport *t, const void *bytes, size_t len);
/* Runs the loop until *flag >= want or fails the test after five seconds. */
void rig_until(struct worker *w, const unsigned int *value, unsigned int want);
void rig_until_bytes(struct worker *w, const struct told *told, size_t want);
void rig_run(struct worker *w, int turns);
/* Waits for the next bytes at fd, running the loop: their number, 0 at the end, or -errno. */
ssize_t rig_next(struct worker *w, int fd, void *bytes, size_t len);

#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
