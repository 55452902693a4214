/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/flows: the flow log as lines of JSON, filtered, and followed when asked. Each reader is a struct follower with a
 * position and its own filters; it renders a bounded batch at a time, so a slow or greedy reader holds up nobody. */
#include "agent/control/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/backend.h"
#include "agent/control/control.h"
#include "agent/control/internal.h"
#include "agent/control/json.h"
#include "agent/model/plan.h"

enum { FOLLOWERS_MAX = 16, BATCH = 256, FILTER_MAX = 200 };

struct flow_filter {
	char source[FILTER_MAX], destination[FILTER_MAX], ns[FILTER_MAX], verdict[32], path[32], reason[64];
	bool unique; /* without the destination's view of what the source's end tells too */
};

struct follower {
	struct control *control;
	struct stream *stream; /* NULL until the first wait */
	struct flow_filter filter;
	uint64_t after;
	bool follow, heartbeat;
	struct sb pending;
	size_t sent; /* of pending */
	struct follower *next;
};

/* One end of a flow: its workload by address, the identity that was proven (or that the workload has). */
struct end {
	const struct addr_port *at;
	const struct workload *workload;
	const struct identity *identity;
};

static struct end end_of(const struct plan *plan, const struct addr_port *at, uint32_t identity)
{
	struct end e = { .at = at };

	if (!plan)
		return e;
	e.workload = plan_workload_by_addr(plan, &at->addr);
	if (identity && e.workload && e.workload->identity->id == identity)
		e.identity = e.workload->identity;
	else if (identity)
		e.identity = plan_identity_by_id(plan, identity);
	/* Host processes and pods of one host address differ by identity: the name by address would be a guess. */
	if (e.workload && e.identity && e.workload->identity->id != e.identity->id)
		e.workload = NULL;
	return e;
}

static json_t *end_json(const struct end *e)
{
	json_t *o = json_object();

	json_set(o, "address", json_of_addr(&e->at->addr));
	json_set_u64(o, "port", e->at->port);
	json_set_text(o, "workload", e->workload ? e->workload->uid : NULL);
	json_set_text(o, "identity", e->identity ? e->identity->uri : NULL);
	return o;
}

static bool end_matches(const struct end *e, const char *filter)
{
	char buf[ADDR_PORT_TEXT_MAX];

	if (!*filter)
		return true;
	if (e->workload && (str_eq(e->workload->uid, filter) || str_eq(e->workload->name, filter) ||
			    str_starts(e->workload->name, filter)))
		return true;
	if (e->identity && (str_eq(e->identity->uri, filter) || str_eq(e->identity->service_account, filter)))
		return true;
	return str_eq(addr_text(&e->at->addr, buf), filter) || str_eq(addr_port_text(e->at, buf), filter);
}

static bool end_in_namespace(const struct end *e, const char *ns)
{
	return (e->workload && str_eq(e->workload->ns, ns)) || (e->identity && str_eq(e->identity->ns, ns));
}

static bool verdict_matches(enum flow_kind kind, const char *verdict)
{
	if (!*verdict || str_eq(verdict, text_of_flow_kind(kind)))
		return true;
	if (str_eq(verdict, "allowed"))
		return kind == FLOW_OPENED || kind == FLOW_CLOSED;
	return str_eq(verdict, "denied") && kind == FLOW_REFUSED;
}

static bool filter_matches(const struct flow_filter *f, const struct flow *flow, const struct end *source,
			   const struct end *destination, const struct service *service)
{
	if (!verdict_matches(flow->kind, f->verdict))
		return false;
	bool caller_is_here = source->workload && source->workload->enrolled && workload_is_local(source->workload);
	if (f->unique && flow->kind != FLOW_REFUSED && !flow->source_side && caller_is_here)
		return false;
	if (*f->path && !str_eq(f->path, text_of_flow_path(flow->path)))
		return false;
	if (*f->reason && (flow->kind != FLOW_REFUSED || !str_eq(f->reason, text_of_reason(flow->reason))))
		return false;
	if (*f->ns && !end_in_namespace(source, f->ns) && !end_in_namespace(destination, f->ns))
		return false;
	bool service_meant =
		service && (str_eq(service->name, f->destination) || str_eq(service->hostname, f->destination));
	return end_matches(source, f->source) && (service_meant || end_matches(destination, f->destination));
}

static void time_json(json_t *o, uint64_t time_ns)
{
	char text[64], day[32];
	time_t s = (time_t)(time_ns / 1000000000u);
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s.%06uZ", day, (unsigned int)(time_ns % 1000000000u / 1000u));
	json_set_text(o, "time", text);
}

/* The policy of the end that decided has the rule, when it is of this node. */
static void rule_json(json_t *o, const struct flow_entry *entry, const struct workload *destination)
{
	const struct flow *f = &entry->flow;
	const struct policy *p = destination ? destination->policy : NULL;

	if (entry->rule[0]) {
		json_set_text(o, "rule", entry->rule);
	} else if (p && f->policy_id && p->id == f->policy_id && f->rule < p->rule_count) {
		json_set_text(o, "rule", p->rules[f->rule].name);
		json_set_text(o, "rule_origin", p->rules[f->rule].origin);
	}
}

static json_t *flow_json(const struct flow_entry *entry, const struct end *source, const struct end *destination,
			 const struct service *service)
{
	const struct flow *f = &entry->flow;
	json_t *o = json_object();

	json_set_u64(o, "sequence", entry->sequence);
	time_json(o, f->time_ns);
	json_set_text(o, "event", text_of_flow_kind(f->kind));
	json_set_text(o, "path", text_of_flow_path(f->path));
	json_set_text(o, "protocol", text_of_proto(f->proto));
	json_set_text(o, "side", f->source_side ? "source" : "destination");
	json_set(o, "source", end_json(source));
	json_set(o, "destination", end_json(destination));
	if (!addr_is_zero(&f->original.addr))
		json_set(o, "original", json_of_addr_port(&f->original));
	json_set_text(o, "service", service ? service->hostname : NULL);
	if (f->kind == FLOW_REFUSED) {
		json_set_text(o, "reason", text_of_reason(f->reason));
		json_set_text(o, "help", text_of_reason_help(f->reason));
		rule_json(o, entry, destination->workload);
	}
	if (f->kind == FLOW_FAILED && f->error)
		json_set_text(o, "error", strerrorname_np(f->error < 0 ? -f->error : f->error));
	if (f->kind == FLOW_CLOSED) {
		json_set_u64(o, "sent_bytes", f->sent_bytes);
		json_set_u64(o, "received_bytes", f->received_bytes);
		json_set(o, "duration_ms", json_real((double)f->duration_ns / 1e6));
		json_set_u64(o, "rtt_us", f->rtt_us);
		json_set_u64(o, "min_rtt_us", f->min_rtt_us);
		json_set_u64(o, "retransmits", f->retransmits);
	}
	return o;
}

/* Appends the flow as a line when the filter lets it through. */
static bool render(const struct control_backend *b, const struct flow_filter *filter, const struct flow_entry *entry,
		   struct sb *out)
{
	const struct plan *plan = b->plan ? b->plan(b->arg) : NULL;
	const struct flow *f = &entry->flow;
	struct end source = end_of(plan, &f->source, f->source_identity);
	struct end destination = end_of(plan, &f->destination, f->destination_identity);
	const struct service *service = plan ? plan_service_by_id(plan, f->service) : NULL;

	if (!filter_matches(filter, f, &source, &destination, service))
		return false;
	if (!out)
		return true;
	json_t *o = flow_json(entry, &source, &destination, service);
	AUTO(mem_freep) char *line = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (line)
		sb_addf(out, "%s\n", line);
	return true;
}

static ssize_t pending_take(struct follower *f, char *buf, size_t size)
{
	size_t left = f->pending.len - f->sent, n = left < size ? left : size;

	memcpy(buf, f->pending.p + f->sent, n);
	f->sent += n;
	if (f->sent == f->pending.len) {
		f->sent = 0;
		f->pending.len = 0;
	}
	return (ssize_t)n;
}

static ssize_t follower_read(void *arg, char *buf, size_t size)
{
	struct follower *f = arg;
	const struct control_backend *b = control_backend(f->control);

	for (int i = 0; i < BATCH && f->pending.len < size; i++) {
		const struct flow_entry *entry = b->flow_next(f->after, b->arg);
		if (!entry)
			break;
		f->after = entry->sequence;
		render(b, &f->filter, entry, &f->pending);
	}
	if (f->pending.failed)
		return -1;
	if (f->pending.len > f->sent)
		return pending_take(f, buf, size);
	/* More are waiting than one turn may look through: come back without having to be woken. */
	bool more = b->flow_next(f->after, b->arg) != NULL;
	if (f->heartbeat || (more && f->follow)) {
		f->heartbeat = false;
		buf[0] = '\n';
		return 1;
	}
	if (more)
		return follower_read(arg, buf, size);
	return !f->follow || control_is_closing(f->control) ? -1 : 0;
}

static void follower_done(void *arg)
{
	struct follower *f = arg;

	for (struct follower **at = control_followers(f->control); *at; at = &(*at)->next) {
		if (*at != f)
			continue;
		*at = f->next;
		break;
	}
	sb_done(&f->pending);
	free(f);
}

void followers_wake(struct control *control, bool heartbeat)
{
	for (struct follower *f = *control_followers(control), *next; f; f = next) {
		next = f->next;
		f->heartbeat |= heartbeat;
		stream_wake(f->stream);
	}
}

static bool filter_text(struct request *rq, const char *name, char *out, size_t size)
{
	const char *value = request_query(rq, name);

	if (str_copy(out, size, value ? value : ""))
		return true;
	reply_error(rq, 400, "%s= is too long", name);
	return false;
}

static bool filter_word(struct request *rq, const char *name, const char *value, const char *const *words, size_t n)
{
	struct sb list = { 0 };

	if (!*value)
		return true;
	for (size_t i = 0; i < n; i++)
		if (str_eq(words[i], value))
			return true;
	for (size_t i = 0; i < n; i++)
		sb_addf(&list, "%s%s", i ? ", " : "", words[i]);
	reply_error(rq, 400, "%s=%s is none of %s", name, value, list.p ? list.p : "");
	sb_done(&list);
	return false;
}

static bool filter_parse(struct request *rq, struct flow_filter *f)
{
	static const char *const verdicts[] = { "allowed", "denied", "opened", "closed", "failed", "refused" };
	static const char *const paths[] = { "direct", "attested", "hbone", "plaintext", "http" };
	const char *reasons[DROP_REASON_COUNT];

	for (int i = 0; i < DROP_REASON_COUNT; i++)
		reasons[i] = text_of_reason((enum drop_reason)i);
	f->unique = request_query_true(rq, "unique");
	return filter_text(rq, "source", f->source, sizeof(f->source)) &&
	       filter_text(rq, "destination", f->destination, sizeof(f->destination)) &&
	       filter_text(rq, "namespace", f->ns, sizeof(f->ns)) &&
	       filter_text(rq, "verdict", f->verdict, sizeof(f->verdict)) &&
	       filter_text(rq, "path", f->path, sizeof(f->path)) &&
	       filter_text(rq, "reason", f->reason, sizeof(f->reason)) &&
	       filter_word(rq, "verdict", f->verdict, verdicts, ARRAY_SIZE(verdicts)) &&
	       filter_word(rq, "path", f->path, paths, ARRAY_SIZE(paths)) &&
	       filter_word(rq, "reason", f->reason, reasons, ARRAY_SIZE(reasons));
}

/* The position after which `last` flows that the filter lets through are found. */
static uint64_t position_for_last(const struct control_backend *b, const struct flow_filter *filter, uint64_t last)
{
	uint64_t found = 0, after = 0;

	for (const struct flow_entry *e; (e = b->flow_next(after, b->arg)); after = e->sequence)
		found += render(b, filter, e, NULL);
	uint64_t skip = found > last ? found - last : 0;
	after = 0;
	for (const struct flow_entry *e; skip && (e = b->flow_next(after, b->arg)); after = e->sequence)
		skip -= render(b, filter, e, NULL);
	return after;
}

void handle_flows(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	struct control *control = request_control(rq);
	struct flow_filter filter = { 0 };
	uint64_t last = UINT64_MAX;
	size_t n = 0;
	if (!b->flow_next) {
		reply_missing(rq);
		return;
	}
	if (!filter_parse(rq, &filter) || !request_query_u64(rq, "last", 1000000, &last))
		return;
	for (struct follower *f = *control_followers(control); f; f = f->next)
		n++;
	if (n >= FOLLOWERS_MAX) {
		reply_error(rq, 503, "%d clients read flows already; end one of them", FOLLOWERS_MAX);
		return;
	}
	struct follower *f = calloc(1, sizeof(*f));
	if (!f) {
		reply_error(rq, 500, "no memory");
		return;
	}
	f->control = control;
	f->filter = filter;
	f->follow = request_query_true(rq, "follow");
	/* Somebody who follows wants what comes, unless asked for what was. */
	if (last != UINT64_MAX)
		f->after = position_for_last(b, &filter, last);
	else if (f->follow && b->flow_newest)
		f->after = b->flow_newest(b->arg);
	f->next = *control_followers(control);
	*control_followers(control) = f;
	reply_stream(rq, "application/x-ndjson", follower_read, follower_done, f);
	if (*control_followers(control) == f)
		f->stream = request_stream(rq);
}
