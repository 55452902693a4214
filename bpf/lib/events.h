/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counting refusals and reporting flows. */
#pragma once

#include "bpf/lib/lookup.h"

/* The agent looks at the ring every 100 ms; it is woken only when a quarter of the ring is used, so that an event
 * costs a connection no wake-up. */
INLINE __u64 event_wakeup(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > 64 * 1024 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* The caller tests the result at once, with nothing in between: before 6.2 the verifier forgets, at a second test, that
 * the first has found it there. */
INLINE struct flow_event *event_reserve_at(__u64 now)
{
	struct flow_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	__u32 zero = 0;

	if (e) {
		__builtin_memset(e, 0, sizeof(*e));
		e->time_ns = now;
		e->rule = ABI_RULE_NONE;
		return e;
	}
	struct refusal_rate *rate = bpf_map_lookup_elem(&event_rate, &zero);

	if (rate)
		rate->lost++;
	return NULL;
}

INLINE struct flow_event *event_reserve(void)
{
	return event_reserve_at(bpf_ktime_get_ns());
}

INLINE void event_submit(struct flow_event *e)
{
	bpf_ringbuf_submit(e, event_wakeup());
}

INLINE void drop_count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&drops, &reason);

	if (n)
		(*n)++;
}

/* Counts, and says whether an event may be sent too: a flood must not cost the agent more than it can read. */
INLINE int drop_admit_event(__u32 reason)
{
	__u32 zero = 0;
	__u64 second = bpf_ktime_get_ns() >> 30;
	struct refusal_rate *rate = bpf_map_lookup_elem(&event_rate, &zero);

	drop_count(reason);
	if (!rate)
		return 0;
	if (rate->second != second) {
		rate->second = second;
		rate->events = 0;
	}
	return ++rate->events <= ABI_REFUSALS_PER_SECOND;
}
