/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine knows of gRPC: its content type, deadlines, statuses and message framing. Pure. */
#pragma once

#include "agent/helper/http/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_UNAUTHENTICATED = 16,
};

/* "application/grpc", with "+proto" and parameters; not grpc-web. */
bool grpc_is(const struct http_head *head);
/* grpc-timeout ("100m") in milliseconds, rounded up. false: absent or malformed. */
bool grpc_timeout(const struct http_head *head, uint64_t *ms);
/* The number in grpc-status; -1: absent or no number. */
int grpc_status(const struct http_head *head);
int grpc_from_http(uint16_t status);
uint16_t grpc_to_http(int grpc);
/* Percent-encodes a message as grpc-message wants it. Returns the length written. */
size_t grpc_message_encode(const char *text, size_t len, char *out, size_t size);

/* Counts messages in a body as it passes. Zero-initialise. */
struct grpc_counter {
	uint64_t messages;
	uint32_t left; /* of the present message */
	uint8_t prefix[5], have;
};
void grpc_count(struct grpc_counter *c, const uint8_t *bytes, size_t len);
