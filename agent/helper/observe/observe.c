/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of a request when it is over. */
#include "agent/helper/observe/access_log.h"
#include "agent/helper/observe/internal.h"
#include "agent/helper/observe/requests.h"
#include "agent/helper/observe/spans.h"
#include "agent/helper/observe/tap.h"

#include "agent/helper/worker.h"
#include "agent/model/telemetry.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

int observe_new(struct worker *w, struct observe **out)
{
	struct observe *o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->w = w;
	if (getrandom(o->random, sizeof(o->random), 0) != sizeof(o->random)) {
		free(o);
		return -EIO;
	}
	o->random[0] |= 1; /* never all zero */
	*out = o;
	return 0;
}

void observe_free(struct observe *o)
{
	if (!o)
		return;
	request_counts_free(o->counts);
	access_logs_free(o->logs);
	spans_free(o->spans);
	free(o);
}

/* xorshift128+: ids and sampling, no secrets. */
uint64_t observe_random(struct observe *o)
{
	uint64_t a = o->random[0], b = o->random[1];
	o->random[0] = b;
	a ^= a << 23;
	o->random[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
	return o->random[1] + b;
}

static void write_logs(struct observe *o, const struct telemetry *t, const struct request_record *r)
{
	const struct helper_settings *settings = worker_settings(o->w);
	if (t->log_count[r->reporter] && settings->log_writer &&
	    (o->logs || access_logs_new(worker_loop(o->w), settings->log_writer, worker_metrics(o->w), &o->logs) == 0))
		access_logs_write(o->logs, t, r);
}

void record_connection(struct observe *o, const struct request_record *r)
{
	if (r->pod->telemetry)
		write_logs(o, r->pod->telemetry, r);
}

void record_finish(struct observe *o, const struct request_record *r)
{
	const struct telemetry *t = r->pod->telemetry;
	struct request_writer *writer = worker_requests(o->w);

	if (writer && (o->counts || request_counts_new(writer, &o->counts) == 0))
		request_counts_add(o->counts, t, r);
	taps_serve(o->w, r);
	if (!t)
		return;
	write_logs(o, t, r);
	if (r->sampled && t->tracing[r->reporter].provider && (o->spans || spans_new(o->w, &o->spans) == 0))
		spans_add(o->spans, &t->tracing[r->reporter], r);
}
