// SPDX-License-Identifier: Apache-2.0
/* Established connections under a changed policy. The verdict of bpf/inbound.bpf.c is given once, at SYN time; when the
 * policy of a pod or its ports with HTTP rules change, its open connections are judged anew here, by the same code over
 * the same tables, and those that would be refused now, or belong to the helper now, are ended.
 *
 * What a program noted when a connection was established says who called (tcp_states, or the socket's local storage).
 * A connection without a note was there before the pod was in the mesh, and nobody has ever judged it: it is left alone,
 * like the helper's own sockets, and like those that the helper opened to the application, whose callers it judges.
 *
 * One that the policy forbids ends at once. One that is only the helper's now, because its port has got rules on requests,
 * may get the answer to what was asked before: it ends then, which its idle times tell (base/turn.h), when its client says
 * more, and after 5 s in any case.
 *
 * Pods wait in a queue, and a tick of the loop looks at a bounded number of sockets. A handshake that was under way when
 * the policy changed has been judged by the old one, and is not listed before it is complete: so each pod is looked at
 * again a second later, and then at growing intervals while it has handshakes, for as long as one can last. */
#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/kernel/diag.h"
#include "agent/kernel/internal.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

enum {
	TICK_SOCKETS = 10000,
	LATER_MS = TURN_LOOK_MS, /* how often pods that wait for another look are looked for */
	ROUNDS = 8,		 /* the last one is 127 s after the change: SYN+ACK is repeated for 63 */
	SEEN = 256,
};
#define TICK_NS 5000000ull
#define AGAIN_NS 1000000000ull

_Static_assert(sizeof(struct inbound_call) == 40, "no padding");

/* Many connections have few callers, and a verdict may take hundreds of lookups. */
struct seen {
	struct inbound_call call;
	struct explain_inbound verdict;
	bool valid;
};

struct recheck {
	struct kernel *k;
	struct loop_timer *timer;
	struct pod_list now, later;
	struct pod *at; /* under examination; in neither list */
	struct diag *diag;
	uint32_t sockets; /* of this tick */
	bool handshakes;
	bool busy;   /* connections of the pod have a request under way */
	bool cannot; /* this kernel ends no sockets */
	bool said;
	struct recheck_counts counts;
	struct seen seen[SEEN];
};

static void on_tick(struct loop_timer *timer, void *arg);

int recheck_new(struct kernel *k, struct recheck **out, struct err *err)
{
	struct recheck *r = calloc(1, sizeof(*r));

	if (!r || loop_timer_new(k->loop, on_tick, r, &r->timer) < 0) {
		free(r);
		return err_set(err, -ENOMEM, "kernel: out of memory");
	}
	r->k = k;
	TAILQ_INIT(&r->now);
	TAILQ_INIT(&r->later);
	*out = r;
	return 0;
}

void recheck_free(struct recheck *r)
{
	if (!r)
		return;
	loop_timer_free(r->timer);
	diag_free(r->diag);
	free(r);
}

static void examination_end(struct recheck *r)
{
	diag_free(r->diag);
	r->diag = NULL;
	r->at = NULL;
}

void recheck_forget(struct recheck *r, struct pod *pod)
{
	if (!r)
		return;
	if (r->at == pod)
		examination_end(r);
	if (pod->waits == POD_WAITS_NOW)
		TAILQ_REMOVE(&r->now, pod, queue);
	else if (pod->waits == POD_WAITS_LATER)
		TAILQ_REMOVE(&r->later, pod, queue);
	pod->waits = POD_WAITS_NOT;
}

void recheck_pod(struct recheck *r, struct pod *pod)
{
	if (!r)
		return;
	recheck_forget(r, pod);
	pod->round = 0;
	pod->changed_ns = clock_now_ns();
	pod->waits = POD_WAITS_NOW;
	TAILQ_INSERT_TAIL(&r->now, pod, queue);
	loop_timer_start(r->timer, 0, 0);
}

/* Until then the pod's entry says that this is owed, to whichever agent comes next. */
static void settled(struct recheck *r, struct pod *pod)
{
	pod->value.flags &= ~(uint32_t)POD_RECHECK;
	pod_write(r->k, pod, NULL);
}

/* For those that were busy; not a round. */
static void wait_for_answers(struct recheck *r, struct pod *pod)
{
	pod->due_ns = 0;
	pod->waits = POD_WAITS_LATER;
	TAILQ_INSERT_TAIL(&r->later, pod, queue);
}

static void wait_for_round(struct recheck *r, struct pod *pod)
{
	if (pod->round == ROUNDS - 1) {
		settled(r, pod);
		return;
	}
	pod->due_ns = clock_now_ns() + (AGAIN_NS << pod->round);
	pod->round++;
	pod->waits = POD_WAITS_LATER;
	TAILQ_INSERT_TAIL(&r->later, pod, queue);
}

bool recheck_differs(const struct pod_value *a, const struct pod_value *b)
{
	return a->policy != b->policy || a->l7 != b->l7 || (a->flags ^ b->flags) & POD_L7_OTHER;
}

/* --- one connection */

/* What was noted about the socket when it was accepted; false: nothing. */
static bool state_read(const struct recheck *r, const struct diag_socket *s, struct sock_state *state)
{
	if (bpf_map_lookup_elem(r->k->maps[KMAP_TCP_STATES], &s->cookie, state) == 0)
		return true;
	if (s->has_stored)
		*state = s->stored;
	return s->has_stored;
}

/* The same exception as in inbound.bpf.c: the pod itself, or its helper, which has judged the caller. */
static bool is_own(const struct sock_state *state)
{
	return state->info.flags & CONN_SAME_NETNS && state->info.source_pod == state->pod;
}

static const struct explain_inbound *verdict_of(struct recheck *r, const struct inbound_call *call)
{
	struct seen *seen = &r->seen[hash_keyed(call, sizeof(*call)) % SEEN];

	if (!seen->valid || memcmp(&seen->call, call, sizeof(*call)) != 0) {
		seen->call = *call;
		seen->valid = true;
		explain_verdict(r->k, r->at, call, &seen->verdict);
	}
	return &seen->verdict;
}

static void report(struct recheck *r, const struct diag_socket *s, const struct sock_state *state,
		   const struct explain_inbound *v, enum drop_reason reason)
{
	const struct conn_info *info = &state->info;
	struct flow f = { .time_ns = clock_wall_ns(),
			  .kind = FLOW_REFUSED,
			  .path = (enum flow_path)info->path,
			  .reason = reason,
			  .proto = IPPROTO_TCP,
			  .source_identity = info->source_identity == ABI_IDENTITY_HOST ? 0 : info->source_identity,
			  .destination_identity = info->destination_identity,
			  .service = info->service,
			  .policy_id = v->policy_id,
			  .rule = v->rule };

	if (!r->k->events.on_flow)
		return;
	f.source = (struct addr_port){ abi_addr_from(&s->remote), ntohs(s->id.idiag_dport) };
	f.destination = (struct addr_port){ abi_addr_from(&s->local), ntohs(s->id.idiag_sport) };
	f.original = (struct addr_port){ abi_addr_from(&info->original), ntohs(info->original_port) };
	r->k->events.on_flow(&f, r->k->events.arg);
}

static void cut(struct recheck *r, const struct diag_socket *s, const struct sock_state *state,
		const struct explain_inbound *v)
{
	enum drop_reason reason = v->reason != DROP_NONE ? v->reason : DROP_HTTP_RULES;
	int rc = diag_end(r->diag, s);

	if (rc == 0) {
		r->counts.cut[reason]++;
		report(r, s, state, v, reason);
		return;
	}
	if (rc == -ENOENT) /* it has ended by itself */
		return;
	r->counts.failed++;
	r->cannot = rc == -EOPNOTSUPP;
	if (!r->said)
		log_warn("a connection of pod %s that its policy forbids now lives on: %s%s", r->at->pub.workload->uid,
			 strerror(-rc), r->cannot ? " (this kernel has no CONFIG_INET_DIAG_DESTROY)" : "");
	r->said = true;
}

static void on_socket(const struct diag_socket *s, void *arg)
{
	struct recheck *r = arg;
	struct sock_state state;
	struct inbound_call call = {
		.source = s->remote, .destination = s->local, .port = ntohs(s->id.idiag_sport), .proto = IPPROTO_TCP
	};

	r->sockets++;
	if (s->state == TCP_SYN_RECV) {
		r->handshakes = true;
		return;
	}
	if (!state_read(r, s, &state) || state.role != ROLE_ACCEPTED || state.pod != r->at->pub.cookie ||
	    is_own(&state))
		return;
	if (state.info.source_pod || state.info.flags & CONN_HOST) {
		call.attested = 1;
		call.identity = state.info.source_identity == ABI_IDENTITY_HOST ? 0 : state.info.source_identity;
	}
	const struct explain_inbound *v = verdict_of(r, &call);

	if (v->reason == DROP_NONE && !v->to_helper)
		return;
	if (v->reason == DROP_NONE && turn_is_open(&s->turn, (clock_now_ns() - r->at->changed_ns) / 1000000))
		r->busy = true;
	else
		cut(r, s, &state, v);
}

/* --- the queue */

static int examination_open(struct recheck *r, struct pod *pod, struct err *err)
{
	int rc = pod->pub.host_network ? 0 : pod_enter(r->k, &pod->pub, err);

	if (rc < 0)
		return rc;
	rc = diag_open(r->k->maps[KMAP_SOCK_STATES], &r->diag, err);
	if (!pod->pub.host_network)
		netns_leave(r->k);
	return rc;
}

static void examination_begin(struct recheck *r, struct pod *pod)
{
	struct err err = ERR_INIT;

	if (pod->gone)
		return;
	if (examination_open(r, pod, &err) < 0) {
		log_warn("pod %s: its open connections are not judged by its changed policy yet: %s",
			 pod->pub.workload->uid, err.text);
		wait_for_round(r, pod);
		return;
	}
	r->at = pod;
	r->handshakes = r->busy = false;
	memset(r->seen, 0, sizeof(r->seen));
}

static void examination_step(struct recheck *r)
{
	struct pod *pod = r->at;
	int rc = diag_next(r->diag, on_socket, r);

	if (rc > 0)
		return;
	if (rc < 0)
		log_warn("pod %s: list its TCP sockets: %s", pod->pub.workload->uid, strerror(-rc));
	examination_end(r);
	if (!r->cannot && rc == 0 && r->busy)
		wait_for_answers(r, pod);
	else if (!r->cannot && (rc < 0 || pod->round == 0 || r->handshakes))
		wait_for_round(r, pod);
	else
		settled(r, pod);
}

static struct pod *next_due(struct recheck *r)
{
	struct pod *pod = TAILQ_FIRST(&r->now), *next;

	if (!pod) {
		uint64_t now = clock_now_ns();

		for (struct pod *p = TAILQ_FIRST(&r->later); p; p = next) {
			next = TAILQ_NEXT(p, queue);
			if (p->due_ns > now)
				continue;
			TAILQ_REMOVE(&r->later, p, queue);
			TAILQ_INSERT_TAIL(&r->now, p, queue);
			p->waits = POD_WAITS_NOW;
		}
		pod = TAILQ_FIRST(&r->now);
	}
	if (pod) {
		TAILQ_REMOVE(&r->now, pod, queue);
		pod->waits = POD_WAITS_NOT;
	}
	return pod;
}

static void on_tick(struct loop_timer *timer, void *arg)
{
	struct recheck *r = arg;
	uint64_t end_ns = clock_now_ns() + TICK_NS;

	r->sockets = 0;
	while (r->sockets < TICK_SOCKETS && clock_now_ns() < end_ns) {
		struct pod *pod = r->at ? NULL : next_due(r);

		if (pod)
			examination_begin(r, pod);
		else if (r->at)
			examination_step(r);
		else
			break;
	}
	if (r->at || !TAILQ_EMPTY(&r->now))
		loop_timer_start(timer, 1, 0);
	else if (!TAILQ_EMPTY(&r->later))
		loop_timer_start(timer, LATER_MS, 0);
}

void kernel_rechecks(const struct kernel *k, struct recheck_counts *out)
{
	*out = k->recheck ? k->recheck->counts : (struct recheck_counts){ 0 };
}
