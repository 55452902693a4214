/* SPDX-License-Identifier: Apache-2.0 */
/* The admin API's questions, answered from the agent's state. */
#include "agent/control/backend.h"
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/ca/ca.h"
#include "agent/compile/compile.h"
#include "agent/daemon/internal.h"
#include "agent/kernel/kernel.h"
#include "agent/link/supervisor.h"
#include "agent/source/file.h"
#include "agent/source/store.h"
#include "agent/telemetry/flowlog.h"

#include <errno.h>
#include <string.h>

static const struct plan *on_plan(void *arg)
{
	return ((struct daemon *)arg)->plan;
}

static const struct store *on_store(void *arg)
{
	return ((struct daemon *)arg)->store;
}

static void drops_add(const struct daemon *d, struct control_status *out)
{
	struct link_shard helper;

	kernel_drops(d->kernel, out->drops);
	supervisor_metrics(d->supervisor, &helper);
	for (int i = 0; i < DROP_REASON_COUNT; i++)
		out->drops[i] += helper.drops[i];
}

static void connections_add(const struct flow_sum *row, void *arg)
{
	struct control_status *out = arg;

	if (row->path < FLOW_PATH_COUNT)
		*(row->source_side ? &out->connections[row->path] : &out->accepted[row->path]) += row->opened;
}

static void on_status(struct control_status *out, void *arg)
{
	struct daemon *d = arg;
	struct supervisor_status helper;

	memset(out, 0, sizeof(*out));
	out->node = d->options->node;
	out->instance = d->options->instance;
	out->version = d->options->version;
	out->started_s = d->started_s;
	out->not_ready = daemon_not_ready(d);
	out->config_dir = d->options->config_dir;
	out->config_settled = daemon_settled(d);
	out->rolled_back_to = store_rolled_back_to(d->store);
	supervisor_status(d->supervisor, &helper);
	out->helper.pid = helper.pid;
	out->helper.ready = helper.ready;
	out->helper.uptime_s = helper.pid ? (clock_now_ns() - helper.started_ns) / 1000000000 : 0;
	out->helper.restarts = helper.restarts;
	out->helper.draining = helper.draining;
	out->helper.orphans = helper.orphans;
	out->helper.endpoints = helper.endpoints;
	drops_add(d, out);
	out->flows_lost = kernel_flows_lost(d->kernel);
	kernel_flow_sums(d->kernel, connections_add, out);
	out->ca_warning = ca_warning(d->ca);
	out->root_not_after_s = ca_root_not_after_s(d->ca);
	out->signer_not_after_s = ca_signer_not_after_s(d->ca);
}

static void on_pod(const struct workload *w, struct control_pod *out, void *arg)
{
	struct daemon *d = arg;
	const struct kernel_pod *pod = kernel_pod_by_uid(d->kernel, w->uid);
	const struct daemon_pod *entry = pod ? table_get(d->pods, &pod->cookie, sizeof(pod->cookie)) : NULL;

	*out = (struct control_pod){ .enrolled = pod != NULL, .ready = entry && entry->offered };
	out->error = entry && entry->error ? entry->error : table_get_str(d->pod_errors, w->uid);
	if (pod && !out->error && !out->ready)
		out->error = "its listeners are not open yet";
}

static struct policy *on_policy_of(const struct workload *w, void *arg)
{
	struct policy *policy = NULL;

	return compiler_policy(((struct daemon *)arg)->compiler, w, &policy) < 0 ? NULL : policy;
}

static void on_maps(void (*on_map)(const struct map_fill *fill, void *ctx), void *ctx, void *arg)
{
	kernel_map_fill(((struct daemon *)arg)->kernel, on_map, ctx);
}

static int on_explain_outbound(const struct workload *source, const struct addr_port *destination, uint8_t proto,
			       struct explain_outbound *out, struct err *err, void *arg)
{
	struct daemon *d = arg;
	const struct kernel_pod *pod = kernel_pod_by_uid(d->kernel, source->uid);

	if (!pod)
		return err_set(err, -ENOENT, "%s is not enrolled on this node", source->uid);
	return kernel_explain_outbound(d->kernel, pod, destination, proto, out, err);
}

static int on_explain_inbound(const struct workload *destination, uint32_t source_identity, const struct addr *source,
			      uint16_t port, uint8_t proto, struct explain_inbound *out, struct err *err, void *arg)
{
	struct daemon *d = arg;
	const struct kernel_pod *pod = kernel_pod_by_uid(d->kernel, destination->uid);

	if (!pod)
		return err_set(err, -ENOENT, "%s is not enrolled on this node", destination->uid);
	return kernel_explain_inbound(d->kernel, pod, source_identity, source, port, proto, out, err);
}

static int on_target(const struct workload *caller, const struct addr_port *original, const char *host,
		     struct l7_target **out, void *arg)
{
	return compiler_target(((struct daemon *)arg)->compiler, caller, original, host, out);
}

static int on_cluster(const char *name, struct http_cluster **out, void *arg)
{
	return compiler_cluster(((struct daemon *)arg)->compiler, name, out);
}

static int on_tap(const char *filter, uint32_t per_second, void (*fn)(const char *json, void *ctx), void *ctx,
		  uint32_t *id, void *arg)
{
	return supervisor_tap_start(((struct daemon *)arg)->supervisor, filter, per_second, fn, ctx, id);
}

static void on_tap_stop(uint32_t id, void *arg)
{
	supervisor_tap_stop(((struct daemon *)arg)->supervisor, id);
}

static const struct flow_entry *on_flow_next(uint64_t after, void *arg)
{
	return flowlog_next(((struct daemon *)arg)->flowlog, after);
}

static uint64_t on_flow_newest(void *arg)
{
	return flowlog_newest(((struct daemon *)arg)->flowlog);
}

static void on_certs(void (*on_cert)(const struct control_cert *cert, void *ctx), void *ctx, void *arg)
{
	struct daemon *d = arg;
	const struct ca_cert *certs = NULL;
	size_t n = ca_issued(d->ca, clock_wall_ns() / 1000000000, &certs);

	for (size_t i = 0; i < n; i++) {
		struct control_cert cert = { certs[i].serial, certs[i].identity, certs[i].not_before_s,
					     certs[i].not_after_s, certs[i].revoked };
		on_cert(&cert, ctx);
	}
}

static void on_roots(void (*on_root)(const struct control_root *root, void *ctx), void *ctx, void *arg)
{
	struct daemon *d = arg;
	const struct ca_root *roots = NULL;
	size_t n = ca_roots(d->ca, &roots);

	for (size_t i = 0; i < n; i++) {
		struct control_root root = { roots[i].subject,	       roots[i].fingerprint, roots[i].not_after_s,
					     roots[i].trusted_until_s, roots[i].signs,	     roots[i].extra };
		on_root(&root, ctx);
	}
}

static int on_cert_rotate(const char *identity, struct err *err, void *arg)
{
	struct daemon *d = arg;
	struct table_iter it = { 0 };
	bool found = !identity;

	while (!found && table_next(d->pods, &it)) {
		const struct kernel_pod *pod = kernel_pod_by_cookie(d->kernel, ((struct daemon_pod *)it.value)->cookie);
		found = pod && strcmp(pod->workload->identity->uri, identity) == 0;
	}
	if (!found)
		return err_set(err, -ENOENT, "no pod of this node has the identity %s; see meshctl cert list",
			       identity);
	supervisor_rotate(d->supervisor, identity);
	return 0;
}

static int on_cert_revoke(const char *serial, struct err *err, void *arg)
{
	struct daemon *d = arg;
	int rc = ca_revoke(d->ca, serial, clock_wall_ns() / 1000000000, err);

	return rc < 0 ? rc : daemon_trust_push(d, err);
}

static int on_dump(const char *what, void (*fn)(const char *json, void *ctx), void *ctx, void *arg)
{
	return supervisor_dump(((struct daemon *)arg)->supervisor, what, fn, ctx);
}

static int on_analyze(void (*on_finding)(const struct finding *f, void *ctx), void *ctx, void *arg)
{
	struct findings findings = { 0 };
	int rc = compiler_findings(((struct daemon *)arg)->compiler, &findings);

	for (size_t i = 0; rc == 0 && i < findings.n; i++)
		on_finding(&findings.v[i], ctx);
	findings_done(&findings);
	return rc;
}

static void on_log_level_changed(void *arg)
{
	supervisor_log_level(((struct daemon *)arg)->supervisor, log_get_level());
}

static int on_precheck(void (*on_item)(const struct precheck_item *item, void *ctx), void *ctx, void *arg)
{
	(void)arg;
	return kernel_precheck(on_item, ctx);
}

void daemon_backend_fill(struct daemon *d, struct control_backend *out)
{
	*out = (struct control_backend){
		.arg = d,
		.plan = on_plan,
		.store = on_store,
		.status = on_status,
		.pod = on_pod,
		.policy_of = on_policy_of,
		.maps = on_maps,
		.metrics = daemon_metrics,
		.explain_outbound = on_explain_outbound,
		.explain_inbound = on_explain_inbound,
		.target = on_target,
		.cluster = on_cluster,
		.tap = on_tap,
		.tap_stop = on_tap_stop,
		.flow_next = on_flow_next,
		.flow_newest = on_flow_newest,
		.certs = on_certs,
		.keys = daemon_keys_tell,
		.roots = on_roots,
		.cert_rotate = on_cert_rotate,
		.cert_revoke = on_cert_revoke,
		.dump = on_dump,
		.revisions = daemon_revisions,
		.revision_diff = daemon_revision_diff,
		.revision_rollback = daemon_revision_rollback,
		.resource_text = daemon_resource_text,
		.analyze = on_analyze,
		.log_level_changed = on_log_level_changed,
		.precheck = on_precheck,
	};
}
