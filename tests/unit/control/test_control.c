/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "tests/unit/control/fake.h"

static int setup(void **state)
{
	*state = fake_new();
	return 0;
}

static int teardown(void **state)
{
	fake_free(*state);
	return 0;
}

static json_t *get(struct fake *f, const char *path)
{
	AUTO(answer_done) struct answer a = fake_ask(f, "GET", path, NULL);
	if (a.status != 200)
		fail_msg("%s: %ld %s", path, a.status, a.body ? a.body : "");
	json_t *json = json_loads(a.body, 0, NULL);
	assert_non_null(json);
	return json;
}

static void json_freep(json_t **json)
{
	json_decref(*json);
}

static const char *text(const json_t *json, const char *a, const char *b)
{
	const json_t *v = json_object_get(json, a);
	return json_string_value(b ? json_object_get(v, b) : v);
}

static void refused(struct fake *f, const char *method, const char *path, const char *body, long status,
		    const char *says)
{
	AUTO(answer_done) struct answer a = fake_ask(f, method, path, body);
	if (a.status != status || !a.body || !strstr(a.body, says))
		fail_msg("%s %s: %ld %s; wanted %ld ... %s", method, path, a.status, a.body ? a.body : "", status,
			 says);
	AUTO(json_freep) json_t *json = json_loads(a.body, 0, NULL);
	assert_non_null(text(json, "error", NULL));
}

static void test_status_tells_problems_pods_and_counters(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *s = get(f, "/v1/status");
	assert_true(json_is_true(json_object_get(s, "ready")));
	json_t *config = json_object_get(s, "config");
	assert_int_equal(json_integer_value(json_object_get(config, "revision")), 1);
	assert_int_equal(json_integer_value(json_object_get(config, "rejected")), 1);
	json_t *problem = json_array_get(json_object_get(config, "problems"), 0);
	assert_string_equal(text(problem, "key", NULL), "AuthorizationPolicy/shop/wrong");
	json_t *pods = json_object_get(s, "pods");
	assert_int_equal(json_integer_value(json_object_get(pods, "local")), 3);
	assert_int_equal(json_integer_value(json_object_get(pods, "ready")), 2);
	assert_int_equal(json_array_size(json_object_get(pods, "failed")), 1);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(s, "drops"), "policy_deny")), 3);
}

static void test_readyz_not_ready_is_503_with_the_reason(void **state)
{
	struct fake *f = *state;
	f->not_ready = "the helper is starting";
	refused(f, "GET", "/readyz", NULL, 503, "the helper is starting");
	f->not_ready = NULL;
	AUTO(answer_done) struct answer a = fake_ask(f, "GET", "/readyz", NULL);
	assert_int_equal(a.status, 200);
}

static void test_tcp_serves_metrics_and_nothing_of_the_admin_api(void **state)
{
	struct fake *f = *state;
	AUTO(answer_done) struct answer old = fake_ask_tcp(f, "/metrics", NULL);
	assert_int_equal(old.status, 200);
	assert_string_equal(old.body, "old\n# EOF\n");
	assert_true(str_starts(old.type, "text/plain; version=0.0.4"));
	AUTO(answer_done) struct answer open =
		fake_ask_tcp(f, "/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n");
	assert_string_equal(open.body, "open\n# EOF\n");
	AUTO(answer_done) struct answer admin = fake_ask_tcp(f, "/v1/status", NULL);
	assert_int_equal(admin.status, 404);
}

static void test_unknown_paths_and_methods_are_told(void **state)
{
	struct fake *f = *state;
	refused(f, "GET", "/v1/nothing", NULL, 404, "GET /v1 lists");
	refused(f, "GET", "/v1/resources//x", NULL, 404, "GET /v1 lists");
	refused(f, "DELETE", "/v1/status", NULL, 405, "DELETE is not for /v1/status");
	refused(f, "GET", "/v1/resources/frobs", NULL, 404, "not a kind");
	refused(f, "GET", "/v1/precheck", NULL, 501, "does not offer");
}

static void test_bodies_wrong_or_large_are_refused(void **state)
{
	struct fake *f = *state;
	AUTO(mem_freep) char *large = malloc(70000);
	memset(large, ' ', 69999);
	large[69999] = 0;
	refused(f, "PUT", "/v1/log", large, 413, "larger than");
	refused(f, "PUT", "/v1/log", "[1]", 400, "not a JSON object");
	refused(f, "PUT", "/v1/log", "{", 400, "not a JSON object");
	refused(f, "PUT", "/v1/log", "{\"level\":\"loud\"}", 400, "is not a log level");
	refused(f, "POST", "/v1/certs/revoke", "{}", 400, "serial");
	refused(f, "POST", "/v1/config/rollback", "{\"revision\":\"x\"}", 400, "revision");
	assert_int_equal(f->level_changes, 0);
}

static void test_changes_reach_the_backend(void **state)
{
	struct fake *f = *state;
	enum log_level before = log_get_level();
	AUTO(answer_done) struct answer level = fake_ask(f, "PUT", "/v1/log", "{\"level\":\"warn\"}");
	assert_int_equal(level.status, 200);
	assert_int_equal(log_get_level(), LOG_WARN);
	assert_int_equal(f->level_changes, 1);
	log_set_level(before);

	AUTO(answer_done) struct answer rotate = fake_ask(f, "POST", "/v1/certs/rotate", NULL);
	assert_int_equal(rotate.status, 200);
	assert_string_equal(f->rotated, "all");
	AUTO(answer_done) struct answer revoke = fake_ask(f, "POST", "/v1/certs/revoke", "{\"serial\":\"00ff\"}");
	assert_int_equal(revoke.status, 200);
	assert_string_equal(f->revoked, "00ff");
	AUTO(answer_done) struct answer back = fake_ask(f, "POST", "/v1/config/rollback", "{\"revision\":3}");
	assert_int_equal(back.status, 200);
	assert_int_equal(f->rolled_back, 3);
	refused(f, "POST", "/v1/config/rollback", "{\"revision\":9}", 404, "is not kept");
	refused(f, "POST", "/v1/certs/rotate", "{\"identity\":\"spiffe://nobody\"}", 404, "no such identity");
}

static void test_resources_list_and_one(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *list = get(f, "/v1/resources/authorizationpolicy?namespace=shop");
	json_t *first = json_array_get(json_object_get(list, "items"), 0);
	assert_string_equal(text(first, "key", NULL), "AuthorizationPolicy/shop/payments-callers");
	AUTO(json_freep) json_t *one = get(f, "/v1/resources/ap/shop/payments-callers");
	assert_true(str_starts(text(one, "origin", NULL), "shop.yaml:"));
	AUTO(json_freep) json_t *ns = get(f, "/v1/resources/namespace/shop");
	assert_string_equal(text(ns, "name", NULL), "shop");
	refused(f, "GET", "/v1/resources/ap/shop/none", NULL, 404, "there is no AuthorizationPolicy shop/none");
}

static void test_workloads_tell_identity_and_state(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *w = get(f, "/v1/workloads/shop/catalog-1");
	assert_string_equal(text(w, "identity", NULL), "spiffe://cluster.local/ns/shop/sa/catalog");
	assert_string_equal(text(w, "state", NULL), "failed");
	assert_string_equal(text(w, "error", NULL), "netns is gone");
	AUTO(json_freep) json_t *local = get(f, "/v1/workloads?local=1");
	assert_int_equal(json_array_size(json_object_get(local, "items")), 3);
}

static void test_services_tell_endpoints(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *list = get(f, "/v1/services/shop/catalog");
	json_t *port = json_array_get(json_object_get(json_array_get(json_object_get(list, "items"), 0), "ports"), 0);
	json_t *endpoints = json_object_get(port, "endpoints");
	assert_int_equal(json_array_size(endpoints), 2);
	assert_string_equal(text(json_array_get(endpoints, 0), "address", NULL), "10.50.1.20:8080");
	assert_string_equal(text(json_array_get(endpoints, 0), "workload", NULL), "shop/catalog-1");
}

static void test_explain_allowed_names_rule_and_line(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *x = get(f, "/v1/explain?source=frontend-1&destination=payments:7000");
	assert_string_equal(text(x, "verdict", NULL), "allowed");
	assert_string_equal(text(x, "path", NULL), "attested");
	assert_string_equal(text(x, "destination", "identity"), "spiffe://cluster.local/ns/shop/sa/payments");
	json_t *in = json_object_get(x, "inbound");
	assert_string_equal(text(in, "rule", "name"), "shop/payments-callers");
	assert_true(str_starts(text(in, "rule", "origin"), "shop.yaml:"));
	assert_string_equal(text(in, "mtls_mode", NULL), "STRICT");
	assert_string_equal(text(in, "decided_by", NULL), "kernel");
	assert_int_equal(json_array_size(json_object_get(x, "notes")), 0);
}

static void test_explain_refused_tells_reason(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *x = get(f, "/v1/explain?source=shop/catalog-1&destination=10.60.0.30:7000");
	assert_string_equal(text(x, "verdict", NULL), "refused");
	assert_string_equal(text(x, "inbound", "reason"), "policy_no_allow");
	assert_string_equal(text(x, "inbound", "allow_policies"), "shop/payments-callers");
}

static void test_explain_stranger_meets_strict(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *x = get(f, "/v1/explain?source=192.0.2.7&destination=shop/payments-1:7000");
	assert_string_equal(text(x, "verdict", NULL), "refused");
	assert_string_equal(text(x, "path", NULL), "plaintext");
	assert_string_equal(text(x, "inbound", "reason"), "mtls_required");
}

static void test_explain_other_node_says_that_it_is_not_known(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *x = get(f, "/v1/explain?source=frontend-1&destination=10.50.2.20:8080");
	assert_string_equal(text(x, "verdict", NULL), "unknown");
	const char *note = json_string_value(json_array_get(json_object_get(x, "notes"), 0));
	assert_non_null(strstr(note, "node-b"));
}

static void test_explain_other_node_by_the_same_configuration(void **state)
{
	struct fake *f = *state;
	fake_knows_policies(f);
	AUTO(json_freep) json_t *x = get(f, "/v1/explain?source=frontend-1&destination=10.50.2.20:8080");
	assert_string_equal(text(x, "inbound", "mtls_mode"), "STRICT");
	/* The fake's kernel says "direct", as if the way to another node were not the helper's: STRICT refuses that. */
	assert_string_equal(text(x, "verdict", NULL), "refused");
	assert_string_equal(text(x, "inbound", "reason"), "mtls_required");
	AUTO(json_freep) json_t *c = get(f, "/v1/authz/check?source=frontend-1&destination=catalog:80");
	assert_true(json_is_true(json_object_get(json_array_get(json_object_get(c, "items"), 1), "allowed")));
	AUTO(json_freep) json_t *t = get(f, "/v1/tls-check?service=catalog");
	assert_string_equal(text(json_array_get(json_object_get(t, "items"), 0), "server", NULL), "STRICT");
}

static void test_explain_outbound_refusal_and_no_endpoint(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *x = get(f, "/v1/explain?source=frontend-1&destination=empty");
	assert_string_equal(text(x, "verdict", NULL), "refused");
	assert_string_equal(text(x, "outbound", "reason"), "no_endpoint");
	f->outbound_reason = DROP_NOT_IN_REGISTRY;
	AUTO(json_freep) json_t *y = get(f, "/v1/explain?source=frontend-1&destination=192.0.2.1:443");
	assert_string_equal(text(y, "outbound", "reason"), "not_in_registry");
	assert_string_equal(text(y, "path", NULL), "refused");
}

static void test_explain_v6_vip_and_udp_port(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *x = get(f, "/v1/explain?source=frontend-1&destination=%5Bfd60::20%5D:80");
	assert_string_equal(text(x, "destination", "asked"), "[fd60::20]:80");
	AUTO(json_freep) json_t *u = get(f, "/v1/explain?source=frontend-1&destination=payments.shop:7001");
	assert_string_equal(text(u, "destination", "protocol"), "udp");
	/* UDP carries no identity: STRICT refuses it, and tls-check says so. */
	assert_string_equal(text(u, "inbound", "reason"), "mtls_required");
	AUTO(json_freep) json_t *t = get(f, "/v1/tls-check?service=payments");
	assert_string_equal(text(json_array_get(json_object_get(t, "items"), 1), "status", NULL), "CONFLICT");
}

static void test_explain_unclear_names_are_refused(void **state)
{
	struct fake *f = *state;
	refused(f, "GET", "/v1/explain?source=frontend-1", NULL, 400, "are needed");
	refused(f, "GET", "/v1/explain?source=nobody&destination=catalog:80", NULL, 404, "no workload");
	refused(f, "GET", "/v1/explain?source=frontend-1&destination=nothing:80", NULL, 404, "no service or workload");
	refused(f, "GET", "/v1/explain?source=frontend-1&destination=payments", NULL, 400, "7000/tcp, 7001/udp");
	refused(f, "GET", "/v1/explain?source=frontend-1&destination=catalog:99999", NULL, 400, "is no port");
	refused(f, "GET", "/v1/explain?source=frontend-1&destination=10.1.1.1", NULL, 400, "say the port");
	refused(f, "GET", "/v1/explain?source=frontend-1&destination=catalog:80&proto=sctp", NULL, 400, "neither");
}

static void test_authz_check_judges_each_endpoint(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *x = get(f, "/v1/authz/check?source=frontend-1&destination=catalog:80");
	json_t *items = json_object_get(x, "items");
	assert_int_equal(json_array_size(items), 2);
	assert_true(json_is_true(json_object_get(json_array_get(items, 0), "allowed")));
	assert_true(json_is_null(json_object_get(json_array_get(items, 1), "allowed")));
}

static void test_tls_check_tells_modes(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *x = get(f, "/v1/tls-check?service=payments");
	json_t *row = json_array_get(json_object_get(x, "items"), 0);
	assert_string_equal(text(row, "server", NULL), "STRICT");
	assert_string_equal(text(row, "client", NULL), "attested");
	assert_string_equal(text(row, "status", NULL), "OK");
}

static size_t lines(const char *body)
{
	size_t n = 0;
	for (; *body; body++)
		n += *body == '\n';
	return n;
}

static void test_analyze_finds_the_service_without_endpoints(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *x = get(f, "/v1/analyze");
	json_t *items = json_object_get(x, "items"), *item;
	size_t i;
	bool found = false;
	json_array_foreach(items, i, item) found |= str_eq(text(item, "key", NULL), "Service/shop/empty");
	assert_true(found);
	AUTO(json_freep) json_t *none = get(f, "/v1/analyze?namespace=sho");
	assert_int_equal(json_array_size(json_object_get(none, "items")), 0);
}

static void test_flows_filters(void **state)
{
	struct fake *f = *state;
	fake_flow_add(f, FLOW_OPENED, FLOW_ATTESTED, DROP_NONE);
	fake_flow_add(f, FLOW_REFUSED, FLOW_DIRECT, DROP_POLICY_NO_ALLOW);
	fake_flow_add(f, FLOW_CLOSED, FLOW_ATTESTED, DROP_NONE);
	static const struct {
		const char *query;
		size_t lines;
	} cases[] = {
		{ "", 3 },
		{ "?verdict=refused", 1 },
		{ "?verdict=allowed", 2 },
		{ "?path=attested", 2 },
		{ "?reason=policy_no_allow", 1 },
		{ "?source=frontend", 3 },
		{ "?source=payments", 0 },
		{ "?destination=shop/payments-1", 3 },
		{ "?namespace=other", 0 },
		{ "?last=1", 1 },
		{ "?last=1&verdict=refused", 1 },
		{ "?last=0", 0 },
		{ "?unique=1", 3 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		AUTO(mem_freep) char *path = str_format("/v1/flows%s", cases[i].query);
		AUTO(answer_done) struct answer a = fake_ask(f, "GET", path, NULL);
		assert_int_equal(a.status, 200);
		if (lines(a.body) != cases[i].lines)
			fail_msg("%s: %s", path, a.body);
	}
	refused(f, "GET", "/v1/flows?verdict=maybe", NULL, 400, "none of");
	refused(f, "GET", "/v1/flows?last=x", NULL, 400, "not a number");
}

static void test_flows_line_tells_who_and_why(void **state)
{
	struct fake *f = *state;
	fake_flow_add(f, FLOW_REFUSED, FLOW_DIRECT, DROP_POLICY_DENY);
	f->flows[0].flow.rule = 0;
	AUTO(answer_done) struct answer a = fake_ask(f, "GET", "/v1/flows", NULL);
	AUTO(json_freep) json_t *o = json_loads(a.body, 0, NULL);
	assert_string_equal(text(o, "source", "workload"), "shop/frontend-1");
	assert_string_equal(text(o, "destination", "identity"), "spiffe://cluster.local/ns/shop/sa/payments");
	assert_string_equal(text(o, "time", NULL), "2027-01-15T08:00:00.123456Z");
	assert_string_equal(text(o, "rule", NULL), "shop/payments-callers");
	assert_true(str_starts(text(o, "rule_origin", NULL), "shop.yaml:"));
}

struct later {
	struct fake *f;
	struct loop_timer *timer;
	int step;
};

/* Adds flows while a follower waits, then ends the server, which ends the stream. */
static void on_later(struct loop_timer *timer, void *arg)
{
	struct later *l = arg;
	(void)timer;

	if (l->step++ < 2) {
		fake_flow_add(l->f, FLOW_OPENED, FLOW_ATTESTED, DROP_NONE);
		control_flows_added(l->f->control);
		return;
	}
	loop_timer_free(l->timer);
	control_free(l->f->control);
	l->f->control = NULL;
}

static void test_flows_follow_gets_what_comes(void **state)
{
	struct fake *f = *state;
	struct later later = { .f = f };
	fake_flow_add(f, FLOW_OPENED, FLOW_DIRECT, DROP_NONE); /* before: not wanted */
	loop_timer_new(f->loop, on_later, &later, &later.timer);
	loop_timer_start(later.timer, 20, 20);
	AUTO(answer_done) struct answer a = fake_ask(f, "GET", "/v1/flows?follow=1", NULL);
	assert_int_equal(a.status, 200);
	assert_int_equal(lines(a.body), 2);
	assert_non_null(strstr(a.body, "\"sequence\":2"));
	assert_non_null(strstr(a.body, "\"sequence\":3"));
}

static void test_dump_at_once_and_failing(void **state)
{
	struct fake *f = *state;
	AUTO(json_freep) json_t *o = get(f, "/v1/proxy-config/secrets");
	assert_int_equal(json_array_size(json_object_get(o, "items")), 1);
	assert_int_equal(json_array_size(json_object_get(o, "roots")), 1);
	AUTO(json_freep) json_t *none = get(f, "/v1/proxy-config/pools");
	assert_string_equal(text(none, "problem", NULL), "the helper did not answer");
	refused(f, "GET", "/v1/proxy-config/routes", NULL, 404, "none of listeners");
}

static void on_answer_dump(struct loop_timer *timer, void *arg)
{
	struct later *l = arg;
	(void)timer;
	loop_timer_free(l->timer);
	l->f->dump_fn("[]", l->f->dump_ctx);
}

static void test_dump_later_resumes_the_request(void **state)
{
	struct fake *f = *state;
	struct later later = { .f = f };
	f->dump_later = true;
	loop_timer_new(f->loop, on_answer_dump, &later, &later.timer);
	loop_timer_start(later.timer, 20, 0);
	AUTO(json_freep) json_t *o = get(f, "/v1/proxy-config/all");
	assert_true(json_is_array(json_object_get(o, "secrets")));
	assert_int_equal(json_array_size(json_object_get(o, "listeners")), 3);
}

static void on_free_control(struct loop_timer *timer, void *arg)
{
	struct later *l = arg;
	(void)timer;
	loop_timer_free(l->timer);
	control_free(l->f->control);
	l->f->control = NULL;
}

static void test_dump_answered_after_the_end_is_harmless(void **state)
{
	struct fake *f = *state;
	struct later later = { .f = f };
	f->dump_later = true;
	loop_timer_new(f->loop, on_free_control, &later, &later.timer);
	loop_timer_start(later.timer, 20, 0);
	AUTO(answer_done) struct answer a = fake_ask(f, "GET", "/v1/proxy-config/secrets", NULL);
	assert_non_null(f->dump_fn);
	f->dump_fn("[]", f->dump_ctx);
	assert_int_not_equal(access(f->socket, F_OK), 0);
}

static void test_socket_is_for_root_alone_without_a_group(void **state)
{
	struct fake *f = *state;
	struct stat st;
	assert_int_equal(stat(f->socket, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_group_reads_and_root_changes(void **state)
{
	struct fake *f = *state;
	const struct group *g = getgrnam("nogroup");
	if (geteuid() != 0 || !g)
		skip();
	enum { SOMEBODY = 12345, OTHER_GROUP = 54321 };
	gid_t gid = g->gr_gid;
	fake_serve(f, "nogroup");
	chmod(f->dir, 0755);

	AUTO(answer_done) struct answer reads = fake_ask_as(f, SOMEBODY, gid, "GET", "/v1/status", NULL);
	assert_int_equal(reads.status, 200);
	AUTO(answer_done) struct answer changes = fake_ask_as(f, SOMEBODY, gid, "POST", "/v1/certs/rotate", NULL);
	assert_int_equal(changes.status, 403);
	assert_string_equal(f->rotated, "");
	AUTO(answer_done) struct answer stranger = fake_ask_as(f, SOMEBODY, OTHER_GROUP, "GET", "/v1/status", NULL);
	assert_int_equal(stranger.status, 0);
	/* The file's rights are not all: who gets past them is still asked who it is. */
	chmod(f->socket, 0666);
	AUTO(answer_done) struct answer past = fake_ask_as(f, SOMEBODY, OTHER_GROUP, "GET", "/v1/status", NULL);
	assert_int_equal(past.status, 403);
}

static void test_second_agent_on_the_socket_is_refused(void **state)
{
	struct fake *f = *state;
	struct control *second = NULL;
	struct err err = ERR_INIT;
	const struct control_options options = { .loop = f->loop, .socket_path = f->socket };
	assert_int_equal(control_new(&options, &f->backend, &second, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "another weftd answers"));
	AUTO(answer_done) struct answer a = fake_ask(f, "GET", "/healthz", NULL);
	assert_int_equal(a.status, 200);
}

static void test_bad_metrics_address_is_told(void **state)
{
	struct fake *f = *state;
	struct control *second = NULL;
	struct err err = ERR_INIT;
	const struct control_options options = { .loop = f->loop, .metrics_listen = "everywhere" };
	assert_int_equal(control_new(&options, &f->backend, &second, &err), -EINVAL);
	assert_non_null(strstr(err.text, "127.0.0.1:15020"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_status_tells_problems_pods_and_counters),
		T(test_readyz_not_ready_is_503_with_the_reason),
		T(test_tcp_serves_metrics_and_nothing_of_the_admin_api),
		T(test_unknown_paths_and_methods_are_told),
		T(test_bodies_wrong_or_large_are_refused),
		T(test_changes_reach_the_backend),
		T(test_resources_list_and_one),
		T(test_workloads_tell_identity_and_state),
		T(test_services_tell_endpoints),
		T(test_explain_allowed_names_rule_and_line),
		T(test_explain_refused_tells_reason),
		T(test_explain_stranger_meets_strict),
		T(test_explain_other_node_says_that_it_is_not_known),
		T(test_explain_other_node_by_the_same_configuration),
		T(test_explain_outbound_refusal_and_no_endpoint),
		T(test_explain_v6_vip_and_udp_port),
		T(test_explain_unclear_names_are_refused),
		T(test_authz_check_judges_each_endpoint),
		T(test_tls_check_tells_modes),
		T(test_analyze_finds_the_service_without_endpoints),
		T(test_flows_filters),
		T(test_flows_line_tells_who_and_why),
		T(test_flows_follow_gets_what_comes),
		T(test_dump_at_once_and_failing),
		T(test_dump_later_resumes_the_request),
		T(test_dump_answered_after_the_end_is_harmless),
		T(test_socket_is_for_root_alone_without_a_group),
		T(test_group_reads_and_root_changes),
		T(test_second_agent_on_the_socket_is_refused),
		T(test_bad_metrics_address_is_told),
	};
	log_init("test", false);
	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
