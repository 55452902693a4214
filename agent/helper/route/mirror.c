/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of requests for other clusters: sent as the request comes, their responses unread, their slowness nobody's. */
#include "agent/helper/route/side_call.h"

#include <string.h>

#include "agent/base/mem.h"

enum { MIRROR_TIMEOUT_MS = 15000, MIRROR_BODY_TIMEOUT_MS = 300000 };

/* "host" to "host-shadow", "host:port" to "host-shadow:port". */
static int shadow_authority(struct http_head *head)
{
	struct http_string authority = head->authority, host = authority_host(authority);
	struct http_string text = http_head_textf(head, "%.*s-shadow%.*s", (int)host.n, host.p ? host.p : "",
						  (int)(authority.n - host.n), host.p ? host.p + host.n : "");
	if (text.p)
		head->authority = text;
	return text.p ? 0 : -1;
}

static void mirror_start(struct exchange_private *e, const struct http_mirror *m)
{
	struct http_head *head = http_head_copy(e->x.head);
	if (!head)
		return;
	head->expect_continue = false;
	if (shadow_authority(head) < 0) {
		http_head_free(head);
		return;
	}
	struct side_call **slot = &e->mirrors[e->mirror_count];
	*slot = side_call_stream(e->x.proxy, e->x.pod, m->cluster, head, MIRROR_BODY_TIMEOUT_MS, slot);
	if (!*slot)
		return;
	e->mirror_count++;
	if (e->body_len)
		side_call_feed(*slot, e->body, e->body_len);
}

void mirrors_start(struct exchange_private *e)
{
	const struct http_route *route = e->x.route;
	for (size_t i = 0; i < route->mirror_count && e->mirror_count < MIRRORS_MAX && !e->x.head->upgrade; i++)
		if (proxy_chance(e->x.proxy, route->mirrors[i].share))
			mirror_start(e, &route->mirrors[i]);
	if (e->request_ended)
		mirrors_end(e);
}

void mirrors_body(struct exchange_private *e, const uint8_t *bytes, size_t len)
{
	for (uint8_t i = 0; i < e->mirror_count; i++)
		if (e->mirrors[i])
			side_call_feed(e->mirrors[i], bytes, len);
}

void mirrors_end(struct exchange_private *e)
{
	uint32_t timeout_ms = e->timeout_ms ? e->timeout_ms : MIRROR_TIMEOUT_MS;
	for (uint8_t i = 0; i < e->mirror_count; i++) {
		struct side_call *c = TAKE(e->mirrors[i]);
		if (c)
			side_call_end(c, e->request_trailers, timeout_ms);
	}
	e->mirror_count = 0;
}

void mirrors_drop(struct exchange_private *e)
{
	for (uint8_t i = 0; i < e->mirror_count; i++)
		side_call_cancel(TAKE(e->mirrors[i]));
	e->mirror_count = 0;
}
