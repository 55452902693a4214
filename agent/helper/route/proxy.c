/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/route/exchange.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/transport.h"
#include "agent/helper/worker.h"

/* Until the engine is in place connections that speak HTTP are closed: nothing passes unjudged. */
struct http_proxy {
	struct worker *w;
};

int http_proxy_new(struct worker *w, struct http_proxy **out)
{
	struct http_proxy *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->w = w;
	*out = p;
	return 0;
}

void http_proxy_free(struct http_proxy *p)
{
	free(p);
}

struct upstreams *http_proxy_upstreams(struct http_proxy *p)
{
	(void)p;
	return NULL;
}

void http_proxy_outbound(struct http_proxy *p, struct worker_pod *pod, struct transport *t, enum http_protocol protocol,
			 const struct addr_port *original, struct http_vhost *vhost)
{
	(void)p;
	(void)pod;
	(void)protocol;
	(void)original;
	(void)vhost;
	transport_close(t, true);
}

void http_proxy_inbound(struct http_proxy *p, struct worker_pod *pod, struct transport *t, enum http_protocol protocol)
{
	(void)p;
	(void)pod;
	(void)protocol;
	transport_close(t, true);
}

void http_proxy_pod_changed(struct http_proxy *p, struct worker_pod *pod)
{
	(void)p;
	(void)pod;
}

void http_proxy_pod_removed(struct http_proxy *p, struct worker_pod *pod)
{
	(void)p;
	(void)pod;
}

void http_proxy_drain(struct http_proxy *p)
{
	(void)p;
}

size_t http_proxy_live(const struct http_proxy *p)
{
	(void)p;
	return 0;
}

void http_proxy_dump(struct http_proxy *p, const char *what, struct sb *out)
{
	(void)p;
	(void)what;
	sb_add(out, "[]");
}
