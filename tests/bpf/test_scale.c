// SPDX-License-Identifier: Apache-2.0
/* Tables grow past their first size, and a change among many services is cheap. Times are printed; the bounds here are
 * loose, for busy machines (the benchmark has the real ones). */
#include "tests/bpf/mesh.h"

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SERVICES = 10000, ENDPOINTS = 5 };

static struct mesh *const m = &mesh_shared;

static struct service *service_make(uint32_t i, uint8_t last)
{
	struct service *s = service_new();
	struct service_port *p;

	s->id = 10000 + i;
	s->ns = strdup("t");
	s->name = str_format("s%05u", i);
	s->hostname = str_format("s%05u.t.svc", i);
	s->vips = calloc(1, sizeof(*s->vips));
	s->vip_count = 1;
	cidr_parse("10.0.0.0", &s->vips[0]);
	s->vips[0].addr.b[13] = 200;
	s->vips[0].addr.b[14] = (uint8_t)(i >> 8);
	s->vips[0].addr.b[15] = (uint8_t)i;
	s->ports = calloc(1, sizeof(*s->ports));
	s->port_count = 1;
	p = &s->ports[0];
	*p = (struct service_port){ .port = 80, .proto = IPPROTO_TCP, .name = strdup("p") };
	p->endpoints = calloc(ENDPOINTS, sizeof(*p->endpoints));
	p->slots = calloc(ENDPOINTS, sizeof(*p->slots));
	p->endpoint_count = p->slot_count = ENDPOINTS;
	for (uint32_t e = 0; e < ENDPOINTS; e++) {
		p->slots[e] = e;
		addr_parse("10.201.0.0", &p->endpoints[e].addr);
		p->endpoints[e].addr.b[13] = (uint8_t)(201 + e);
		p->endpoints[e].addr.b[14] = (uint8_t)(i >> 8);
		p->endpoints[e].addr.b[15] = e ? (uint8_t)i : (uint8_t)(i + last);
		p->endpoints[e].port = 8080;
	}
	return s;
}

static struct plan *plan_of(struct service **services, uint32_t n)
{
	struct plan *plan = plan_new();

	plan->node = strdup("here");
	plan->services = calloc(n, sizeof(*plan->services));
	for (uint32_t i = 0; i < n; i++)
		plan->services[plan->service_count++] = service_ref(services[i]);
	assert_int_equal(plan_seal(plan), 0);
	return plan;
}

/* Other processes of the machine don't count. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* CPU time. */
static double apply_ms(struct plan *plan)
{
	struct err err = ERR_INIT;
	uint64_t start = cpu_ns();

	if (kernel_apply(m->kernel, plan, &err) < 0)
		fail_msg("%s", err.text);
	double ms = (double)(cpu_ns() - start) / 1e6;

	plan_unref(plan);
	return ms;
}

static uint32_t slots_max, slots_entries;

static void on_fill(const struct map_fill *fill, void *arg)
{
	(void)arg;
	if (str_eq(fill->name, "slots")) {
		slots_max = fill->max_entries;
		slots_entries = fill->entries;
	}
}

static void check_count(void)
{
	kernel_map_fill(m->kernel, on_fill, NULL);
	assert_int_equal(slots_entries, SERVICES * ENDPOINTS);
	assert_true(slots_max >= slots_entries);
}

static void test_many_services_one_change_is_cheap(void **state)
{
	struct service **services = calloc(SERVICES, sizeof(*services));

	(void)state;
	for (uint32_t i = 0; i < SERVICES; i++)
		services[i] = service_make(i, 0);
	double first = apply_ms(plan_of(services, SERVICES));

	check_count();
	double worst = 0;

	for (uint32_t i = 0; i < 20; i++) {
		uint32_t at = i * 400;

		service_unref(services[at]);
		services[at] = service_make(at, (uint8_t)(i + 1));
		struct plan *plan = plan_of(services, SERVICES);
		double ms = apply_ms(plan);

		worst = ms > worst ? ms : worst;
	}
	double none = apply_ms(plan_of(services, 1));

	print_message("first load %.0f ms, one change at most %.1f ms, removal of all %.0f ms\n", first, worst, none);
	assert_true(first < 3000);
	assert_true(worst < 50);
	for (uint32_t i = 0; i < SERVICES; i++)
		service_unref(services[i]);
	free(services);
}

static void test_restart_many_services_swept(void **state)
{
	struct service **services = calloc(SERVICES, sizeof(*services));

	(void)state;
	for (uint32_t i = 0; i < SERVICES; i++)
		services[i] = service_make(i, 0);
	apply_ms(plan_of(services, SERVICES));
	kernel_close(m->kernel);
	m->kernel = NULL;
	mesh_open(m);
	double again = apply_ms(plan_of(services, SERVICES));

	print_message("taken over in %.0f ms\n", again);
	assert_true(again < 3000);
	for (uint32_t i = 0; i < SERVICES; i++)
		service_unref(services[i]);
	free(services);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MESH_TEST(test_many_services_one_change_is_cheap),
		MESH_TEST(test_restart_many_services_swept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
