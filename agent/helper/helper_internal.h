/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the link thread's files: helper.c (life), control.c (the agent's messages), reports.c (the workers'),
 * identities.c (keys and certificates), endpoint_hub.c (who asked about what), rejoin.c (from one agent to the next). All on
 * the link thread. */
#pragma once

#include "agent/helper/orders.h"
#include "agent/helper/worker_internal.h"
#include "agent/link/message.h"

#include <stdbool.h>

struct channel;
struct endpoint_hub;
struct identities;
struct leaving;
struct link_memory;
struct loop;
struct loop_signal;
struct loop_timer;
struct mailbox;
struct rejoin;
struct sb;
struct table;
struct target_hub;
struct tls_trust;

enum { HELPER_DUMPS_MAX = 16 };

struct helper_dump {
	uint32_t id;
	unsigned int waiting; /* workers; 0: free */
	bool some;
	struct sb *text;
};

struct helper {
	struct loop *loop;
	struct channel *channel; /* NULL: the agent is away */
	bool alone;		 /* and was for so long that nobody waits for it any more */
	struct rejoin *rejoin;	 /* where the next agent comes to */
	struct mailbox *reports;
	struct helper_settings settings;
	uint32_t cert_grace_percent;
	struct link_memory *memory;   /* of the agent's; NULL: no Hello yet */
	struct link_metrics *metrics; /* in it */
	struct worker *workers[LINK_SHARDS_MAX];
	unsigned int worker_count; /* 0: no Hello yet */
	struct table *pods;	   /* cookie -> struct pod_spec */
	struct leaving *leaving;   /* those of them that are taken from the mesh */
	struct identities *identities;
	struct endpoint_hub *endpoints;
	struct target_hub *targets;
	struct tls_trust *trust;
	struct helper_dump dumps[HELPER_DUMPS_MAX];
	struct loop_signal *sigterm;
	struct loop_timer *drain_timer, *settle_timer, *away_timer;
	uint32_t drain_timeout_ms;		   /* of a drain by SIGTERM; 0: the default */
	bool draining, settle_due, settle_watched; /* memory is to be returned; the timer runs */
	uint64_t work_seen;			   /* when memory was last to be returned */
	uint32_t live[LINK_SHARDS_MAX];		   /* as last reported; UINT32_MAX: not yet */
	int status;
};

/* --- helper.c */
int helper_workers_start(struct helper *h, struct err *err);
void helper_drain(struct helper *h, uint32_t timeout_ms);
void helper_settle_later(struct helper *h);	 /* returns memory when starting, or making keys, is over */
void helper_settle_when_quiet(struct helper *h); /* the same, when connections were carried */
void helper_agent_gone(struct helper *h, const char *why);
void helper_agent_back(struct helper *h, struct channel *channel); /* takes it */
/* Packs and sends; a message that can't be queued is lost (its question times out). */
bool helper_send(struct helper *h, Weft__Link__ToAgent__MsgCase which, void *message);
void helper_order_all(struct helper *h, struct order *(*make)(void *arg), void *arg); /* a fresh order each */

/* --- leaving.c */
int leaving_new(struct helper *h, struct leaving **out);
void leaving_free(struct leaving *l);
void leaving_begin(struct leaving *l, uint64_t cookie);	 /* control_pod_end() follows, unless */
void leaving_cancel(struct leaving *l, uint64_t cookie); /* it comes back, or ends at once */
bool leaving_has(const struct leaving *l, uint64_t cookie);

/* --- rejoin.c */
int rejoin_new(struct helper *h, struct rejoin **out);
void rejoin_free(struct rejoin *r);
void rejoin_listener(struct rejoin *r, int fd);		      /* takes fd */
void rejoin_memory(struct rejoin *r, int fd);		      /* the metrics memfd, duplicated */
bool rejoin_possible(const struct rejoin *r);		      /* an agent can come back */
void rejoin_await(struct rejoin *r);			      /* the agent is gone: takes the next */
void rejoin_link_closed(const struct err *err, void *helper); /* of either agent's channel */

/* --- control.c */
void control_on_message(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *helper);
void control_fail(struct helper *h,
		  const char *what); /* the agent sent something that makes no sense: the helper ends */

void control_pod_end(struct helper *h, uint64_t cookie);

/* --- control_http.c */
void control_on_target(struct helper *h, const Weft__Link__TargetAnswer *m);
void control_on_vhost(struct helper *h, const Weft__Link__Vhost *m);
void control_on_cluster(struct helper *h, const Weft__Link__ClusterAnswer *m);
void control_on_log_sink(struct helper *h, const Weft__Link__LogSink *m, int *fds, size_t fd_count);
void control_on_carried(struct helper *h, const Weft__Link__Carried *m);
void control_on_tap(struct helper *h, uint32_t id, const char *filter, uint32_t per_second); /* 0: no more */

/* --- control_pod.c */
int control_pod_spec(const Weft__Link__PodSet *m, struct pod_spec **out); /* 0, -EINVAL or -ENOMEM */

/* --- reports.c */
void reports_on_report(void *report, void *helper);
void reports_on_log(enum log_level level, const char *line, void *helper); /* any thread */
void reports_dump(struct helper *h, uint32_t id, const char *what);
void reports_dumps_done(struct helper *h);

/* --- identities.c */
int identities_new(struct helper *h, struct identities **out);
void identities_free(struct identities *ids);
void identities_use(struct identities *ids, const char *uri); /* one more pod has it: asks for a certificate if new */
void identities_release(struct identities *ids, const char *uri);
void identities_certificate(struct identities *ids, const char *uri, const char *chain_pem, uint64_t not_after_s,
			    const char *error);
void identities_rotate(struct identities *ids, const char *uri); /* "": all */
void identities_back(struct identities *ids); /* an agent is there again: what was due is asked for */
void identities_dump(const struct identities *ids, struct sb *out);

/* --- endpoint_hub.c */
struct endpoint_hub *endpoint_hub_new(struct helper *h);
void endpoint_hub_free(struct endpoint_hub *hub);
void endpoint_hub_query(struct endpoint_hub *hub, unsigned int worker, const struct addr_port *at);
void endpoint_hub_forget(struct endpoint_hub *hub, unsigned int worker, const struct addr_port *at);
void endpoint_hub_alone(struct endpoint_hub *hub); /* what is still being asked for will not be answered */
void endpoint_hub_back(struct endpoint_hub *hub);  /* another agent: all is asked for again, until it is answered */
void endpoint_hub_info(struct endpoint_hub *hub, struct endpoint_shared *shared); /* takes it */

/* --- target_hub.c */
struct target_hub *target_hub_new(struct helper *h);
void target_hub_free(struct target_hub *hub);
/* What a worker reports of kind REPORT_TARGET_* and REPORT_CLUSTER_*. */
void target_hub_on_report(struct target_hub *hub, const struct report *report);
void target_hub_alone(struct target_hub *hub);
void target_hub_back(struct target_hub *hub); /* as endpoint_hub_back() */
/* Routes that targets refer to; takes vhost. */
void target_hub_vhost(struct target_hub *hub, uint64_t id, struct http_vhost *vhost);
void target_hub_vhost_forget(struct target_hub *hub, uint64_t id);
/* The target of an answer that has one, with its routes. 0, -EINVAL, -ENOMEM. */
int target_hub_decode(struct target_hub *hub, const Weft__Link__TargetAnswer *m, struct l7_target **out);
/* The agent's answers. The object, NULL unless what is NEWS_OBJECT, is taken. */
void target_hub_target(struct target_hub *hub, uint64_t cookie, const struct addr_port *original, const char *host,
		       enum news what, struct l7_target *target);
void target_hub_cluster(struct target_hub *hub, const char *name, enum news what, struct http_cluster *cluster);
