/* SPDX-License-Identifier: Apache-2.0 */
/* What happened to connections, from the kernel's ring and from the helper: into the flow log, and failures to connect
 * into outlier detection, whose ejections are an input of the next compilation. */
#include "agent/base/hash.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/compile/compile.h"
#include "agent/control/control.h"
#include "agent/daemon/internal.h"
#include "agent/kernel/kernel.h"
#include "agent/link/supervisor.h"
#include "agent/model/outlier.h"
#include "agent/telemetry/flowlog.h"

#include <netinet/in.h>
#include <string.h>

static uint64_t now_ms(const struct daemon *d)
{
	return loop_now_ns(d->loop) / 1000000;
}

/* The deciding rule's name, where the policy that decided is still in force here. */
static const char *flow_rule(const struct daemon *d, const struct flow *flow)
{
	if (!d->plan || !flow->policy_id || flow->rule == UINT32_MAX)
		return NULL;
	const struct workload *w = plan_workload_by_addr(d->plan, &flow->destination.addr);
	if (!w || !w->policy || w->policy->id != flow->policy_id || flow->rule >= w->policy->rule_count)
		return NULL;
	return w->policy->rules[flow->rule].name;
}

static void outlier_note(struct daemon *d, const struct addr_port *endpoint, bool ok)
{
	struct outlier_settings settings;

	if (!compiler_outlier(d->compiler, endpoint, &settings))
		return;
	if (!outlier_report(d->outlier, now_ms(d), endpoint, &settings, ok))
		return;
	char text[ADDR_PORT_TEXT_MAX];
	log_info("outlier detection: endpoint %s %s", addr_port_text(endpoint, text), ok ? "is back" : "is ejected");
	daemon_outlier_schedule(d);
	daemon_reload_soon(d);
}

void daemon_outlier_schedule(struct daemon *d)
{
	uint64_t next_ms = 0;

	if (outlier_expire(d->outlier, now_ms(d), &next_ms))
		daemon_reload_soon(d);
	if (next_ms)
		loop_timer_start(d->outlier_timer, next_ms > now_ms(d) ? next_ms - now_ms(d) : 1, 0);
}

void daemon_on_outlier_timer(struct loop_timer *timer, void *arg)
{
	(void)timer;
	daemon_outlier_schedule(arg);
}

void daemon_on_flow(const struct flow *flow, void *arg)
{
	struct daemon *d = arg;

	const char *rule = flow_rule(d, flow);

	flowlog_add(d->flowlog, flow, rule);
	daemon_log_flow(d, flow, rule);
	if (d->control)
		control_flows_added(d->control);
	/* Of what the helper carries, it reports the outcome itself: the kernel sees only its loopback half. */
	if (flow->source_side && flow->proto == IPPROTO_TCP && flow->path != FLOW_HBONE &&
	    (flow->kind == FLOW_OPENED || flow->kind == FLOW_FAILED))
		outlier_note(d, &flow->destination, flow->kind == FLOW_OPENED);
}

void daemon_on_endpoint_result(const struct addr_port *endpoint, bool ok, void *arg)
{
	outlier_note(arg, endpoint, ok);
}

void daemon_on_dropped(const struct link_dropped *dropped, void *arg)
{
	struct daemon *d = arg;
	const struct kernel_pod *pod = kernel_pod_by_cookie(d->kernel, dropped->cookie);
	struct flow flow = {
		.time_ns = clock_wall_ns(),
		.kind = FLOW_REFUSED,
		.path = FLOW_HBONE,
		.reason = dropped->reason,
		.proto = IPPROTO_TCP,
		.source_side = !dropped->inbound,
		.source = dropped->source,
		.destination = dropped->destination,
		.original = dropped->destination,
		.rule = UINT32_MAX,
	};

	if (pod && dropped->inbound)
		flow.destination_identity = pod->workload->identity->id;
	else if (pod)
		flow.source_identity = pod->workload->identity->id;
	if (dropped->inbound && dropped->peer && dropped->peer[0])
		flow.source_identity = hash32_id(dropped->peer);
	flowlog_add(d->flowlog, &flow, dropped->rule && dropped->rule[0] ? dropped->rule : NULL);
	if (d->control)
		control_flows_added(d->control);
}
