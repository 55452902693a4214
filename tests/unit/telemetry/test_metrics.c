/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/model/plan.h"
#include "agent/model/telemetry.h"
#include "agent/telemetry/exposition.h"
#include "agent/telemetry/metrics.h"

struct test {
	struct plan *plan;
	struct flow_sum sums[8];
	struct metrics_snapshot snapshot;
	struct sb out;
};

static struct workload *workload_make(const char *name, const char *account, const char *app, const char *version)
{
	struct workload *w = workload_new();
	w->uid = str_format("shop/%s", name);
	w->name = strdup(name);
	w->ns = strdup("shop");
	w->identity = identity_new("cluster.local", "shop", account);
	w->owner = strdup(account);
	w->canonical_name = strdup(app);
	w->canonical_revision = strdup(version);
	w->labels = calloc(2, sizeof(*w->labels));
	w->label_count = 2;
	w->labels[0] = (struct label){ strdup("app"), strdup(app) };
	w->labels[1] = (struct label){ strdup("version"), strdup(version) };
	return w;
}

static int setup(void **state)
{
	struct test *t = calloc(1, sizeof(*t));
	t->plan = plan_new();
	t->plan->workloads = calloc(3, sizeof(*t->plan->workloads));
	t->plan->workloads[0] = workload_make("catalog-1", "catalog", "catalog", "v1");
	t->plan->workloads[1] = workload_make("catalog-2", "catalog", "catalog", "v2");
	t->plan->workloads[2] = workload_make("frontend-1", "frontend", "frontend", "v1");
	t->plan->workload_count = 3;
	t->plan->services = calloc(1, sizeof(*t->plan->services));
	struct service *s = service_new();
	s->id = 77;
	s->name = strdup("catalog");
	s->ns = strdup("shop");
	s->hostname = strdup("catalog.shop.svc.cluster.local");
	t->plan->services[0] = s;
	t->plan->service_count = 1;
	t->sums[0] = (struct flow_sum){ .source_identity = t->plan->workloads[2]->identity->id,
					.destination_identity = t->plan->workloads[0]->identity->id,
					.service = 77,
					.path = FLOW_HBONE,
					.source_side = true,
					.proto = IPPROTO_TCP,
					.opened = 5,
					.closed = 4,
					.sent_bytes = 100,
					.received_bytes = 9000,
					.rtt = { 1, 2, 3 },
					.rtt_sum_us = 700 };
	t->snapshot = (struct metrics_snapshot){ .node = "node-a",
						 .version = "v1",
						 .plan = t->plan,
						 .sums = t->sums,
						 .sum_count = 1,
						 .config_revision = 3 };
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;
	plan_unref(t->plan);
	sb_done(&t->out);
	free(t);
	return 0;
}

static void render(struct test *t, bool openmetrics)
{
	sb_done(&t->out);
	metrics_render(&t->snapshot, openmetrics, &t->out);
	assert_false(t->out.failed);
}

static void has(struct test *t, const char *line)
{
	AUTO(mem_freep) char *whole = str_format("\n%s\n", line);
	if (!strstr(t->out.p, whole))
		fail_msg("no line %s", line);
}

/* Not by strstr: ASan's measures the whole text at every call. */
static size_t count(const char *text, const char *what)
{
	size_t n = 0, len = strlen(what);
	for (; *text; text++)
		n += *text == *what && strncmp(text, what, len) == 0;
	return n;
}

#define CATALOG_LABELS                                                                                                 \
	"reporter=\"source\",source_workload=\"frontend\",source_workload_namespace=\"shop\","                         \
	"source_principal=\"spiffe://cluster.local/ns/shop/sa/frontend\",source_app=\"frontend\","                     \
	"source_version=\"v1\",source_canonical_service=\"frontend\",source_canonical_revision=\"v1\","                \
	"source_cluster=\"Kubernetes\","                                                                               \
	"destination_workload=\"catalog\",destination_workload_namespace=\"shop\","                                    \
	"destination_principal=\"spiffe://cluster.local/ns/shop/sa/catalog\",destination_app=\"catalog\","             \
	"destination_version=\"unknown\",destination_canonical_service=\"catalog\","                                   \
	"destination_canonical_revision=\"latest\",destination_cluster=\"Kubernetes\",destination_service=\"catalog."  \
	"shop.svc.cluster.local\","                                                                                    \
	"destination_service_name=\"catalog\",destination_service_namespace=\"shop\",request_protocol=\"tcp\","        \
	"connection_security_policy=\"mutual_tls\",response_flags=\"-\""

static void test_istio_labels_are_what_workloads_of_an_identity_share(void **state)
{
	struct test *t = *state;
	render(t, false);
	has(t, "istio_tcp_connections_opened_total{" CATALOG_LABELS "} 5");
	has(t, "istio_tcp_connections_closed_total{" CATALOG_LABELS "} 4");
}

static void test_istio_sent_bytes_are_the_response(void **state)
{
	struct test *t = *state;
	render(t, false);
	has(t, "istio_tcp_sent_bytes_total{" CATALOG_LABELS "} 9000");
	has(t, "istio_tcp_received_bytes_total{" CATALOG_LABELS "} 100");
}

static void test_istio_rows_with_equal_labels_are_one_series(void **state)
{
	struct test *t = *state;
	for (int i = 0; i < 3; i++) { /* identities that are no longer known */
		t->sums[i + 1] = t->sums[0];
		t->sums[i + 1].source_identity = 1000u + (uint32_t)i;
		t->sums[i + 1].path = i == 0 ? FLOW_DIRECT : FLOW_PLAINTEXT;
	}
	t->snapshot.sum_count = 4;
	render(t, false);
	assert_int_equal(count(t->out.p, "istio_tcp_connections_opened_total{"), 2);
	assert_non_null(strstr(t->out.p, "response_flags=\"-\"} 15"));
}

static void test_istio_failed_connections_are_upstream_failures(void **state)
{
	struct test *t = *state;
	t->sums[0].failed = 2;
	render(t, false);
	assert_int_equal(count(t->out.p, "response_flags=\"UF\"} 2"), 2);
}

static void test_istio_metrics_that_are_switched_off_are_left_out(void **state)
{
	struct test *t = *state;
	struct telemetry *off = telemetry_new();
	off->overrides[REPORTER_CLIENT][METRIC_TCP_SENT].disabled = true;
	off->overrides[REPORTER_SERVER][METRIC_TCP_OPENED].disabled = true;
	t->plan->workloads[2]->telemetry = off; /* the caller's, freed with it */
	render(t, false);
	assert_int_equal(count(t->out.p, "istio_tcp_sent_bytes_total{"), 0);
	assert_int_equal(count(t->out.p, "istio_tcp_connections_opened_total{"), 1);
	assert_int_equal(count(t->out.p, "istio_tcp_received_bytes_total{"), 1);
}

static void test_istio_metrics_are_off_when_all_workloads_say_so(void **state)
{
	struct test *t = *state;
	struct telemetry *off = telemetry_new();
	t->sums[0].source_side = false;
	off->overrides[REPORTER_SERVER][METRIC_TCP_SENT].disabled = true;
	t->plan->workloads[0]->telemetry = off;
	t->plan->workloads[1]->telemetry = telemetry_new(); /* of the same identity */
	render(t, false);
	assert_int_equal(count(t->out.p, "istio_tcp_sent_bytes_total{"), 1);
	t->plan->workloads[1]->telemetry->overrides[REPORTER_SERVER][METRIC_TCP_SENT].disabled = true;
	t->out.len = 0;
	render(t, false);
	assert_int_equal(count(t->out.p, "istio_tcp_sent_bytes_total{"), 0);
}

static void test_istio_service_of_the_accepting_side_is_its_own(void **state)
{
	struct test *t = *state;
	t->sums[0].service = 0;
	render(t, false);
	assert_int_equal(count(t->out.p, "destination_service=\"unknown\""),
			 4); /* the caller's side has called an address */
	t->sums[0].source_side = false;
	t->out.len = 0;
	render(t, false);
	assert_int_equal(count(t->out.p, "destination_service=\"catalog.shop.svc.cluster.local\","
					 "destination_service_name=\"catalog\",destination_service_namespace=\"shop\""),
			 4);
}

static void test_istio_udp_is_left_out(void **state)
{
	struct test *t = *state;
	t->sums[0].proto = IPPROTO_UDP;
	render(t, false);
	assert_int_equal(count(t->out.p, "istio_tcp_connections_opened_total{"), 0);
}

static void test_istio_series_are_bounded(void **state)
{
	struct test *t = *state;
	enum { ROWS = METRICS_SERIES_MAX + 50 };
	t->plan->services = realloc(t->plan->services, ROWS * sizeof(*t->plan->services));
	struct flow_sum *sums = calloc(ROWS, sizeof(*sums));
	for (uint32_t i = 0; i < ROWS; i++) {
		sums[i] = t->sums[0];
		sums[i].service = i + 1000;
		if (i == 0)
			continue;
		struct service *s = service_new();
		s->id = i + 1000;
		s->name = str_format("s%u", i);
		s->ns = strdup("shop");
		s->hostname = str_format("s%u.shop", i);
		t->plan->services[t->plan->service_count++] = s;
	}
	t->snapshot.sums = sums;
	t->snapshot.sum_count = ROWS;
	render(t, false);
	assert_int_equal(count(t->out.p, "istio_tcp_connections_opened_total{"), METRICS_SERIES_MAX + 1);
	has(t, "istio_tcp_connections_opened_total{reporter=\"other\",response_flags=\"-\"} 250");
	free(sums);
}

static void test_labels_are_escaped(void **state)
{
	(void)state;
	struct sb sb = { 0 };
	exposition_label(&sb, "a", "x\"y\\z\nw");
	exposition_label(&sb, "b", NULL);
	assert_string_equal(sb.p, "a=\"x\\\"y\\\\z\\nw\",b=\"unknown\"");
	sb_done(&sb);
}

static void test_rtt_buckets_are_cumulative(void **state)
{
	struct test *t = *state;
	render(t, false);
	has(t, "weft_connection_rtt_seconds_bucket{path=\"hbone\",le=\"5e-05\"} 1");
	has(t, "weft_connection_rtt_seconds_bucket{path=\"hbone\",le=\"0.00025\"} 6");
	has(t, "weft_connection_rtt_seconds_bucket{path=\"hbone\",le=\"+Inf\"} 6");
	has(t, "weft_connection_rtt_seconds_count{path=\"hbone\"} 6");
	has(t, "weft_connection_rtt_seconds_sum{path=\"hbone\"} 0.0007");
}

static void test_drops_have_reason_and_place(void **state)
{
	struct test *t = *state;
	t->snapshot.kernel_drops[DROP_POLICY_DENY] = 7;
	t->snapshot.helper.drops[DROP_TLS_UNTRUSTED] = 2;
	render(t, false);
	has(t, "weft_drops_total{reason=\"policy_deny\",where=\"kernel\"} 7");
	has(t, "weft_drops_total{reason=\"tls_untrusted\",where=\"helper\"} 2");
}

static void test_cuts_have_their_reason(void **state)
{
	struct test *t = *state;
	t->snapshot.kernel_cuts[DROP_HTTP_RULES] = 3;
	t->snapshot.kernel_cuts_failed = 1;
	render(t, false);
	has(t, "weft_connections_cut_total{reason=\"http_rules\"} 3");
	has(t, "weft_connections_cut_total{reason=\"policy_deny\"} 0");
	has(t, "weft_connections_cut_failed_total 1");
}

static void test_no_plan_and_no_sums_render(void **state)
{
	struct test *t = *state;
	t->snapshot.plan = NULL;
	t->snapshot.sum_count = 0;
	render(t, true);
	assert_true(str_ends(t->out.p, "# EOF\n"));
}

/* promtool reads the older format only: the newer one is checked by its own rules below. */
static void test_promtool_finds_nothing_wrong(void **state)
{
	struct test *t = *state;
	struct metrics_certificate cert = { "spiffe://cluster.local/ns/shop/sa/frontend", 1800000000 };
	struct map_fill fill = { "services", 3, 1024 };
	char path[] = "/tmp/weft-test-metrics-XXXXXX";
	if (system("command -v promtool >/dev/null 2>&1") != 0)
		skip();

	t->snapshot.certificates = &cert;
	t->snapshot.certificate_count = 1;
	t->snapshot.maps = &fill;
	t->snapshot.map_count = 1;
	t->snapshot.root_not_after_s = t->snapshot.signer_not_after_s = 1900000000;
	t->snapshot.agent_resident_bytes = metrics_resident_bytes(getpid());
	assert_true(t->snapshot.agent_resident_bytes > 0);
	t->sums[0].failed = 1;
	render(t, false);
	int fd = mkstemp(path);
	assert_int_equal(write(fd, t->out.p, t->out.len), t->out.len);
	close(fd);
	AUTO(mem_freep) char *command = str_format("promtool check metrics < %s", path);
	int rc = system(command);
	unlink(path);
	assert_int_equal(rc, 0);
}

static void test_openmetrics_families_of_counters_have_no_suffix(void **state)
{
	struct test *t = *state;
	render(t, true);
	has(t, "# TYPE istio_tcp_connections_opened counter");
	has(t, "# TYPE weft_drops counter");
	assert_null(strstr(t->out.p, "_total counter\n"));
	render(t, false);
	has(t, "# TYPE istio_tcp_connections_opened_total counter");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_istio_metrics_that_are_switched_off_are_left_out),
		T(test_istio_metrics_are_off_when_all_workloads_say_so),
		T(test_istio_labels_are_what_workloads_of_an_identity_share),
		T(test_istio_sent_bytes_are_the_response),
		T(test_istio_rows_with_equal_labels_are_one_series),
		T(test_istio_failed_connections_are_upstream_failures),
		T(test_istio_service_of_the_accepting_side_is_its_own),
		T(test_istio_udp_is_left_out),
		T(test_istio_series_are_bounded),
		T(test_labels_are_escaped),
		T(test_rtt_buckets_are_cumulative),
		T(test_drops_have_reason_and_place),
		T(test_cuts_have_their_reason),
		T(test_no_plan_and_no_sums_render),
		T(test_promtool_finds_nothing_wrong),
		T(test_openmetrics_families_of_counters_have_no_suffix),
	};
	return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
