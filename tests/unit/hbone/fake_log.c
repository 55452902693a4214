/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hbone/fake_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/worker.h"
#include "agent/model/telemetry.h"

char fake_log_line[1024];
unsigned int fake_log_lines;

void fake_log_want(struct worker_pod *pod)
{
	struct telemetry *t = telemetry_new();
	for (int side = 0; side < REPORTER_COUNT; side++) {
		t->logs[side] = calloc(1, sizeof(*t->logs[side]));
		t->log_count[side] = 1;
	}
	pod->telemetry = t;
	fake_log_lines = 0;
	fake_log_line[0] = 0;
}

void fake_log_done(struct worker_pod *pod)
{
	telemetry_unref(TAKE(pod->telemetry));
}

struct observe *worker_observe(struct worker *w)
{
	return (struct observe *)w;
}

void record_connection(struct observe *o, const struct request_record *r)
{
	struct sb line = { 0 };
	(void)o;
	assert_null(r->request);
	sb_addf(&line, "%s ", r->reporter == REPORTER_CLIENT ? "client" : "server");
	record_format(r,
		      "%RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% "
		      "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS% %UPSTREAM_HOST% "
		      "%UPSTREAM_CLUSTER% %REQUESTED_SERVER_NAME% %DOWNSTREAM_PEER_URI_SAN%",
		      &line);
	assert_true(r->start_ns && r->began_ns && r->end_ns >= r->began_ns);
	str_copy(fake_log_line, sizeof(fake_log_line), line.p);
	sb_done(&line);
	fake_log_lines++;
}
