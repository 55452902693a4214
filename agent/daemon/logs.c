/* SPDX-License-Identifier: Apache-2.0 */
/* Files of access logs: opened here, where files can be, and written by the helper. A file that was moved away or removed
 * (logrotate) is opened anew within a second. And what the kernel says of connections that the helper never sees. */
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/daemon/internal.h"
#include "agent/kernel/kernel.h"
#include "agent/link/supervisor.h"
#include "agent/model/cluster.h"
#include "agent/model/flow.h"
#include "agent/model/identity.h"
#include "agent/model/plan.h"
#include "agent/model/service.h"
#include "agent/model/telemetry.h"
#include "agent/model/workload.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG_CHECK_MS = 1000 };

struct daemon_log {
	dev_t device;
	ino_t inode;
	bool stream;	       /* stdout, stderr or a collector: nothing to look after */
	struct log_pipe *pipe; /* to a collector; NULL: it is a file */
	bool open, wanted;     /* open: the helper has it */
	bool failed;	       /* said so in the log */
};

void daemon_log_free(void *log)
{
	struct daemon_log *l = log;
	log_pipe_free(l->pipe);
	free(l);
}

static int path_open(struct daemon *d, const char *path, struct daemon_log *l, struct err *err)
{
	if (str_starts(path, ACCESS_LOG_COLLECTOR))
		return log_pipe_open(d, path + strlen(ACCESS_LOG_COLLECTOR), &l->pipe, err);
	if (str_eq(path, "/dev/stdout"))
		return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	if (str_eq(path, "/dev/stderr"))
		return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

static void log_open(struct daemon *d, const char *path, struct daemon_log *l)
{
	struct stat st;
	struct err err = ERR_INIT;
	log_pipe_free(TAKE(l->pipe));
	AUTO(fd_closep) int fd = path_open(d, path, l, &err);
	int rc = fd < 0 || fstat(fd, &st) < 0 ? err_sys(&err, -errno, "access log %s", path) :
						supervisor_log_sink(d->supervisor, path, fd, &err);
	if (rc < 0) {
		if (!l->failed)
			log_error("%s: requests are not logged there until it can be opened", err.text);
		l->failed = true;
		return;
	}
	l->failed = false;
	l->open = true;
	l->stream = l->pipe || str_starts(path, "/dev/");
	l->device = st.st_dev;
	l->inode = st.st_ino;
}

static bool is_gone(const char *path, const struct daemon_log *l)
{
	struct stat st;
	return !l->stream && (stat(path, &st) < 0 || st.st_ino != l->inode || st.st_dev != l->device);
}

void daemon_on_log_timer(struct loop_timer *timer, void *arg)
{
	struct daemon *d = arg;
	struct table_iter it = { 0 };
	(void)timer;
	while (table_next(d->logs, &it)) {
		struct daemon_log *l = it.value;
		if (!l->open || is_gone(it.key, l))
			log_open(d, it.key, l);
	}
}

static void want(struct daemon *d, const char *path)
{
	struct daemon_log *l = table_get(d->logs, path, strlen(path) + 1);
	if (!l) {
		l = calloc(1, sizeof(*l));
		/* The key's NUL is part of it, so that it can be used as text. */
		if (!l || table_set(d->logs, path, strlen(path) + 1, l) < 0) {
			free(l);
			log_error("access log %s: out of memory", path);
			return;
		}
		log_open(d, path, l);
	}
	l->wanted = true;
}

/* --- connections that the kernel alone carried: the ring of flows tells of them, the helper writes their lines */

/* Of what the helper carries, it has lines itself. Attested connections arrive with a line of the caller's side, which is on
 * this node as well; and they are how the helper's own requests arrive, unless all of those are looked at (`server`). */
static bool is_ours(const struct flow *flow, bool server)
{
	bool over = flow->kind == FLOW_CLOSED || (flow->source_side && flow->kind == FLOW_FAILED);
	bool denied = flow->kind == FLOW_REFUSED && !flow->source_side &&
		      (flow->reason == DROP_POLICY_DENY || flow->reason == DROP_POLICY_NO_ALLOW ||
		       flow->reason == DROP_MTLS_REQUIRED);
	if (flow->proto != IPPROTO_TCP || flow->path == FLOW_HBONE || flow->path == FLOW_HTTP)
		return false;
	bool attested = flow->path == FLOW_ATTESTED && !flow->source_side;
	return denied || (over && (!attested || (server && flow->source_identity)));
}

/* As Istio names it: of the service that was called, or that of what is no service's. */
static char *cluster_of(const struct daemon *d, const struct addr_port *called)
{
	const struct service *s = plan_service_by_vip(d->plan, &called->addr, called->port, IPPROTO_TCP);
	return s ? http_cluster_name(called->port, NULL, s->hostname) : strdup("PassthroughCluster");
}

void daemon_log_flow(struct daemon *d, const struct flow *flow, const char *rule)
{
	if (!table_count(d->logs) || !d->plan || !is_ours(flow, true))
		return;
	const struct workload *w =
		plan_workload_by_addr(d->plan, flow->source_side ? &flow->source.addr : &flow->destination.addr);
	uint32_t id = flow->source_side ? flow->source_identity : flow->destination_identity;
	const struct kernel_pod *pod = w && w->identity->id == id ? kernel_pod_by_uid(d->kernel, w->uid) : NULL;
	int reporter = flow->source_side ? REPORTER_CLIENT : REPORTER_SERVER;
	if (!pod || !w->telemetry || !w->telemetry->log_count[reporter] || !is_ours(flow, w->telemetry->server))
		return;
	const struct workload *caller = flow->source_side ? NULL : plan_workload_by_addr(d->plan, &flow->source.addr);
	bool known = caller && flow->source_identity && caller->identity->id == flow->source_identity;
	AUTO(mem_freep) char *cluster = flow->source_side ? cluster_of(d, &flow->original) : NULL;
	struct link_carried carried = {
		.cookie = pod->cookie,
		.server = !flow->source_side,
		.source = flow->source,
		.destination = flow->original.port ? flow->original : flow->destination,
		.start_ns = flow->time_ns - flow->duration_ns,
		.duration_ns = flow->duration_ns,
		.received_bytes = flow->source_side ? flow->sent_bytes : flow->received_bytes,
		.sent_bytes = flow->source_side ? flow->received_bytes : flow->sent_bytes,
		.reason = flow->kind == FLOW_FAILED  ? DROP_UPSTREAM_CONNECT :
			  flow->kind == FLOW_REFUSED ? flow->reason :
						       DROP_NONE,
		.cluster = cluster,
		.peer = known ? caller->identity->uri : NULL,
		.rule = rule,
	};
	if (flow->kind != FLOW_REFUSED)
		carried.upstream = flow->destination;
	d->lines_dropped += !supervisor_carried(d->supervisor, &carried);
}

void daemon_logs_sync(struct daemon *d, const struct plan *plan)
{
	struct table_iter it = { 0 };

	for (size_t i = 0; i < plan->workload_count; i++) {
		const struct telemetry *t = plan->workloads[i]->telemetry;
		for (size_t side = 0; t && side < REPORTER_COUNT; side++)
			for (size_t k = 0; k < t->log_count[side]; k++)
				want(d, t->logs[side][k].path);
	}
	while (table_next(d->logs, &it)) {
		struct daemon_log *l = it.value;
		if (!l->wanted) {
			supervisor_log_sink(d->supervisor, it.key, -1, NULL);
			table_remove(d->logs, it.key, it.key_len);
			continue;
		}
		l->wanted = false;
	}
	if (table_count(d->logs))
		loop_timer_start(d->log_timer, LOG_CHECK_MS, LOG_CHECK_MS);
	else
		loop_timer_stop(d->log_timer);
}
