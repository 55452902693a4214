/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/telemetry/flowlog.h"

#include <stdlib.h>

#include "agent/base/str.h"

struct flowlog {
	size_t mask;
	uint64_t newest; /* sequence of the last entry; it is at newest & mask */
	struct flow_entry entries[];
};

struct flowlog *flowlog_new(size_t capacity)
{
	size_t size = 1;
	while (size < capacity && size < FLOWLOG_MAX)
		size *= 2;
	/* calloc: pages of a ring that is not used yet are not resident. */
	struct flowlog *log = calloc(1, sizeof(*log) + size * sizeof(log->entries[0]));
	if (log)
		log->mask = size - 1;
	return log;
}

void flowlog_free(struct flowlog *log)
{
	free(log);
}

void flowlog_add(struct flowlog *log, const struct flow *flow, const char *rule)
{
	struct flow_entry *entry = &log->entries[++log->newest & log->mask];

	entry->sequence = log->newest;
	entry->flow = *flow;
	str_copy(entry->rule, sizeof(entry->rule), rule ? rule : "");
}

const struct flow_entry *flowlog_next(const struct flowlog *log, uint64_t after)
{
	uint64_t oldest = flowlog_oldest(log);
	uint64_t want = after + 1 > oldest ? after + 1 : oldest;

	return log->newest && want <= log->newest ? &log->entries[want & log->mask] : NULL;
}

uint64_t flowlog_newest(const struct flowlog *log)
{
	return log->newest;
}

uint64_t flowlog_oldest(const struct flowlog *log)
{
	if (!log->newest)
		return 0;
	return log->newest > log->mask ? log->newest - log->mask : 1;
}
