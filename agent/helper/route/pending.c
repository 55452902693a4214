/* SPDX-License-Identifier: Apache-2.0 */
/* Weak stand-ins for what observe/ and transport*.c define: until they do, requests are not recorded and inbound ones are
 * refused. This file goes as soon as they are there. */
#include "agent/helper/route/internal.h"

#define WEAK __attribute__((weak))

WEAK void record_finish(struct observe *o, const struct request_record *r)
{
	(void)o;
	(void)r;
}

WEAK void trace_begin(struct observe *o, struct request_record *r, struct http_head *head, const struct telemetry *t)
{
	(void)o;
	(void)r;
	(void)head;
	(void)t;
}

WEAK void trace_inject(struct observe *o, const struct request_record *r, struct http_head *head)
{
	(void)o;
	(void)r;
	(void)head;
}

WEAK void record_format(const struct request_record *r, const char *format, struct sb *out)
{
	(void)r;
	(void)format;
	(void)out;
}

WEAK struct transport_connect *transport_connect_local(struct worker *w, struct worker_pod *pod,
						       const struct addr_port *peer, const struct addr_port *local,
						       transport_connect_fn fn, void *arg)
{
	(void)w;
	(void)pod;
	(void)peer;
	(void)local;
	(void)fn;
	(void)arg;
	return NULL;
}

WEAK void transport_connect_cancel(struct transport_connect *c)
{
	(void)c;
}
