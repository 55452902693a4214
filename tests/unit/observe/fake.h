/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that takes notes, and a request that is over: what the tests of agent/helper/observe tell of. */
#pragma once

#include "agent/base/str.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/worker.h"
#include "agent/link/metrics.h"
#include "agent/link/request_metrics.h"
#include "agent/model/telemetry.h"

struct fake {
	struct request_record r; /* GET shop.example/a?b=1 by HTTP/1.1, answered with 200 by 10.0.0.2:8080 */
	struct http_head *request, *response;
	struct worker_pod pod;
	struct telemetry *telemetry; /* of the pod */
	struct observe *observe;
};

/* What the worker was given. */
struct fake_notes {
	struct link_shard metrics;
	struct request_shard *shard;
	struct request_writer *writer;
	struct helper_settings settings;
	struct loop *loop;
	struct sb spans;
	size_t span_count, span_batches;
	struct observe *observe; /* the test's */
	const char *tap;	 /* a filter; NULL: nobody watches */
	char *tap_record;	 /* the last */
	size_t tap_records;
};
extern struct fake_notes fake_notes;

int fake_setup(void **state); /* *state: struct fake */
int fake_teardown(void **state);
void fake_field(struct http_head *h, const char *name, const char *value); /* as it is, valid or not */
void fake_run(unsigned int ms);						   /* the loop, so long */
