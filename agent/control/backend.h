/* SPDX-License-Identifier: Apache-2.0 */
/* What the admin API asks of the agent: functions that the daemon fills in, so that this folder knows neither kernel, link
 * nor CA and is tested against a fake. All called on the loop thread; all pointers handed out are borrowed until control
 * goes back to the loop unless said otherwise. A function that is NULL makes its endpoints answer 501. */
#pragma once

#include "agent/model/explain.h"
#include "agent/model/flow.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct addr;
struct addr_port;
struct err;
struct finding;
struct http_cluster;
struct l7_target;
struct plan;
struct policy;
struct sb;
struct store;
struct workload;

struct control_status {
	const char *node, *instance, *version;
	uint64_t started_s;    /* wall clock */
	const char *not_ready; /* NULL: ready; else a sentence: "the helper is starting" */
	const char *config_dir;
	bool config_settled;	 /* what the directory holds now has been taken or rejected */
	uint64_t rolled_back_to; /* revision in force by hand until the files change; 0: none */
	struct {
		pid_t pid; /* 0: none at the moment */
		bool ready;
		uint64_t uptime_s, restarts, draining, orphans, endpoints;
	} helper;
	uint64_t drops[DROP_REASON_COUNT]; /* kernel and helper */
	uint64_t flows_lost;
	uint64_t connections[FLOW_PATH_COUNT]; /* opened so far by workloads of this node */
	uint64_t accepted[FLOW_PATH_COUNT];    /* and by them from others; within the node it counts in both */
	const char *ca_warning;		       /* or NULL */
	uint64_t root_not_after_s, signer_not_after_s;
};

struct control_pod {	   /* how a workload of this node stands */
	bool enrolled;	   /* captured and policed by the kernel */
	bool ready;	   /* its listeners are in force */
	const char *error; /* why it could not be enrolled, or NULL */
};

struct control_cert {
	const char *serial, *identity;
	uint64_t not_before_s, not_after_s;
	bool revoked;
};

struct control_root {
	const char *subject, *fingerprint;
	uint64_t not_after_s, trusted_until_s; /* 0: for good */
	bool signs, extra;
};

struct control_revision {
	uint64_t number, time_s;
	const char *summary;
	bool rollback, current;
};

/* A key set that tokens are verified with, as it is fetched. */
struct control_keys {
	const char *uri, *error; /* error: of the last attempt; NULL: it was good */
	uint64_t last_ok_s;	 /* 0: never */
};

struct control_backend {
	void *arg;

	const struct plan *(*plan)(void *arg); /* in force; NULL before the first */
	const struct store *(*store)(void *arg);
	void (*status)(struct control_status *out, void *arg);
	void (*pod)(const struct workload *w, struct control_pod *out, void *arg); /* for workloads of this node */
	void (*maps)(void (*on_map)(const struct map_fill *fill, void *ctx), void *ctx, void *arg);
	void (*metrics)(bool openmetrics, struct sb *out, void *arg);

	/* What a workload of another node decides by, from the same configuration: a new reference, or NULL when it can't
	 * be told. Workloads of this node carry their policy. */
	struct policy *(*policy_of)(const struct workload *w, void *arg);

	/* The live tables' own answer. -ENOENT: the workload is not enrolled here. */
	int (*explain_outbound)(const struct workload *source, const struct addr_port *destination, uint8_t proto,
				struct explain_outbound *out, struct err *err, void *arg);
	/* source_identity 0: anonymous */
	int (*explain_inbound)(const struct workload *destination, uint32_t source_identity, const struct addr *source,
			       uint16_t port, uint8_t proto, struct explain_inbound *out, struct err *err, void *arg);

	/* What a call of a workload of this node means above L4, and a cluster by name, both as its helper is told; new
	 * references. host: of the request; NULL: not known. 0, -ENOMEM; -ENOENT: there is no such cluster. */
	int (*target)(const struct workload *caller, const struct addr_port *original, const char *host,
		      struct l7_target **out, void *arg);
	int (*cluster)(const char *name, struct http_cluster **out, void *arg);

	/* Live requests: fn is called with a JSON object for each that the filter takes, until tap_stop. 0, -EBUSY: too many
	 * at once, -EINVAL: too long a filter, or -ENOMEM. */
	int (*tap)(const char *filter, uint32_t per_second, void (*fn)(const char *json, void *ctx), void *ctx,
		   uint32_t *id, void *arg);
	void (*tap_stop)(uint32_t id, void *arg);

	/* The first flow after that sequence, as flowlog_next() and flowlog_oldest(). */
	const struct flow_entry *(*flow_next)(uint64_t after, void *arg);
	uint64_t (*flow_newest)(void *arg);

	void (*certs)(void (*on_cert)(const struct control_cert *cert, void *ctx), void *ctx, void *arg);
	void (*roots)(void (*on_root)(const struct control_root *root, void *ctx), void *ctx, void *arg);
	void (*keys)(void (*on_keys)(const struct control_keys *keys, void *ctx), void *ctx, void *arg);
	int (*cert_rotate)(const char *identity, struct err *err, void *arg); /* NULL: all. -ENOENT: none such here */
	int (*cert_revoke)(const char *serial, struct err *err, void *arg);   /* -EINVAL: not a serial */

	/* What the helper holds ("connections", "pools", "pods", "secrets"): calls fn once, later or at once, with a JSON
	 * array or NULL. 0 or -errno (fn is not called then). */
	int (*dump)(const char *what, void (*fn)(const char *json, void *ctx), void *ctx, void *arg);

	void (*revisions)(void (*on_revision)(const struct control_revision *r, void *ctx), void *ctx,
			  void *arg); /* newest
														      first */
	/* A unified diff of the resources' YAML. -ENOENT: no such revision (err says which are kept). */
	int (*revision_diff)(uint64_t from, uint64_t to, struct sb *out, struct err *err, void *arg);
	int (*revision_rollback)(uint64_t to, struct err *err, void *arg);
	/* One resource as written, for -o yaml. -ENOENT */
	int (*resource_text)(const char *key, struct sb *out, struct err *err, void *arg);

	/* What is odd in the configuration in force; compile.h. 0 or -errno. */
	int (*analyze)(void (*on_finding)(const struct finding *f, void *ctx), void *ctx, void *arg);

	void (*log_level_changed)(void *arg); /* the agent's level was set by PUT /v1/log: pass it on to the helper */
	int (*precheck)(void (*on_item)(const struct precheck_item *item, void *ctx), void *ctx, void *arg);
};
