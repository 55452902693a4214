/* SPDX-License-Identifier: Apache-2.0 */
/* A small mesh and a backend that answers from it: the shop of the examples on nodes node-a (this one) and node-b. */
#pragma once

#include "agent/control/backend.h"
#include "agent/control/control.h"

#include <stdbool.h>
#include <stdint.h>

struct fake {
	struct loop *loop;
	struct plan *plan;
	struct store *store;
	struct compiler *compiler;
	struct control *control;
	struct control_backend backend;
	char dir[64], socket[96];

	struct flow_entry flows[16]; /* sequence i + 1 at i */
	size_t flow_count;
	const char *not_ready;
	enum drop_reason outbound_reason; /* of explain_outbound */
	bool dump_later;
	void (*dump_fn)(const char *json, void *ctx);
	void *dump_ctx;
	char rotated[200], revoked[64];
	uint64_t rolled_back;
	unsigned int level_changes;

	char tap_filter[200]; /* of the tap that runs; "": none does */
	uint32_t tap_rate;
	int tap_error; /* of the next one: -errno */
	void (*tap_fn)(const char *json, void *ctx);
	void *tap_ctx;
	const char *tap_lines[4]; /* told of when the client reads; NULL ends it */
	const char *clusters;	  /* JSON of the helper's dump of clusters; NULL: as of others */
};

struct answer {
	long status; /* 0: no connection */
	char *body;
	char type[80];
};

struct fake *fake_new(void);
void fake_http(struct fake *f); /* adds service web (http, routes, rules on requests), with target, cluster and taps */
void fake_serve(struct fake *f, const char *group); /* opens control anew, its socket for this group */
void fake_free(struct fake *f);
/* One HTTP request over the unix socket (or to the metrics port), served by the fake's own loop in between. */
void fake_knows_policies(struct fake *f); /* of other nodes too */
struct answer fake_ask(struct fake *f, const char *method, const char *path, const char *body);
/* As another user, from a thread with those credentials; status 0 when it may not even connect. Needs root. */
struct answer fake_ask_as(struct fake *f, uid_t uid, gid_t gid, const char *method, const char *path, const char *body);
struct answer fake_ask_tcp(struct fake *f, const char *path, const char *header);
void answer_done(struct answer *a);
void fake_flow_add(struct fake *f, enum flow_kind kind, enum flow_path path, enum drop_reason reason);
