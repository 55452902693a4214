/* SPDX-License-Identifier: Apache-2.0 */
/* Spans of one worker on their way to the agent: collected for a while, sent as a batch, dropped and counted when the
 * agent does not keep up. Worker's thread. */
#pragma once

struct request_record;
struct spans;
struct tracing;
struct worker;

int spans_new(struct worker *w, struct spans **out); /* 0 or -errno */
void spans_free(struct spans *s);		     /* sends what there is; NULL is fine */
void spans_add(struct spans *s, const struct tracing *t, const struct request_record *r);
