/* SPDX-License-Identifier: Apache-2.0 */
/* One worker without its thread, over a data path (hbone_*) that only notes what it is given. Included by tests that
 * define it once. */
#pragma once

#include "agent/helper/worker_internal.h"

struct loop;

enum { FIXTURE_REPORTS = 512 };

struct seen_connection {
	int fd; /* -1: none */
	bool inbound;
	struct worker_pod *pod;
	struct addr_port a, b; /* endpoint and original, or peer and local */
};

struct worker_fixture {
	struct loop *link_loop; /* the link thread's */
	struct mailbox *mailbox;
	struct worker *w;
	struct helper_settings settings;
	struct link_shard shard;
	struct report *reports[FIXTURE_REPORTS]; /* owned */
	size_t report_count;
	struct seen_connection seen;
	bool no_certificate; /* pods are set without one for their identity */
	unsigned int outbound, inbound, policy_changes, removals, drains;
};

extern struct worker_fixture *worker_fixture; /* the present one, for the fake data path */

struct worker_fixture *worker_fixture_new(void);
void worker_fixture_free(struct worker_fixture *f);
/* Runs both loops for a moment: all that is ready, and timers that are due. */
void worker_fixture_run(struct worker_fixture *f);
/* Runs until `done` or a second has passed. */
bool worker_fixture_until(struct worker_fixture *f, bool (*done)(struct worker_fixture *f));
/* The reports of this kind so far, and the last of them. */
size_t worker_fixture_count(const struct worker_fixture *f, enum report_kind kind, const struct report **last);
void worker_fixture_forget(struct worker_fixture *f); /* the reports */
/* A pod with these listeners; fds are taken. */
void worker_fixture_pod(struct worker_fixture *f, uint64_t cookie, const int fds[POD_LISTENERS]);
int worker_fixture_listen(uint16_t *port); /* on 127.0.0.1 */
