/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's state, shared by the files of this folder only. One loop thread. */
#pragma once

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/table.h"
#include "agent/daemon/daemon.h"
#include "agent/model/plan.h"
#include "agent/model/pod_socket.h"

#include <stdbool.h>
#include <stdint.h>

struct ca;
struct ca_options;
struct compiler;
struct control;
struct control_backend;
struct control_keys;
struct control_revision;
struct dns_source;
struct file_source;
struct flow;
struct exporters;
struct flowlog;
struct http_cluster;
struct jwks_source;
struct kernel;
struct kernel_pod;
struct l7_target;
struct link_dns_answer;
struct link_dropped;
struct link_endpoint;
struct loop;
struct loop_signal;
struct loop_timer;
struct outlier;
struct sb;
struct store;
struct supervisor;

/* A pod that the kernel enrolled. */
struct daemon_pod {
	uint64_t cookie;
	bool offered; /* its listeners are in force */
	char *error;  /* why not, or NULL */
};

struct daemon {
	const struct daemon_options *options;
	uint64_t started_s;
	int lock_fd;
	bool stopping;
	struct loop *loop;
	struct loop_signal *signals[2];
	struct store *store;
	struct file_source *files;
	struct dns_source *dns;
	struct jwks_source *jwks;
	struct compiler *compiler;
	struct plan *plan; /* in force; NULL before the first */
	bool reload_due, apply_failed;
	struct err apply_error;
	struct loop_timer *reload_retry;
	struct kernel *kernel;
	struct supervisor *supervisor;
	bool orphans_drained;
	struct ca *ca;
	struct loop_timer *ca_timer;
	bool ca_failed; /* said so in the log already */
	struct control *control;
	struct flowlog *flowlog;
	struct outlier *outlier;
	struct loop_timer *outlier_timer;
	struct table *pods;	  /* cookie -> struct daemon_pod */
	struct table *pod_errors; /* uid -> why the kernel did not enrol it */
	struct exporters *exporters;
	uint64_t lines_dropped;	    /* of connections, that the helper was not told of */
	struct table *logs;	    /* path with its NUL -> struct daemon_log */
	struct table *certificates; /* path -> what was read there */
	struct loop_timer *pod_retry, *settle_timer, *log_timer;
};

/* daemon.c */
void daemon_settle_later(struct daemon *d); /* returns memory once it has been quiet for a while */

/* pods.c */
void daemon_pod_free(void *pod);
void daemon_on_pod_retry(struct loop_timer *timer, void *arg);
void daemon_on_pod_added(const struct kernel_pod *pod, void *arg);
void daemon_on_pod_changed(const struct kernel_pod *pod, void *arg);
void daemon_on_pod_removed(const struct kernel_pod *pod, void *arg);
void daemon_on_pod_failed(const struct workload *w, const struct err *err, void *arg);
int daemon_open_sockets(uint64_t cookie, enum pod_socket kind, int *fds, size_t count, struct err *err, void *arg);

/* keys.c */
struct compile_jwks;
void daemon_on_keys_changed(void *arg);
void daemon_keys_tell(void (*on_keys)(const struct control_keys *keys, void *ctx), void *ctx, void *arg);
struct compile_jwks *daemon_keys(const struct daemon *d, size_t *count); /* caller frees; NULL: none, or no memory */

/* reload.c */
int daemon_compile(struct daemon *d, struct plan **out, struct err *err);
int daemon_plan_apply(struct daemon *d, struct plan *plan, struct err *err); /* takes the reference, always */
void daemon_apply_failed(struct daemon *d, const struct err *err);
void daemon_reload_soon(struct daemon *d);
void daemon_on_reload_retry(struct loop_timer *timer, void *arg);
bool daemon_settled(const struct daemon *d);
const char *daemon_not_ready(struct daemon *d); /* NULL: ready */
void daemon_ca_options(const struct daemon *d, const struct mesh_settings *mesh, struct ca_options *out);

/* answers.c */
void daemon_on_endpoint(const struct addr_port *endpoint, struct link_endpoint *out, void *arg);
void daemon_on_target(uint64_t cookie, const struct addr_port *original, const char *host, struct l7_target **out,
		      void *arg);
void daemon_on_cluster(const char *name, struct http_cluster **out, void *arg);
void daemon_on_dns(uint64_t cookie, const char *name, struct link_dns_answer *out, void *arg);
void daemon_on_csr(uint64_t request, const char *identity, const char *csr_pem, void *arg);
void daemon_on_helper_log(enum log_level level, const char *text, void *arg);
int daemon_trust_push(struct daemon *d, struct err *err);

/* certificates.c */
char *daemon_read_file(void *arg, const char *path); /* of a DestinationRule; NULL: it can't be read */
void daemon_certificates_look(struct daemon *d);     /* whether files that were read are others now */

/* flows.c */
void daemon_on_flow(const struct flow *flow, void *arg);
void daemon_on_dropped(const struct link_dropped *dropped, void *arg);
void daemon_on_endpoint_result(const struct addr_port *endpoint, bool ok, void *arg);
void daemon_on_outlier_timer(struct loop_timer *timer, void *arg);
void daemon_outlier_schedule(struct daemon *d);

/* logs.c */
void daemon_logs_sync(struct daemon *d, const struct plan *plan); /* opens and gives up files of access logs */
void daemon_log_free(void *log);				  /* of d->logs */
/* log_export.c: a pipe whose lines go to the provider's collector. Returns the end to write to, or -errno. */
struct log_pipe;
int log_pipe_open(struct daemon *d, const char *provider, struct log_pipe **out, struct err *err);
void log_pipe_free(struct log_pipe *p); /* NULL is fine */
/* A line of a connection that the kernel alone carried, where its pod's access log is asked for. */
void daemon_log_flow(struct daemon *d, const struct flow *flow, const char *rule);
void daemon_on_log_timer(struct loop_timer *timer, void *arg);

/* traces.c */
int daemon_traces_open(struct daemon *d, struct err *err);
void daemon_on_spans(const uint8_t *batch, size_t len, uint32_t count, void *arg);

/* metrics.c */
void daemon_metrics(bool openmetrics, struct sb *out, void *arg);
void daemon_pods_count(const struct daemon *d, size_t *enrolled, size_t *failed);

/* backend.c */
void daemon_backend_fill(struct daemon *d, struct control_backend *out);

/* revisions.c */
void daemon_revisions(void (*on_revision)(const struct control_revision *r, void *ctx), void *ctx, void *arg);
int daemon_revision_diff(uint64_t from, uint64_t to, struct sb *out, struct err *err, void *arg);
int daemon_revision_rollback(uint64_t to, struct err *err, void *arg);
int daemon_resource_text(const char *key, struct sb *out, struct err *err, void *arg);
