/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of agent/control ask of struct control. Loop thread. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct control;
struct control_backend;
struct follower;
struct loop;
struct request;
struct tap_reader;

const struct control_backend *control_backend(const struct control *control);
bool control_group(const struct control *control, gid_t *gid, bool *may_change); /* false: no group */
struct loop *control_loop(const struct control *control);
bool control_is_closing(const struct control *control);
struct request **control_waiting(struct control *control);    /* list of requests that wait */
struct follower **control_followers(struct control *control); /* list of readers of flows */
struct tap_reader **control_taps(struct control *control);    /* list of readers of live requests */
void request_cancel_waiting(struct request *rq);

/* flows.c */
void followers_wake(struct control *control, bool heartbeat);

/* tap.c */
void taps_end(struct control *control); /* control is closing */
