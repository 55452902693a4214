/* SPDX-License-Identifier: Apache-2.0 */
/* Counts requests in the memory shared with the agent (link/request_metrics.h). Worker's thread. */
#pragma once

struct request_counts;
struct request_record;
struct request_writer;
struct telemetry;

int request_counts_new(struct request_writer *writer, struct request_counts **out); /* 0 or -ENOMEM */
void request_counts_free(struct request_counts *c);
/* t NULL: nothing was said, so all of Istio's metrics with their labels. */
void request_counts_add(struct request_counts *c, const struct telemetry *t, const struct request_record *r);
