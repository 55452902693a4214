/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP requests that never wait: libcurl (which appears only in transfer.c) on a loop. One loop thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct loop;
struct transfer;
struct transfers;

enum {
	TRANSFERS_MAX = 256,	       /* under way or waiting */
	TRANSFER_CONNECTIONS_MAX = 16, /* at once: further requests wait, within their own timeouts */
};

struct transfer_request {
	const char *url;	    /* http or https */
	const char *const *headers; /* "Name: value", NULL at the end; may be NULL */
	const void *body;	    /* copied; NULL: GET, else POST */
	size_t body_len;
	uint32_t timeout_ms;
	size_t response_max;	/* more is a failure */
	bool http2;		/* without asking first: what gRPC speaks */
	bool once;		/* the connection is not kept: the next request is far away */
	bool fail_on_error;	/* a status from 400 is a failure */
	unsigned int redirects; /* that are followed, from https never to http; 0: none */
	const char *roots;	/* a file, in place of the system's; NULL: those */
};

struct transfer_result {
	long status; /* 0: none */
	const uint8_t *body;
	size_t len;
	int grpc_status;   /* of the trailers; -1: none */
	int64_t max_age_s; /* Cache-Control; -1: not said */
	const char *error; /* why there is no answer; NULL: there is one */
};
/* The result is valid during the call. */
typedef void (*transfer_fn)(const struct transfer_result *result, void *arg);

int transfers_new(struct loop *loop, struct transfers **out, struct err *err);
void transfers_free(struct transfers *t); /* those under way are dropped without a call; NULL is fine */
/* Calls back once, later, unless it is cancelled; others may be started and cancelled from there. 0, -ENOMEM, or -EBUSY when
 * there are too many. */
int transfer_start(struct transfers *t, const struct transfer_request *request, transfer_fn fn, void *arg,
		   struct transfer **out);
void transfer_cancel(struct transfer *transfer); /* NULL is fine */
