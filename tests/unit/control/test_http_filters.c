/* SPDX-License-Identifier: Apache-2.0 */
/* What an explained request meets besides rules: in the stages' order, by route, host and port, and not behind a refusal. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/http_filters.h"

static char name_first[] = "shop/first", name_late[] = "shop/late", name_local[] = "shop/local[0]",
	    origin[] = "f.yaml:1";
static char name_route[] = "shop/route[1]", name_global[] = "shop/global[2]", route_a[] = "a", code[] = "x";
static char provider[] = "gate", cluster[] = "outbound|9000||gate", filter[] = "lua", domain[] = "d", key[] = "user";
static struct lua_script scripts_of[] = { { .name = name_late, .origin = origin, .code = code, .filter = filter },
					  { .name = name_first, .origin = origin, .code = code, .early = true } };
static struct limit_entry entry = { .key = key };
static struct limit_descriptor descriptor = { .entries = &entry, .entry_count = 1, .bucket = { 1, 1, 500 } };
static struct rate_limit limits[] = {
	{ .name = name_global, .global = true, .cluster = cluster, .domain = domain, .failure_deny = true },
	{ .name = name_local,
	  .bucket = { 5, 5, 60000 },
	  .has_bucket = true,
	  .descriptors = &descriptor,
	  .descriptor_count = 1,
	  .enabled = { 1 },
	  .enforced = { 1 } },
	{ .name = name_route, .per_route = true, .route = route_a, .bucket = { 1, 1, 1000 }, .has_bucket = true },
};
static struct ext_authz gate = { .provider = provider, .cluster = cluster, .grpc = true, .fail_open = true };
static struct lua_route off = {
	.filter = filter, .origin = origin, .route = route_a, .replaces = true, .disabled = true
};
static struct http_filters all = { .scripts = scripts_of,
				   .script_count = ARRAY_SIZE(scripts_of),
				   .limits = limits,
				   .limit_count = ARRAY_SIZE(limits),
				   .ext_authz = &gate,
				   .ext_authz_count = 1,
				   .lua_routes = &off,
				   .lua_route_count = 1 };
static const struct policy_rule custom = { .action = POLICY_CUSTOM, .provider = provider };

static void expect(const struct filters_met *m, const char *wanted)
{
	json_t *list = filters_met_json(m), *o;
	struct sb text = { 0 };
	size_t i;

	json_array_foreach(list, i, o)
	{
		const char *says = json_string_value(json_object_get(o, "text"));
		sb_addf(&text, "%s %s: %s\n", json_string_value(json_object_get(o, "kind")),
			json_string_value(json_object_get(o, "name")), says ? says : "-");
	}
	assert_string_equal(text.p ? text.p : "", wanted);
	sb_done(&text);
	json_decref(list);
}

static void test_the_servers_side_in_order(void **state)
{
	(void)state;
	struct policy_http_verdict v = { .custom = { &custom }, .custom_count = 1 };
	const struct filters_met m = { .filters = &all, .at.port = 8080, .verdict = &v };

	expect(&m, "script shop/first: before tokens are verified\n"
		   "authorizer gate: asks outbound|9000||gate by gRPC; passes if that fails\n"
		   "local_limit shop/local[0]: user=*: 1 at once, 1 more each 0.5 s; 5 at once, 5 more each 60 s\n"
		   "global_limit shop/global[2]: asks outbound|9000||gate, domain d; refused if that fails\n"
		   "script shop/late: -\n");
	v.reason = DROP_POLICY_DENY;
	expect(&m, "script shop/first: before tokens are verified\n"
		   "authorizer gate: asks outbound|9000||gate by gRPC; passes if that fails\n");
}

static void test_the_clients_side_by_route(void **state)
{
	(void)state;
	const struct filters_met m = { .filters = &all, .at = { .route = "a", .port = 80 } };

	expect(&m, "local_limit shop/route[1]: 1 at once, 1 more each 1 s; not enforced\n"
		   "global_limit shop/global[2]: asks outbound|9000||gate, domain d; refused if that fails\n"
		   "script shop/late: switched off by the route (f.yaml:1)\n"
		   "script shop/first: -\n");
}

static void test_what_is_not_there(void **state)
{
	(void)state;
	const struct policy_http_verdict v = { .custom = { &custom }, .custom_count = 1 };

	expect(&(struct filters_met){ 0 }, "");
	expect(&(struct filters_met){ .verdict = &v }, "authorizer gate: is not configured: refused\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_servers_side_in_order),
		cmocka_unit_test(test_the_clients_side_by_route),
		cmocka_unit_test(test_what_is_not_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
