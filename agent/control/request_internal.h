/* SPDX-License-Identifier: Apache-2.0 */
/* A request's state, for server.c (which runs it) and request.c (which handlers call). Loop thread. */
#pragma once

#include "agent/base/str.h"
#include "agent/control/request.h"

#include <stdbool.h>

struct MHD_Connection;
struct MHD_Response;
struct json_t;
struct server;

struct stream {
	struct request *rq;
	stream_read_fn read;
	void (*done)(void *arg);
	void *arg;
	bool suspended;
};

struct request {
	unsigned int refs; /* MHD's, a waiting handler's, a stream's */
	struct server *server;
	struct MHD_Connection *connection; /* NULL: MHD is done with it */
	const char *captures[REQUEST_CAPTURES_MAX];
	char *path;
	struct sb body;
	bool body_too_large, dispatched, waiting, suspended;
	struct json_t *json; /* of the body */
	struct MHD_Response *response;
	unsigned int status;
	struct stream *stream;
	struct request *next_waiting; /* of control */
};

void request_unref(struct request *rq);
struct control *server_control(const struct server *server);
