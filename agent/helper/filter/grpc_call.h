/* SPDX-License-Identifier: Apache-2.0 */
/* A unary gRPC call of the helper's own, over side_call_new(): its head and its framing. */
#pragma once

#include "agent/helper/http/message.h"

enum { GRPC_FRAME = 5 }; /* bytes before a message */

/* The host in a cluster's name, which is its last part: "outbound|9000||authz.shop.svc.cluster.local". */
const char *cluster_host(const char *cluster);
/* POST of len bytes to path; the authority is the host in the cluster's name. NULL: no memory. */
struct http_head *grpc_call_head(const char *cluster, const char *path, uint32_t timeout_ms, size_t len);
/* Before a message of n bytes: not compressed. */
void grpc_frame_write(uint8_t *to, size_t n);
/* The one message of a response that is OK; NULL: it is not, or has not exactly one. */
const uint8_t *grpc_call_message(const struct http_head *response, const struct http_head *trailers,
				 const uint8_t *body, size_t len, size_t *n);
