/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/http/stream.h"

/* Envoy's defaults where it has one. */
const struct http_limits http_limits_default = {
	.head_bytes = 60 << 10,
	.field_count = 100,
	.head_timeout_ms = 10000,
	.body_timeout_ms = 0,
	.idle_timeout_ms = 3600000,
	.max_streams = 100,
	.stream_window = 256 << 10,
	.conn_window = 1 << 20,
	.max_requests = 0,
	.accept_http10 = true,
	.preserve_case = false,
};
