/* SPDX-License-Identifier: Apache-2.0 */
/* The identities in use: one object each, with an id that no other has. Whether one is still in use is counted by the
 * workloads in force, not by its reference count, which plans of the past keep up. */
#pragma once

#include "agent/model/identity.h"

struct compiler;

int identities_init(struct compiler *c); /* 0 or -ENOMEM */
void identities_done(struct compiler *c);
/* The identity of a service account in the mesh's trust domain, a new reference; made when it is new. NULL: no
 * memory. */
struct identity *identities_take(struct compiler *c, const char *ns, const char *account);
/* A workload in force has it, or no longer has it. 0 or -ENOMEM. */
int identities_count(struct compiler *c, const struct identity *identity, int by);
/* Tells the publisher of those that came and went; identities_committed once that is done. 0 or -ENOMEM. */
int identities_publish(struct compiler *c);
void identities_committed(struct compiler *c);
