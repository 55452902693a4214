/* SPDX-License-Identifier: Apache-2.0 */
/* The plan's arrays, shared between plans. A plan of 60,000 objects must not touch each of them when one changed, so
 * plans hold no reference on objects. Instead there are generations: plan k holds generation k, which holds what the
 * step from k to k+1 took out, and generation k+1. What was taken out at a step is thus freed when no plan up to that
 * step is left. */
#pragma once

#include "agent/model/plan.h"

#include <stddef.h>
#include <stdint.h>

struct generation;
struct vec; /* an immutable sorted array, reference-counted */

enum publish_array {
	PUBLISH_SERVICES,
	PUBLISH_WORKLOADS,
	PUBLISH_IDENTITIES,
	PUBLISH_NAMES,
	PUBLISH_ADDRS,
	PUBLISH_VIPS,
	PUBLISH_ARRAYS
};

struct publisher {
	struct generation *generation;
	struct vec *arrays[PUBLISH_ARRAYS];
	struct edit { /* what the next plan removes and adds */
		unsigned char *removed, *added;
		size_t removed_n, removed_cap, added_n, added_cap;
	} edits[PUBLISH_ARRAYS];
	struct retired { /* references that go with the present generation */
		void (*unref)(void *object);
		void *object;
	} *retired;
	size_t retired_n, retired_cap;
};

int publisher_init(struct publisher *p); /* 0 or -ENOMEM; publisher_done either way */
void publisher_done(struct publisher *p);

/* One step: begin, replace, identities, then commit. Any may return -ENOMEM; then nothing is published, and the next
 * step must be told all again. old: what is in the last plan; NULL: nothing. new: what is to be; NULL: nothing.
 * Takes over the reference on old, when the step is committed. */
void publisher_begin(struct publisher *p);
int publisher_workload(struct publisher *p, struct workload *old, struct workload *new);
int publisher_service(struct publisher *p, struct service *old, struct service *new);
int publisher_identity(struct publisher *p, struct identity *old, struct identity *new);
int publisher_commit(struct publisher *p, struct plan *plan); /* fills the plan's arrays */
/* Of the last plan. Borrowed until the next commit. */
const struct plan_vip *publisher_vips(const struct publisher *p, size_t *n);

/* The end: what plans still use goes with the last of them. Without memory it is never freed. */
void publisher_retire_workload(struct publisher *p, struct workload *w);
void publisher_retire_service(struct publisher *p, struct service *s);
void publisher_retire_end(struct publisher *p);
