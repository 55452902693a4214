/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <netinet/in.h>

#include "agent/model/identity.h"
#include "agent/model/policy.h"

/* Objects of a test, freed together. */
static struct policy *policy;
static struct identity *frontend, *stranger;

static int on_setup(void **state)
{
	(void)state;
	policy = policy_new();
	policy->rules = calloc(8, sizeof(*policy->rules));
	frontend = identity_new("cluster.local", "shop", "frontend");
	stranger = identity_new("cluster.local", "other", "x");
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	policy_unref(policy);
	identity_unref(frontend);
	identity_unref(stranger);
	return 0;
}

static struct policy_match *rule_add(enum policy_action action, const char *name)
{
	struct policy_rule *r = &policy->rules[policy->rule_count++];

	r->action = action;
	r->name = strdup(name);
	r->matches = calloc(1, sizeof(*r->matches));
	r->match_count = 1;
	policy->has_allow |= action == POLICY_ALLOW;
	return r->matches;
}

static void strings_set(struct match_strings *to, const char *pattern)
{
	to->v = calloc(1, sizeof(*to->v));
	to->n = 1;
	match_string_init(to->v, pattern);
}

static void port_set(struct match_ports *to, uint16_t port)
{
	to->v = malloc(sizeof(*to->v));
	to->n = 1;
	*to->v = port;
}

static void cidr_set(struct match_cidrs *to, const char *text)
{
	to->v = malloc(sizeof(*to->v));
	to->n = 1;
	assert_int_equal(cidr_parse(text, to->v), 0);
}

static struct policy_verdict eval_proto(const struct identity *peer, uint16_t port, uint8_t proto)
{
	struct policy_input in = { .peer = peer, .port = port, .proto = proto };
	struct policy_verdict out;

	addr_parse("10.1.2.3", &in.source);
	addr_parse("fd00::1", &in.destination);
	policy_eval(policy, &in, &out);
	return out;
}

static enum drop_reason eval(const struct identity *peer, uint16_t port)
{
	return eval_proto(peer, port, IPPROTO_TCP).reason;
}

static void test_policy_empty_allows_everybody(void **state)
{
	(void)state;
	assert_int_equal(eval(NULL, 80), DROP_NONE);
	assert_int_equal(eval(frontend, 80), DROP_NONE);
}

static void test_strict_refuses_the_anonymous_before_any_rule(void **state)
{
	(void)state;
	rule_add(POLICY_DENY, "all");
	policy->mtls = MTLS_STRICT;
	assert_int_equal(eval(NULL, 80), DROP_MTLS_REQUIRED);
	assert_int_equal(eval(frontend, 80), DROP_POLICY_DENY);
}

static void test_strict_lets_the_node_meet_the_rules(void **state)
{
	(void)state;
	struct policy_input in = { .from_node = true, .port = 80, .proto = IPPROTO_TCP };
	struct policy_verdict out;

	policy->mtls = MTLS_STRICT;
	policy_eval(policy, &in, &out);
	assert_int_equal(out.reason, DROP_NONE);
	strings_set(&rule_add(POLICY_ALLOW, "a")->namespaces, "shop");
	policy_eval(policy, &in, &out);
	assert_int_equal(out.reason, DROP_POLICY_NO_ALLOW);
}

static void test_port_mode_overrides_the_workloads(void **state)
{
	(void)state;
	policy->mtls = MTLS_STRICT;
	policy->port_mtls = calloc(2, sizeof(*policy->port_mtls));
	policy->port_mtls_count = 2;
	policy->port_mtls[0] = (struct port_mtls){ 7001, MTLS_PERMISSIVE };
	policy->port_mtls[1] = (struct port_mtls){ 7002, MTLS_DISABLE };
	assert_int_equal(eval(NULL, 7001), DROP_NONE);
	assert_int_equal(eval(NULL, 7002), DROP_NONE);
	assert_int_equal(eval(NULL, 7003), DROP_MTLS_REQUIRED);
}

static void test_deny_wins_over_allow(void **state)
{
	(void)state;
	strings_set(&rule_add(POLICY_ALLOW, "a")->namespaces, "shop");
	strings_set(&rule_add(POLICY_DENY, "d")->principals, "*/sa/frontend");
	assert_int_equal(eval(frontend, 80), DROP_POLICY_DENY);
	assert_string_equal(eval_proto(frontend, 80, IPPROTO_TCP).rule->name, "d");
}

static void test_allow_present_and_unmatched_refuses(void **state)
{
	(void)state;
	port_set(&rule_add(POLICY_ALLOW, "a")->ports, 80);
	assert_int_equal(eval(frontend, 80), DROP_NONE);
	assert_int_equal(eval(frontend, 81), DROP_POLICY_NO_ALLOW);
	assert_null(eval_proto(frontend, 81, IPPROTO_TCP).rule);
}

static void test_allow_document_without_rules_refuses_all(void **state)
{
	(void)state;
	policy->has_allow = true;
	assert_int_equal(eval(frontend, 80), DROP_POLICY_NO_ALLOW);
}

static void test_rule_without_alternatives_matches_everything(void **state)
{
	(void)state;
	free(rule_add(POLICY_ALLOW, "all"));
	policy->rules[0].matches = NULL;
	policy->rules[0].match_count = 0;
	assert_int_equal(eval(NULL, 80), DROP_NONE);
}

static void test_audit_and_dry_run_never_decide(void **state)
{
	(void)state;
	rule_add(POLICY_AUDIT, "audit");
	assert_int_equal(eval(frontend, 80), DROP_NONE);
	assert_string_equal(eval_proto(frontend, 80, IPPROTO_TCP).audit->name, "audit");
	rule_add(POLICY_DENY, "dry");
	policy->rules[1].dry_run = true;
	assert_int_equal(eval(frontend, 80), DROP_NONE);
}

static void test_not_conditions_hold_for_the_anonymous(void **state)
{
	(void)state;
	strings_set(&rule_add(POLICY_DENY, "d")->not_namespaces, "shop");
	assert_int_equal(eval(NULL, 80), DROP_POLICY_DENY);
	assert_int_equal(eval(stranger, 80), DROP_POLICY_DENY);
	assert_int_equal(eval(frontend, 80), DROP_NONE);
}

static void test_present_principal_excludes_the_anonymous(void **state)
{
	(void)state;
	strings_set(&rule_add(POLICY_ALLOW, "a")->principals, "*");
	assert_int_equal(eval(NULL, 80), DROP_POLICY_NO_ALLOW);
	assert_int_equal(eval(stranger, 80), DROP_NONE);
}

static void test_service_account_is_with_its_namespace(void **state)
{
	(void)state;
	strings_set(&rule_add(POLICY_ALLOW, "a")->service_accounts, "shop/frontend");
	assert_int_equal(eval(frontend, 80), DROP_NONE);
	assert_int_equal(eval(stranger, 80), DROP_POLICY_NO_ALLOW);
	assert_int_equal(eval(NULL, 80), DROP_POLICY_NO_ALLOW);
}

static void test_addresses_of_both_ends_are_conditions(void **state)
{
	(void)state;
	struct policy_match *m = rule_add(POLICY_ALLOW, "a");
	cidr_set(&m->ip_blocks, "10.1.0.0/16");
	cidr_set(&m->not_remote_ip_blocks, "10.1.9.0/24");
	cidr_set(&m->destination_ips, "fd00::/16");
	assert_int_equal(eval(NULL, 80), DROP_NONE);
	cidr_set(&m->not_destination_ips, "fd00::1");
	assert_int_equal(eval(NULL, 80), DROP_POLICY_NO_ALLOW);
}

static void test_http_fields_never_allow_and_always_may_deny(void **state)
{
	(void)state;
	struct policy_match *m = rule_add(POLICY_ALLOW, "a");
	m->has_http = true;
	assert_int_equal(eval(frontend, 80), DROP_POLICY_NO_ALLOW);
	m = rule_add(POLICY_DENY, "d");
	m->has_http = true;
	port_set(&m->ports, 80);
	assert_int_equal(eval(frontend, 80), DROP_POLICY_DENY);
	assert_int_equal(eval(frontend, 81), DROP_POLICY_NO_ALLOW);
}

static enum drop_reason eval_later(const struct identity *peer, uint16_t port)
{
	struct policy_input in = { .peer = peer, .port = port, .proto = IPPROTO_TCP, .requests_later = true };
	struct policy_verdict out;
	policy_eval(policy, &in, &out);
	return out.reason;
}

static void test_http_fields_of_requests_to_come_may_allow_and_refuse_nobody(void **state)
{
	(void)state;
	struct policy_match *m = rule_add(POLICY_DENY, "d");
	m->has_http = true;
	assert_int_equal(eval_later(frontend, 80), DROP_NONE);
	m = rule_add(POLICY_ALLOW, "a");
	m->has_http = true;
	port_set(&m->ports, 80);
	assert_int_equal(eval_later(frontend, 80), DROP_NONE);
	assert_int_equal(eval_later(frontend, 81), DROP_POLICY_NO_ALLOW);
	rule_add(POLICY_DENY, "all");
	assert_int_equal(eval_later(frontend, 80), DROP_POLICY_DENY);
}

static void test_udp_is_judged_by_the_mode_only(void **state)
{
	(void)state;
	rule_add(POLICY_DENY, "all");
	assert_int_equal(eval_proto(NULL, 53, IPPROTO_UDP).reason, DROP_NONE);
	policy->mtls = MTLS_STRICT;
	assert_int_equal(eval_proto(NULL, 53, IPPROTO_UDP).reason, DROP_MTLS_REQUIRED);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_policy_empty_allows_everybody),
		CASE(test_strict_refuses_the_anonymous_before_any_rule),
		CASE(test_strict_lets_the_node_meet_the_rules),
		CASE(test_port_mode_overrides_the_workloads),
		CASE(test_deny_wins_over_allow),
		CASE(test_allow_present_and_unmatched_refuses),
		CASE(test_allow_document_without_rules_refuses_all),
		CASE(test_rule_without_alternatives_matches_everything),
		CASE(test_audit_and_dry_run_never_decide),
		CASE(test_not_conditions_hold_for_the_anonymous),
		CASE(test_present_principal_excludes_the_anonymous),
		CASE(test_service_account_is_with_its_namespace),
		CASE(test_addresses_of_both_ends_are_conditions),
		CASE(test_http_fields_never_allow_and_always_may_deny),
		CASE(test_http_fields_of_requests_to_come_may_allow_and_refuse_nobody),
		CASE(test_udp_is_judged_by_the_mode_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
