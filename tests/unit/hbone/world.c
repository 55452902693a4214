/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hbone/world.h"

#include "agent/base/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void world_init(void **state, const char *client, const char *server)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	w->ca = test_ca_new(true);
	fake_worker_init(&w->client, w->loop, w->ca, FRONTEND, client);
	fake_worker_init(&w->server, w->loop, w->ca, BACKEND, server);
	w->listener = tcp_listen(server, &w->app);
	addr_port_text(&w->app, w->authority);
	fake_worker_know(&w->client, &w->app, &w->server);
	*state = w;
}

int world_setup(void **state)
{
	world_init(state, "127.0.0.1", "127.0.0.2");
	return 0;
}

int world_setup_v6(void **state)
{
	world_init(state, "::1", "::1");
	return 0;
}

int world_teardown(void **state)
{
	struct world *w = *state;
	close(w->listener);
	fake_worker_done(&w->client);
	fake_worker_done(&w->server);
	loop_free(w->loop);
	test_ca_free(w->ca);
	free(w);
	return 0;
}

void world_open(struct world *w, int *client, int *server)
{
	*client = app_connect(&w->client, &w->app);
	*server = tcp_accept(w->loop, w->listener);
}
