/* SPDX-License-Identifier: Apache-2.0 */
/* Which endpoints outlier detection has ejected is known to the helper alone. Internal to agent/control. */
#pragma once

struct json_t;
struct request;

/* Replies with answer, at once or later: the endpoints of its "clusters" marked with what the helper says of them, if it says
 * something. Takes answer. */
void reply_with_ejections(struct request *rq, struct json_t *answer);
