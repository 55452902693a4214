/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker tells of its requests, besides counts: spans and taps. The link thread takes them when it comes to it;
 * what is told, not asked, makes way when it does not. */
#include "agent/helper/worker_internal.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/table.h"
#include "agent/helper/observe/connection_log.h"
#include "agent/link/metrics.h"
#include "agent/model/telemetry.h"

enum { SPANS_PENDING_MAX = 64, SPANS_BYTES_MAX = 128 << 10, TAP_RECORD_MAX = 16 << 10 };

static void count(uint64_t *at, uint64_t n)
{
	__atomic_store_n(at, *at + n, __ATOMIC_RELAXED);
}

void worker_spans(struct worker *w, const uint8_t *bytes, size_t len, uint32_t n)
{
	bool room = __atomic_load_n(&w->spans_pending, __ATOMIC_RELAXED) < SPANS_PENDING_MAX;
	char *copy = !w->away && room && len && len <= SPANS_BYTES_MAX ? malloc(len) : NULL;
	if (!copy) {
		count(&w->shard->spans_dropped, n);
		return;
	}
	memcpy(copy, bytes, len);
	struct report report = { .kind = REPORT_SPANS, .text = copy, .len = len, .count = n };
	__atomic_add_fetch(&w->spans_pending, 1, __ATOMIC_RELAXED);
	if (worker_report(w, &report))
		return;
	__atomic_sub_fetch(&w->spans_pending, 1, __ATOMIC_RELAXED);
	count(&w->shard->spans_dropped, n);
}

/* What the kernel carried of a pod that has gone since, or whose Telemetry has no lines any more, has none. */
void worker_carried(struct worker *w, const struct carried *c)
{
	struct pod_entry *entry = table_get(w->pods, &c->cookie, sizeof(c->cookie));
	struct connection_log *log =
		entry ? connection_log_new(w, &entry->pod, c->server ? REPORTER_SERVER : REPORTER_CLIENT) : NULL;
	const struct connection_end end = { .source = &c->source,
					    .upstream = c->upstream.port ? &c->upstream : NULL,
					    .peer = c->peer,
					    .received_bytes = c->received_bytes,
					    .sent_bytes = c->sent_bytes };
	connection_log_times(log, c->start_ns, c->duration_ns);
	connection_log_asked(log, &c->destination, c->cluster, NULL);
	if (c->reason != DROP_NONE)
		connection_log_refused(log, c->reason, c->rule, NULL);
	connection_log_end(log, &end);
}

static struct worker_tap *tap_find(struct worker *w, uint32_t id)
{
	for (size_t i = 0; i < w->tap_count; i++)
		if (w->taps[i].id == id)
			return &w->taps[i];
	return NULL;
}

static void tap_remove(struct worker *w, struct worker_tap *tap)
{
	size_t at = (size_t)(tap - w->taps), last = --w->tap_count;
	free((char *)(uintptr_t)tap->filter);
	w->taps[at] = w->taps[last];
	w->tap_rates[at] = w->tap_rates[last];
}

void worker_tap_set(struct worker *w, uint32_t id, char *filter, uint32_t per_second)
{
	struct worker_tap *tap = tap_find(w, id);
	if (tap)
		tap_remove(w, tap);
	w->tap_generation++;
	if (!per_second || w->tap_count == WORKER_TAPS_MAX) {
		free(filter);
		return;
	}
	w->tap_rates[w->tap_count] = RATE(per_second, per_second);
	w->taps[w->tap_count++] = (struct worker_tap){ .id = id, .filter = filter };
}

void worker_taps_free(struct worker *w)
{
	while (w->tap_count)
		tap_remove(w, &w->taps[0]);
}

size_t worker_taps(const struct worker *w, const struct worker_tap **taps, uint32_t *generation)
{
	*taps = w->taps;
	*generation = w->tap_generation;
	return w->tap_count;
}

bool worker_tap_allows(struct worker *w, uint32_t id)
{
	const struct worker_tap *tap = tap_find(w, id);
	if (tap && rate_take(&w->tap_rates[tap - w->taps], loop_now_ns(w->loop), 1))
		return true;
	count(&w->shard->taps_dropped, 1);
	return false;
}

void worker_tap_record(struct worker *w, uint32_t id, char *json)
{
	if (w->away || !json || strlen(json) > TAP_RECORD_MAX) {
		count(&w->shard->taps_dropped, 1);
		free(json);
		return;
	}
	struct report report = { .kind = REPORT_TAP, .id = id, .text = json };
	if (!worker_report(w, &report))
		count(&w->shard->taps_dropped, 1);
}
