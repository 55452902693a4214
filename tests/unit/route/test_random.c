/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever happens in whatever order: each request is recorded once, each attempt ends once, nothing is left. The order comes
 * from a seed. world_free() holds the invariants, sanitizers the rest. */
#include "tests/unit/route/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEEDS = 80, STEPS = 120 };

static unsigned int state_of_chance;

static unsigned int chance(unsigned int n)
{
	return (unsigned int)rand_r(&state_of_chance) % n;
}

static const char *const requests[] = {
	"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n",
	"HEAD /a HTTP/1.1\r\nHost: shop\r\n\r\n",
	"POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\n0123456789",
	"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n3\r\nfgh\r\n0\r\nx-t: "
	"1\r\n\r\n",
	"POST /a HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nabcd",
	"POST /s/M HTTP/1.1\r\nHost: shop\r\nContent-Type: application/grpc\r\ngrpc-timeout: 20m\r\nContent-Length: "
	"5\r\n\r\n12345",
	"GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	"OPTIONS /a HTTP/1.1\r\nHost: shop\r\nOrigin: https://o\r\nAccess-Control-Request-Method: GET\r\n\r\n",
	"GET /a HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n",
	"NONSENSE\r\n\r\n",
};

static const char *const responses[] = {
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nx-u: 2\r\n\r\n",
	"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
	"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw",
	"HTTP/1.1 200 OK\r\n\r\nuntil the end",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\ngrpc-status: 14\r\nContent-Length: 0\r\n\r\n",
	"garbage",
};

static void configure(struct world *w)
{
	struct http_route *r = w->route;
	if (chance(2))
		world_retry(w, "5xx,reset,connect-failure,refused-stream,unavailable", chance(4));
	if (chance(3) == 0)
		r->retry.per_try_timeout_ms = 1 + chance(30);
	if (chance(2))
		r->timeout_ms = 1 + chance(60);
	if (chance(3) == 0) {
		r->mirrors = calloc(1, sizeof(*r->mirrors));
		r->mirror_count = 1;
		r->mirrors[0].cluster = strdup("shadow");
		r->mirrors[0].share.ppm = 500000;
	}
	if (chance(3) == 0) {
		r->fault = calloc(1, sizeof(*r->fault));
		*r->fault = (struct http_fault){ .delay_ms = 1 + chance(20),
						 .delay_share = { 500000 },
						 .abort = true,
						 .abort_status = 500,
						 .abort_grpc = -1,
						 .abort_share = { 200000 } };
	}
	static const enum upstream_failure failures[] = { UPSTREAM_OK,	     UPSTREAM_OK,
							  UPSTREAM_OK,	     UPSTREAM_CONNECT,
							  UPSTREAM_OVERFLOW, UPSTREAM_NO_ENDPOINT,
							  UPSTREAM_OVERFLOW, UPSTREAM_CONNECT_TIMEOUT };
	for (w->script_count = 0; w->script_count < ATTEMPTS; w->script_count++)
		w->script[w->script_count] = (struct script){ .failure = failures[chance(8)], .later = chance(4) == 0 };
	w->target_later = chance(20) == 0;
	w->retries_over = chance(5) == 0;
	w->app_error = chance(8) == 0 ? -ECONNREFUSED : 0;
}

static void push_some(struct fake_transport *t, const char *text)
{
	size_t len = strlen(text);
	fake_push(t, text, chance(3) ? len : chance((unsigned int)len + 1));
}

static struct fake_transport *some_endpoint(struct world *w)
{
	if (w->app_count && (!w->attempt_count || chance(2)))
		return w->app[chance((unsigned int)w->app_count)];
	if (!w->attempt_count)
		return NULL;
	unsigned int back =
		chance(w->attempt_count < 3 ? (unsigned int)w->attempt_count : 3); /* mirrors have some, too */
	return w->attempts[w->attempt_count - 1 - back].t;
}

static void disturb(struct fake_transport *t)
{
	switch (chance(5)) {
	case 0:
		fake_break(t, -ECONNRESET);
		break;
	case 1:
		fake_push_end(t);
		break;
	case 2:
		t->hold = true;
		t->limit = 1 + chance(60);
		break;
	default:
		fake_drain(t);
	}
}

static void step(struct world *w)
{
	struct fake_transport *t = chance(2) ? some_endpoint(w) : w->client;
	unsigned int what = chance(16);
	if (what < 6 && t && !t->closed && !t->end_kept)
		push_some(t, t == w->client ? requests[chance(10)] : responses[chance(9)]);
	else if (what < 8 && t && !t->closed && chance(3) == 0)
		disturb(t);
	else if (what < 10 && t && !t->closed)
		fake_drain(t);
	else if (what < 12 && w->attempt_count && w->attempts[w->attempt_count - 1].pending)
		world_attempt_ready(w, w->attempt_count - 1, chance(3) ? UPSTREAM_OK : UPSTREAM_CONNECT);
	else
		world_tick(w, chance(16) ? 0 : chance(25));
}

static void run(unsigned int seed, bool inbound)
{
	state_of_chance = seed;
	struct world *w = world_new();
	configure(w);
	if (inbound)
		world_connect_inbound(w, chance(2) ? "spiffe://cluster.local/ns/web/sa/front" : NULL);
	else
		world_connect(w);
	for (int i = 0; i < STEPS && w->attempt_count < ATTEMPTS - 8 && w->app_count < 3; i++)
		step(w);
	world_free(w);
}

static void test_any_order_of_events(void **state)
{
	(void)state;
	const char *first = getenv("SEED"), *count = getenv("SEEDS"); /* to look at one, or to look further */
	unsigned int from = first ? (unsigned int)atoi(first) : 0;
	unsigned int to = from + (count ? (unsigned int)atoi(count) : first ? 1 : SEEDS);
	for (unsigned int seed = from; seed < to; seed++) {
		run(seed, false);
		run(seed, true);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_order_of_events),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
