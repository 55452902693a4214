/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of access logs of one worker on their way to the writer: collected for a tenth of a second, so that a request
 * costs a line's text and nothing else. Worker's thread. */
#pragma once

struct access_logs;
struct link_shard;
struct log_writer;
struct loop;
struct request_record;
struct telemetry;

/* metrics: where lost lines are counted. 0 or -errno. */
int access_logs_new(struct loop *loop, struct log_writer *writer, struct link_shard *metrics, struct access_logs **out);
void access_logs_free(struct access_logs *l); /* hands over what there is; NULL is fine */
void access_logs_write(struct access_logs *l, const struct telemetry *t, const struct request_record *r);
