/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration in memory, and the plans made of it: what a test says in YAML is what is compiled. Everything fails
 * the test by cmocka when it can't be done. */
#pragma once

#include "agent/compile/compile.h"

struct world {
	struct resource **v; /* by key */
	size_t n, cap, hint; /* hint: where an iteration is */
	struct decoder *decoder;
	struct compiler *compiler;
	struct compile_input in;
	struct plan *plan, *before; /* the last two */
	uint64_t hash;		    /* a number a document */
	bool skip_rejected;	    /* documents that don't decode are left out instead of failing the test */
};

void world_init(struct world *w, const char *node);
void world_done(struct world *w);
void world_set(struct world *w, const char *yaml);   /* adds and replaces by key */
void world_load(struct world *w, const char *path);  /* a file */
void world_put(struct world *w, struct resource *r); /* takes the reference */
void world_delete(struct world *w, const char *key);
struct plan *world_compile(struct world *w);
/* world_set and world_compile. */
struct plan *world_with(struct world *w, const char *yaml);

/* Shorthand over the last plan; each fails the test when there is none. */
struct service *world_service(const struct world *w, const char *ns, const char *hostname);
struct workload *world_workload(const struct world *w, const char *uid);
const struct service_port *world_port(const struct world *w, const char *ns, const char *hostname, uint16_t port);
/* "10.0.0.1:80 10.0.0.2:80": the endpoints of a schedule in slot order. Static buffer. */
const char *world_slots(const struct service_port *port, bool v6);
const char *world_endpoints(const struct service_port *port); /* the same of all endpoints, "!" before unhealthy */
bool world_finds(const struct world *w, const char *key, const char *part); /* among the findings */

/* A test file's world, made anew for each of its tests, with these documents in it (NULL: none) and compiled. A file that has
 * one calls it `fixture`. */
struct world_fixture {
	struct world *w;
	const char *yaml;
};

int world_setup(void **state); /* *state: the fixture */
int world_teardown(void **state);
#define WORLD_CASE(name) cmocka_unit_test_prestate_setup_teardown(name, world_setup, world_teardown, &fixture)

char *plan_dump(const struct plan *plan); /* all of it as text; the caller frees */
