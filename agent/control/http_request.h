/* SPDX-License-Identifier: Apache-2.0 */
/* A request as a person describes it (URL, method, headers), in the form that routes and policies are matched against.
 * Internal to agent/control; pure. */
#pragma once

#include "agent/model/filters.h"
#include "agent/model/http.h"

#include <stdbool.h>

struct err;

enum { ASKED_HEADERS_MAX = 64, ASKED_TEXT_MAX = 16 * 1024 };

struct asked_header {
	char *name, *value; /* name: lower case; several of one name are joined with "," */
};

struct asked_request {
	char *scheme, *host;			 /* of the URL: "http", "catalog:8080" or "[fd00::1]" */
	char *method, *authority, *path, *query; /* path: normalised; query NULL: none */
	struct asked_header headers[ASKED_HEADERS_MAX];
	size_t header_count;
};

/* method NULL: GET; headers: lines "Name: value", NULL: none. -EINVAL with a sentence, also for a path that the helper would
 * answer with 400, or -ENOMEM. In any case asked_request_done(). */
int asked_request_init(struct asked_request *r, const char *url, const char *method, const char *headers,
		       enum path_normalization normalization, struct err *err);
void asked_request_done(struct asked_request *r);
/* Borrows r. Source and port are the caller's to fill in. */
struct http_request_view asked_request_view(const struct asked_request *r);
const char *asked_request_header(const struct asked_request *r, const char *name); /* NULL: absent */
/* What a route makes of it before the endpoint sees it: rewrites, and header operations without %operators%. 0, -ENOMEM. */
int asked_request_apply(struct asked_request *r, const struct http_route *route, size_t match,
			const struct http_destination *destination);
