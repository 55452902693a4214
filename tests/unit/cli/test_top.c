/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"
#include "cli/top.h"

#define LABELS "source_workload=\"fe\",source_workload_namespace=\"shop\",destination_service=\"catalog.shop\","
#define BUCKET "istio_request_duration_milliseconds_bucket{reporter=\"source\"," LABELS

static const char before[] =
	"# TYPE istio_requests_total counter\n"
	"istio_requests_total{reporter=\"source\"," LABELS "response_code=\"200\"} 10\n"
	"istio_requests_total{reporter=\"destination\"," LABELS "response_code=\"200\"} 999\n"
	"istio_requests_total{reporter=\"source\",destination_service=\"idle.shop\",response_code=\"200\"} 5\n" BUCKET
	"le=\"1\"} 10\n" BUCKET "le=\"5\"} 10\n" BUCKET "le=\"+Inf\"} 10\n";

static const char after[] =
	"istio_requests_total{reporter=\"source\"," LABELS "response_code=\"200\"} 100 # {trace_id=\"x\"} 1\n"
	"istio_requests_total{reporter=\"source\"," LABELS "response_code=\"503\"} 10\n"
	"istio_requests_total{reporter=\"source\",destination_service=\"idle.shop\",response_code=\"200\"} 5\n"
	"istio_requests_total{reporter=\"source\",destination_service=\"new\\\"one\",response_code=\"200\","
	"grpc_response_status=\"14\"} 2\n" BUCKET "le=\"1\"} 60\n" BUCKET "le=\"5\"} 110\n" BUCKET "le=\"+Inf\"} 110\n"
	"istio_request_bytes_sum{reporter=\"source\"," LABELS "response_code=\"200\"} 4000\n"
	"istio_response_bytes_sum{reporter=\"source\"," LABELS "response_code=\"200\"} 8000\n"
	"istio_requests_total{reporter=\"source\",broken\n"
	"istio_requests_total{reporter=\"source\",x=\"unended\n";

static void test_rates_are_of_what_came_in_between(void **state)
{
	struct top_reading a, b;
	struct top_rows rows = { 0 };
	(void)state;

	assert_int_equal(top_read(before, TOP_BY_SERVICE, "source", &a), 0);
	assert_int_equal(top_read(after, TOP_BY_SERVICE, "source", &b), 0);
	assert_int_equal(top_diff(&a, &b, 2.0, &rows), 0);
	assert_int_equal(rows.n, 2); /* idle had none */
	const struct top_row *r = &rows.v[0];
	assert_string_equal(r->name, "catalog.shop");
	assert_true(fabs(r->requests - 50) < 1e-9);
	assert_true(fabs(r->success - 0.9) < 1e-9);
	assert_true(fabs(r->received_bytes - 2000) < 1e-9 && fabs(r->sent_bytes - 4000) < 1e-9);
	assert_true(fabs(r->p50_ms - 1) < 1e-9);   /* 50 of 100 below 1 ms */
	assert_true(fabs(r->p90_ms - 4.2) < 1e-9); /* 40 of the 50 between 1 and 5 */
	assert_string_equal(rows.v[1].name, "new\\\"one");
	assert_true(rows.v[1].success < 1e-9); /* a gRPC status */
	assert_true(rows.v[1].p50_ms < 0);
	top_rows_done(&rows);
	top_reading_done(&a);
	top_reading_done(&b);
}

static void test_groups_and_reporters(void **state)
{
	struct top_reading none, b;
	struct top_rows rows = { 0 };
	(void)state;

	assert_int_equal(top_read("", TOP_BY_SOURCE, "source", &none), 0);
	assert_int_equal(top_read(after, TOP_BY_SOURCE, "source", &b), 0);
	assert_int_equal(top_diff(&none, &b, 1, &rows), 0);
	assert_string_equal(rows.v[0].name, "shop/fe");
	top_rows_done(&rows);
	top_reading_done(&b);
	assert_int_equal(top_read(before, TOP_BY_SERVICE, "destination", &b), 0);
	assert_int_equal(top_diff(&none, &b, 1, &rows), 0);
	assert_int_equal(rows.n, 1);
	assert_true(fabs(rows.v[0].requests - 999) < 1e-9);
	top_rows_done(&rows);
	top_reading_done(&b);
	top_reading_done(&none);
}

static void test_counters_that_went_back_began_anew(void **state)
{
	struct top_reading a, b;
	struct top_rows rows = { 0 };
	(void)state;

	assert_int_equal(top_read(after, TOP_BY_SERVICE, "source", &a), 0);
	assert_int_equal(top_read(before, TOP_BY_SERVICE, "source", &b), 0);
	assert_int_equal(top_diff(&a, &b, 1, &rows), 0);
	assert_string_equal(rows.v[0].name, "catalog.shop");
	assert_true(fabs(rows.v[0].requests - 10) < 1e-9);
	assert_true(rows.v[0].p99_ms >= 0 && rows.v[0].p99_ms <= 1);
	top_rows_done(&rows);
	top_reading_done(&a);
	top_reading_done(&b);
}

static void test_labels_that_were_forgotten_are_no_requests(void **state)
{
	static const char both[] = "istio_requests_total{reporter=\"source\"," LABELS "response_code=\"200\"} 1000\n"
				   "istio_requests_total{reporter=\"source\"," LABELS "response_code=\"503\"} 100\n";
	static const char one[] = "istio_requests_total{reporter=\"source\"," LABELS "response_code=\"200\"} 1003\n";
	struct top_reading a, b;
	struct top_rows rows = { 0 };
	(void)state;

	assert_int_equal(top_read(both, TOP_BY_SERVICE, "source", &a), 0);
	assert_int_equal(top_read(one, TOP_BY_SERVICE, "source", &b), 0);
	assert_int_equal(top_diff(&a, &b, 1, &rows), 0);
	assert_true(rows.n == 1 && fabs(rows.v[0].requests) < 1e-9);
	top_rows_done(&rows);
	top_reading_done(&a);
	top_reading_done(&b);
}

static void test_quantiles(void **state)
{
	const double bounds[] = { 1, 10, INFINITY }, some[] = { 0, 10, 10 }, beyond[] = { 0, 0, 4 },
		     none[] = { 0, 0, 0 };
	(void)state;

	assert_true(fabs(top_quantile(bounds, some, 3, 0.5) - 5.5) < 1e-9);
	assert_true(fabs(top_quantile(bounds, beyond, 3, 0.99) - 10) < 1e-9); /* at least the last bound */
	assert_true(top_quantile(bounds, none, 3, 0.5) < 0);
	assert_true(top_quantile(bounds, none, 0, 0.5) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rates_are_of_what_came_in_between),
		cmocka_unit_test(test_groups_and_reporters),
		cmocka_unit_test(test_counters_that_went_back_began_anew),
		cmocka_unit_test(test_labels_that_were_forgotten_are_no_requests),
		cmocka_unit_test(test_quantiles),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
