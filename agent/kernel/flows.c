// SPDX-License-Identifier: Apache-2.0
/* Reading back: flow events from the ring, sums, refusals, and how full the tables are. */
#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/kernel/internal.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Programs wake the agent only when the ring fills up; events may be this old otherwise. */
enum { FLOW_POLL_MS = 100 };

_Static_assert((int)FLOW_DIRECT == CONN_DIRECT && (int)FLOW_ATTESTED == CONN_ATTESTED &&
		       (int)FLOW_HBONE == CONN_HBONE && (int)FLOW_PLAINTEXT == CONN_PLAINTEXT &&
		       (int)FLOW_HTTP == CONN_HTTP,
	       "paths");
_Static_assert((int)FLOW_OPENED == EVENT_OPENED && (int)FLOW_CLOSED == EVENT_CLOSED &&
		       (int)FLOW_FAILED == EVENT_FAILED && (int)FLOW_REFUSED == EVENT_REFUSED,
	       "kinds");
_Static_assert((int)RTT_BUCKETS == (int)ABI_RTT_BUCKETS, "buckets");

struct flow_reader {
	struct kernel *k;
	struct ring_buffer *ring;
	struct loop_io *io;
	struct loop_timer *timer;
	uint64_t wall_offset_ns; /* monotonic to real time, of this poll */
};

static void addr_port_from(const struct ip_addr *a, __be16 port, struct addr_port *out)
{
	out->addr = abi_addr_from(a);
	out->port = ntohs(port);
}

static int on_event(void *arg, void *data, size_t size)
{
	struct flow_reader *r = arg;
	const struct flow_event *e = data;
	struct flow f = { 0 };

	if (size < sizeof(*e) || !r->k->events.on_flow)
		return 0;
	f.time_ns = e->time_ns + r->wall_offset_ns;
	f.kind = e->kind;
	f.path = e->path;
	f.reason = e->reason;
	f.proto = e->proto;
	f.source_side = e->source_side;
	f.source_identity = e->source_identity == ABI_IDENTITY_HOST ? 0 : e->source_identity;
	f.destination_identity = e->destination_identity;
	f.service = e->service;
	addr_port_from(&e->source, e->source_port, &f.source);
	addr_port_from(&e->destination, e->destination_port, &f.destination);
	addr_port_from(&e->original, e->original_port, &f.original);
	f.policy_id = e->policy;
	f.rule = e->rule;
	f.sent_bytes = e->sent_bytes;
	f.received_bytes = e->received_bytes;
	f.duration_ns = e->duration_ns;
	f.rtt_us = e->rtt_us;
	f.min_rtt_us = e->min_rtt_us;
	f.retransmits = e->retransmits;
	f.error = (int)e->error;
	r->k->events.on_flow(&f, r->k->events.arg);
	return 0;
}

static void flows_poll(struct flow_reader *r)
{
	r->wall_offset_ns = clock_wall_ns() - clock_now_ns();
	ring_buffer__consume(r->ring);
}

static void on_ring(struct loop_io *io, int events, void *arg)
{
	(void)io;
	(void)events;
	flows_poll(arg);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	(void)timer;
	flows_poll(arg);
}

int flow_reader_new(struct kernel *k, struct flow_reader **out, struct err *err)
{
	struct flow_reader *r = calloc(1, sizeof(*r));
	int rc = 0;

	if (!r)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	r->k = k;
	r->ring = ring_buffer__new(k->maps[KMAP_EVENTS], on_event, r, NULL);
	if (!r->ring) {
		rc = err_sys(err, -errno, "kernel: open the ring of flow events");
	} else if (k->loop) {
		rc = loop_io_new(k->loop, ring_buffer__epoll_fd(r->ring), on_ring, r, &r->io);
		if (rc == 0)
			rc = loop_io_set(r->io, LOOP_READ);
		if (rc == 0)
			rc = loop_timer_new(k->loop, on_timer, r, &r->timer);
		if (rc < 0)
			err_sys(err, rc, "kernel: watch the ring of flow events");
		else
			loop_timer_start(r->timer, FLOW_POLL_MS, FLOW_POLL_MS);
	}
	if (rc < 0) {
		flow_reader_free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void flow_reader_free(struct flow_reader *r)
{
	if (!r)
		return;
	loop_timer_free(r->timer);
	loop_io_free(r->io);
	ring_buffer__free(r->ring);
	free(r);
}

/* --- sums */

static void sum_add(struct flow_sum *to, const struct flow_sum_value *v)
{
	to->opened += v->opened;
	to->closed += v->closed;
	to->failed += v->failed;
	to->sent_bytes += v->sent_bytes;
	to->received_bytes += v->received_bytes;
	to->retransmits += v->retransmits;
	to->rtt_sum_us += v->rtt_sum_us;
	for (int i = 0; i < RTT_BUCKETS; i++)
		to->rtt[i] += v->rtt[i];
}

int kernel_flow_sums(struct kernel *k, void (*on_row)(const struct flow_sum *row, void *arg), void *arg)
{
	int cpus = libbpf_num_possible_cpus();
	AUTO(mem_freep) struct flow_sum_value *values = calloc((size_t)(cpus > 0 ? cpus : 1), sizeof(*values));
	struct flow_sum_key key;
	bool first = true;

	if (cpus < 0 || !values)
		return cpus < 0 ? cpus : -ENOMEM;
	while (bpf_map_get_next_key(k->maps[KMAP_FLOW_SUMS], first ? NULL : &key, &key) == 0) {
		struct flow_sum row = { .source_identity = key.source_identity,
					.destination_identity = key.destination_identity,
					.service = key.service,
					.path = key.path,
					.source_side = key.source_side,
					.proto = key.proto };

		first = false;
		if (bpf_map_lookup_elem(k->maps[KMAP_FLOW_SUMS], &key, values) < 0)
			continue;
		for (int i = 0; i < cpus; i++)
			sum_add(&row, &values[i]);
		if (row.opened || row.failed)
			on_row(&row, arg);
	}
	return 0;
}

void kernel_drops(struct kernel *k, uint64_t counts[DROP_REASON_COUNT])
{
	int cpus = libbpf_num_possible_cpus();
	AUTO(mem_freep) uint64_t *values = calloc((size_t)(cpus > 0 ? cpus : 1), sizeof(*values));

	for (uint32_t reason = 0; reason < DROP_REASON_COUNT; reason++) {
		counts[reason] = 0;
		if (!values || bpf_map_lookup_elem(k->maps[KMAP_DROPS], &reason, values) < 0)
			continue;
		for (int i = 0; i < cpus; i++)
			counts[reason] += values[i];
	}
}

uint64_t kernel_flows_lost(struct kernel *k)
{
	int cpus = libbpf_num_possible_cpus();
	AUTO(mem_freep) struct refusal_rate *values = calloc((size_t)(cpus > 0 ? cpus : 1), sizeof(*values));
	uint32_t zero = 0;
	uint64_t lost = 0;

	if (values && bpf_map_lookup_elem(k->maps[KMAP_EVENT_RATE], &zero, values) == 0)
		for (int i = 0; i < cpus; i++)
			lost += values[i].lost;
	return lost;
}

/* --- fill */

static uint32_t count_keys(int fd, size_t key_size)
{
	AUTO(mem_freep) void *key = malloc(key_size);
	uint32_t n = 0;

	while (key && bpf_map_get_next_key(fd, n ? key : NULL, key) == 0)
		n++;
	return n;
}

int kernel_map_fill(struct kernel *k, void (*on_map)(const struct map_fill *fill, void *arg), void *arg)
{
	uint32_t counts[KT_COUNT] = { 0 }, cidr_count = 0;
	struct map_fill sums = { .name = "flow_sums", .max_entries = k->flow_rows };

	/* Known from what was written: reading a table of the whole cluster at every scrape would cost more. */
	if (k->plan) {
		counts[KT_SERVICES] = services_count_entries(k->plan, KT_SERVICES);
		counts[KT_SLOTS] = services_count_entries(k->plan, KT_SLOTS);
		counts[KT_WORKLOADS] = (uint32_t)k->plan->by_addr_count;
	}
	policies_fill(k, counts, &cidr_count);
	for (int i = 0; i < KT_COUNT; i++)
		on_map(&(struct map_fill){ k->tables[i].name, counts[i], k->tables[i].max_entries }, arg);
	on_map(&(struct map_fill){ "pods", (uint32_t)table_count(k->pods_by_cookie), 16384 }, arg);
	on_map(&(struct map_fill){ "cidrs", cidr_count, 1 << 20 }, arg);
	sums.entries = count_keys(k->maps[KMAP_FLOW_SUMS], sizeof(struct flow_sum_key));
	on_map(&sums, arg);
	return 0;
}
