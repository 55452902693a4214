/* SPDX-License-Identifier: Apache-2.0 */
/* Faults on purpose: a delay, then an abort, each for its share of requests. */
#include "agent/helper/route/internal.h"

#include <stdio.h>

#include "agent/base/mem.h"

static enum stage_result fault_abort(struct exchange_private *e)
{
	static const char text[] = "fault filter abort";
	struct exchange *x = &e->x;
	const struct http_fault *fault = x->route->fault;
	if (!fault->abort || !proxy_chance(x->proxy, fault->abort_share))
		return STAGE_CONTINUE;
	if (fault->abort_grpc < 0) {
		exchange_respond(x, (uint16_t)fault->abort_status, FLAG(FI), "fault_filter_abort", text, NULL);
		return STAGE_ANSWERED;
	}
	uint16_t status = grpc_to_http(fault->abort_grpc);
	if (!x->record.grpc) {
		exchange_respond(x, status, FLAG(FI), "fault_filter_abort", text, NULL);
		return STAGE_ANSWERED;
	}
	struct http_head *extra = http_head_new();
	if (extra) {
		char number[12];
		int n = snprintf(number, sizeof(number), "%d", fault->abort_grpc);
		http_add_id(extra, HTTP_CONTENT_TYPE, "application/grpc", 16);
		http_add_id(extra, HTTP_GRPC_STATUS, number, (size_t)n);
		http_add_id(extra, HTTP_GRPC_MESSAGE, text, sizeof(text) - 1);
	}
	exchange_respond(x, 200, FLAG(FI), "fault_filter_abort", NULL, extra);
	http_head_free(extra);
	return STAGE_ANSWERED;
}

static void on_delay_over(struct deadline *d)
{
	struct exchange_private *e = container_of(d, struct exchange_private, alarm);
	if (fault_abort(e) == STAGE_CONTINUE)
		exchange_continue(&e->x);
}

enum stage_result stage_fault(struct exchange *x)
{
	struct exchange_private *e = exchange_of(x);
	const struct http_fault *fault = x->route->fault;
	if (!fault)
		return STAGE_CONTINUE;
	if (!fault->delay_ms || !proxy_chance(x->proxy, fault->delay_share))
		return fault_abort(e);
	x->record.flags |= FLAG(DI);
	deadline_set(&x->proxy->deadlines, &e->alarm, fault->delay_ms, on_delay_over);
	return STAGE_WAIT;
}
