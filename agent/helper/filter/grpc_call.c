/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/filter/grpc_call.h"

#include <string.h>

#include "agent/helper/route/grpc.h"

const char *cluster_host(const char *cluster)
{
	const char *bar = strrchr(cluster, '|');

	return bar ? bar + 1 : cluster;
}

struct http_head *grpc_call_head(const char *cluster, const char *path, uint32_t timeout_ms, size_t len)
{
	const char *host = cluster_host(cluster);
	struct http_head *h = http_head_new();
	if (!h)
		return NULL;
	h->version = HTTP_2;
	h->method = http_head_text(h, "POST", 4);
	h->scheme = http_head_text(h, "http", 4);
	h->path = http_head_text(h, path, strlen(path));
	h->authority = http_head_text(h, host, strlen(host));
	h->content_length = (int64_t)len;
	struct http_string timeout = http_head_textf(h, "%um", timeout_ms);
	if (!h->method.p || !h->scheme.p || !h->path.p || !h->authority.p || !timeout.p ||
	    http_add(h, "content-type", "application/grpc") < 0 || http_add(h, "te", "trailers") < 0 ||
	    http_add_id(h, HTTP_GRPC_TIMEOUT, timeout.p, timeout.n) < 0) {
		http_head_free(h);
		return NULL;
	}
	return h;
}

void grpc_frame_write(uint8_t *to, size_t n)
{
	to[0] = 0;
	for (size_t i = 0; i < 4; i++)
		to[1 + i] = (uint8_t)(n >> (24 - 8 * i));
}

const uint8_t *grpc_call_message(const struct http_head *response, const struct http_head *trailers,
				 const uint8_t *body, size_t len, size_t *n)
{
	if (response->status != 200 || grpc_status(trailers ? trailers : response) != GRPC_OK || len < GRPC_FRAME ||
	    body[0])
		return NULL;
	*n = (size_t)body[1] << 24 | (size_t)body[2] << 16 | (size_t)body[3] << 8 | body[4];
	return *n == len - GRPC_FRAME ? body + GRPC_FRAME : NULL;
}
