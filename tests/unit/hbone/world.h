/* SPDX-License-Identifier: Apache-2.0 */
/* The usual cast of a tunnel test: a client's worker, a server's worker, and the application behind the latter. */
#pragma once

#include "tests/unit/hbone/certs.h"
#include "tests/unit/hbone/fake_worker.h"

#define FRONTEND "spiffe://cluster.local/ns/shop/sa/frontend"
#define BACKEND "spiffe://cluster.local/ns/shop/sa/backend"

struct world {
	struct loop *loop;
	struct test_ca *ca;
	struct worker client, server;
	struct addr_port app;
	char authority[ADDR_PORT_TEXT_MAX]; /* of app */
	int listener;
};

int world_setup(void **state);
int world_setup_v6(void **state); /* over ::1, else 127.0.0.1 and 127.0.0.2 */
int world_teardown(void **state);
/* A connection through the tunnel: both ends. */
void world_open(struct world *w, int *client, int *server);

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
#define WORLD_TEST_V6(name) cmocka_unit_test_setup_teardown(name, world_setup_v6, world_teardown)
