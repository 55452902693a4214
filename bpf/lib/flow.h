/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sums by (source identity, destination identity, service, path, side, protocol). */
#pragma once

#include "bpf/lib/lookup.h"

INLINE struct flow_sum_value *flow_sum(const struct conn_info *info, __u8 source_side, __u8 proto)
{
	struct flow_sum_key key = { .source_identity = info->source_identity,
				    .destination_identity = info->destination_identity,
				    .service = info->service,
				    .path = info->path,
				    .source_side = source_side,
				    .proto = proto };
	/* Rows are bounded: what finds no room is added up in one row without identities. */
	struct flow_sum_key rest = { .path = info->path, .source_side = source_side, .proto = proto };
	struct flow_sum_value *sum = bpf_map_lookup_elem(&flow_sums, &key);
	static const struct flow_sum_value zero;

	if (sum)
		return sum;
	bpf_map_update_elem(&flow_sums, &key, &zero, BPF_NOEXIST);
	sum = bpf_map_lookup_elem(&flow_sums, &key);
	return sum ? sum : bpf_map_lookup_elem(&flow_sums, &rest);
}

/* Upper bounds in us, as kernel.h documents them. */
INLINE __u32 rtt_bucket(__u32 us)
{
	return us <= 50	    ? 0 :
	       us <= 100    ? 1 :
	       us <= 250    ? 2 :
	       us <= 500    ? 3 :
	       us <= 1000   ? 4 :
	       us <= 2500   ? 5 :
	       us <= 5000   ? 6 :
	       us <= 10000  ? 7 :
	       us <= 25000  ? 8 :
	       us <= 100000 ? 9 :
	       us <= 500000 ? 10 :
			      11;
}
