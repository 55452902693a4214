/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/helper/observe/escape.h"
#include "agent/helper/observe/format.h"
#include "agent/model/access_format.h"
#include "agent/model/identity.h"
#include "tests/unit/observe/fake.h"

#define CASE(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

static char *line(const struct request_record *r, const char *format, bool json)
{
	struct sb out = { 0 };
	struct log_format *f = log_format_new(format, json);
	assert_non_null(f);
	log_format_write(f, r, &out);
	log_format_free(f);
	char *text = sb_take(&out);
	assert_non_null(text);
	return text;
}

static void is(const struct request_record *r, const char *format, const char *expected)
{
	AUTO(mem_freep) char *text = line(r, format, false);
	assert_string_equal(text, expected);
	/* Header operations say the same, unescaped. */
	struct sb out = { 0 };
	record_format(r, format, &out);
	if (!strpbrk(expected, "\\"))
		assert_string_equal(out.p ? out.p : "", expected);
	sb_done(&out);
}

static void json_is(const struct request_record *r, const char *format, const char *expected)
{
	AUTO(mem_freep) char *text = line(r, format, true);
	assert_string_equal(text, expected);
	json_t *j = json_loads(text, 0, NULL);
	assert_non_null(j);
	json_decref(j);
}

static void test_operators_of_a_whole_request(void **state)
{
	struct fake *f = *state;
	const struct identity peer = { .uri = (char *)"spiffe://cluster.local/ns/shop/sa/web" };
	fake_field(f->request, "user-agent", "curl/8");
	fake_field(f->response, "x-served-by", "v2");
	f->r.flags = FLAG(UF) | FLAG(URX);
	f->r.peer = &peer;
	f->r.request_principal = "issuer/subject";
	memset(f->r.trace_id, 0xab, 16);
	memset(f->r.span_id, 0xcd, 8);
	static const char *const cases[][2] = {
		{ "%REQ(:METHOD)%", "GET" },
		{ "%REQ(:AUTHORITY)%", "shop.example" },
		{ "%REQ(:SCHEME)%", "http" },
		{ "%REQ_WITHOUT_QUERY(:PATH)%", "/a" },
		{ "%REQ_WITHOUT_QUERY(X-NONE?USER-AGENT)%", "curl/8" },
		{ "%CEL(request.headers['user-agent'].startsWith('curl') ? response.code : 'none')%", "200" },
		{ "%CEL(request.headers['none'])%", "-" },
		{ "%RESPONSE_FLAGS_LONG%", "UpstreamConnectionFailure,UpstreamRetryLimitExceeded" },
		{ "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_PORT%", "10.0.0.1 4001" },
		{ "%DOWNSTREAM_DIRECT_REMOTE_PORT% %DOWNSTREAM_LOCAL_URI_SAN%",
		  "4000 spiffe://cluster.local/ns/shop/sa/web" },
		{ "%SPAN_ID% %STREAM_ID%", "cdcdcdcdcdcdcdcd -" },
		{ "%ACCESS_LOG_TYPE%", "DownstreamEnd" },
		{ "%REQUESTED_SERVER_NAME% %CONNECTION_TERMINATION_DETAILS% %DYNAMIC_METADATA(a:b)%", "- - -" },
		{ "%FILTER_STATE(wasm.x:PLAIN)% %UPSTREAM_TRANSPORT_FAILURE_REASON%", "- -" },
		{ "%REQ(:PATH)%", "/a?b=1" },
		{ "%REQ(X-NONE?User-Agent)%", "curl/8" },
		{ "%REQ(USER-AGENT):4%", "curl" },
		{ "%REQ(USER-AGENT):0%", "" },
		{ "%REQ(USER-AGENT):999999999999%", "curl/8" },
		{ "%RESP(X-Served-By)%", "v2" },
		{ "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "7" },
		{ "%START_TIME%", "2023-11-14T22:13:20.123Z" },
		{ "%PROTOCOL%", "HTTP/1.1" },
		{ "%RESPONSE_CODE%", "200" },
		{ "%RESPONSE_FLAGS%", "UF,URX" },
		{ "%RESPONSE_CODE_DETAILS%", "via_upstream" },
		{ "%BYTES_RECEIVED%/%BYTES_SENT%", "10/2000" },
		{ "%REQUEST_HEADERS_BYTES% %RESPONSE_HEADERS_BYTES%", "100 50" },
		{ "%DURATION%", "12" },
		{ "%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "1 9 3" },
		{ "%UPSTREAM_HOST%", "10.0.0.2:8080" },
		{ "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.2" },
		{ "%UPSTREAM_REMOTE_PORT%", "8080" },
		{ "%UPSTREAM_CLUSTER%", "outbound|80||catalog.shop.svc.cluster.local" },
		{ "%UPSTREAM_LOCAL_ADDRESS%", "10.0.0.1:4001" },
		{ "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "1" },
		{ "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%", "10.96.0.5:80 80" },
		{ "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%", "10.0.0.1 4000" },
		{ "%DOWNSTREAM_PEER_URI_SAN%", "spiffe://cluster.local/ns/shop/sa/web" },
		{ "%ROUTE_NAME%", "shop/catalog" },
		{ "%VIRTUAL_HOST_NAME%", "catalog.shop.svc.cluster.local:80" },
		{ "%HOSTNAME%", "web-1" },
		{ "%TRACE_ID%", "abababababababababababababababab" },
		{ "%REQUEST_PRINCIPAL%", "issuer/subject" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		is(&f->r, cases[i][0], cases[i][1]);
}

static void test_ipv6_addresses_have_brackets(void **state)
{
	struct fake *f = *state;
	struct addr_port six;
	assert_int_equal(addr_port_parse("[fd00::1]:443", &six), 0);
	f->r.source = &six;
	is(&f->r, "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "[fd00::1]:443 fd00::1");
}

static void test_absent_values_are_dashes(void **state)
{
	struct fake *f = *state;
	const struct request_record bare = {
		.request = f->request, .pod = &f->pod, .details = "", .grpc_status = -1, .start_ns = f->r.start_ns
	};
	static const char *const operators[] = {
		"REQ(X)",
		"REQ()",
		"REQ",
		"RESP(X)",
		"TRAILER(X)",
		"RESPONSE_FLAGS",
		"GRPC_STATUS",
		"GRPC_STATUS_NUMBER",
		"DURATION",
		"UPSTREAM_HOST",
		"UPSTREAM_CLUSTER",
		"UPSTREAM_LOCAL_ADDRESS",
		"ROUTE_NAME",
		"VIRTUAL_HOST_NAME",
		"TRACE_ID",
		"DOWNSTREAM_REMOTE_ADDRESS",
		"DOWNSTREAM_LOCAL_PORT",
		"REQUEST_PRINCIPAL",
		"NO_SUCH_OPERATOR",
		"RESPONSE_CODE_DETAILS",
		"REQUESTED_SERVER_NAME",
		"CONNECTION_TERMINATION_DETAILS",
	};
	for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
		AUTO(mem_freep) char *format = str_format("%%%s%%", operators[i]);
		is(&bare, format, "-");
		AUTO(mem_freep) char *json =
			str_format("{\"a\":\"%%%s%%\",\"b\":\"x %%%s%%\"}", operators[i], operators[i]);
		json_is(&bare, json,
			strcmp(operators[i], "RESPONSE_FLAGS") ? "{\"a\":null,\"b\":\"x -\"}" :
								 "{\"a\":\"-\",\"b\":\"x -\"}");
	}
	is(&bare, "%RESPONSE_CODE%", "0");
}

static void test_start_time_formats(void **state)
{
	struct fake *f = *state;
	is(&f->r, "%START_TIME(%Y/%m/%d %H:%M)%", "2023/11/14 22:13");
	is(&f->r, "%START_TIME(%s.%3f)%", "1700000000.123");
	is(&f->r, "%START_TIME(%f %6f %1f)%", "123456789 123456 1");
	is(&f->r, "%START_TIME(%H:%M:%E3S)%", "22:13:20.123");
	is(&f->r, "%START_TIME(100%%)%", "100%");
	is(&f->r, "%START_TIME(%)%", "-");
	f->r.start_ns += 1000000000; /* the kept text of the second before */
	is(&f->r, "%START_TIME%", "2023-11-14T22:13:21.123Z");
}

static void test_percent_signs(void **state)
{
	struct fake *f = *state;
	static const char *const cases[][2] = {
		{ "", "" },
		{ "%", "%" },
		{ "%%", "%" },
		{ "%%%", "%%" },
		{ "100% of %PROTOCOL%", "100% of HTTP/1.1" },
		{ "%PROTOCOL", "%PROTOCOL" },
		{ "%REQ(:METHOD", "%REQ(:METHOD" },
		{ "%REQ(:METHOD)", "%REQ(:METHOD)" },
		{ "%REQ(:METHOD):x%", "%REQ(:METHOD):x%" },
		{ "%%PROTOCOL%%", "%PROTOCOL%" },
		{ "%PROTOCOL%%RESPONSE_CODE%", "HTTP/1.1200" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		is(&f->r, cases[i][0], cases[i][1]);
}

static void test_grpc_status_has_three_forms(void **state)
{
	struct fake *f = *state;
	f->r.grpc = true;
	f->r.grpc_status = 3;
	is(&f->r, "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%",
	   "InvalidArgument INVALID_ARGUMENT 3 3");
	f->r.grpc_status = 99;
	is(&f->r, "%GRPC_STATUS%", "99");
}

static void test_hostile_values_stay_in_their_line(void **state)
{
	struct fake *f = *state;
	fake_field(f->request, "x-evil", "a\r\nb\t\"c\" \\\" \x7f\xff\xc3\xa9\xc2\x85\xe2\x80\xa8\xed\xa0\x80");
	is(&f->r, "<%REQ(X-EVIL)%>",
	   "<a\\x0d\\x0ab\\x09\\\"c\\\" \\\\\\\" \\x7f\\xff\xc3\xa9\\xc2\\x85\\xe2\\x80\\xa8\\xed\\xa0\\x80>");
	json_is(&f->r, "{\"v\":\"%REQ(X-EVIL)%\"}",
		"{\"v\":\"a\\u000d\\u000ab\\u0009\\\"c\\\" \\\\\\\" "
		"\\u007f\\ufffd\xc3\xa9\\u0085\\u2028\\ufffd\\ufffd\\ufffd\"}");
}

static void test_cut_leaves_whole_characters(void **state)
{
	struct fake *f = *state;
	fake_field(f->request, "x", "a\xc3\xa9z");
	is(&f->r, "%REQ(X):2%", "a");
	is(&f->r, "%REQ(X):3%", "a\xc3\xa9");
}

static void test_json_types(void **state)
{
	struct fake *f = *state;
	json_is(&f->r,
		"{\"n\":\"%RESPONSE_CODE%\",\"t\":\"%PROTOCOL%\",\"m\":\"%RESPONSE_CODE%%PROTOCOL%\",\"%RESPONSE_CODE%"
		"\" : 1,"
		"\"q\":\"\\\"%RESPONSE_CODE%\\\"\",\"none\":\"%GRPC_STATUS%\"}",
		"{\"n\":200,\"t\":\"HTTP/1.1\",\"m\":\"200HTTP/1.1\",\"200\" : 1,\"q\":\"\\\"200\\\"\",\"none\":null}");
}

static void test_json_operator_without_end_stays_in_its_string(void **state)
{
	struct fake *f = *state;
	json_is(&f->r, "{\"a\":\"%REQ(X\",\"b\":\"x)%\"}", "{\"a\":\"%REQ(X\",\"b\":\"x)%\"}");
}

static void test_istio_defaults(void **state)
{
	struct fake *f = *state;
	AUTO(mem_freep) char *text = line(&f->r, access_format_default, false);
	assert_string_equal(
		text, "[2023-11-14T22:13:20.123Z] \"GET /a?b=1 HTTP/1.1\" 200 - via_upstream - \"-\" 10 2000 12 7 "
		      "\"-\" \"-\" \"-\" \"shop.example\" \"10.0.0.2:8080\" "
		      "outbound|80||catalog.shop.svc.cluster.local 10.0.0.1:4001 10.96.0.5:80 10.0.0.1:4000 - "
		      "shop/catalog\n");
	AUTO(mem_freep) char *json = line(&f->r, access_log_json, true);
	json_t *j = json_loads(json, 0, NULL);
	assert_non_null(j);
	assert_int_equal(json_integer_value(json_object_get(j, "response_code")), 200);
	assert_true(json_is_null(json_object_get(j, "user_agent")));
	json_decref(j);
}

/* As Envoy's, with Istio's format, of a connection. */
static void test_a_connection_in_istios_default(void **state)
{
	struct fake *f = *state;
	struct addr_port upstream;
	struct request_record r = { .pod = &f->pod,
				    .reporter = REPORTER_CLIENT,
				    .details = "",
				    .grpc_status = -1,
				    .start_ns = f->r.start_ns,
				    .began_ns = 1000000000,
				    .end_ns = 1012345678,
				    .request_bytes = 145,
				    .response_bytes = 228,
				    .cluster_name = "outbound|9000||tcp-echo.shop.svc.cluster.local",
				    .server_name = "echo.example",
				    .source = f->r.source,
				    .destination = f->r.destination,
				    .upstream = &upstream };
	addr_port_parse("10.0.0.7:9000", &upstream);
	AUTO(mem_freep) char *text = line(&r, access_format_default, false);
	assert_string_equal(text,
			    "[2023-11-14T22:13:20.123Z] \"- - -\" 0 - - - \"-\" 145 228 12 - \"-\" \"-\" \"-\" \"-\" "
			    "\"10.0.0.7:9000\" outbound|9000||tcp-echo.shop.svc.cluster.local - 10.96.0.5:80 "
			    "10.0.0.1:4000 echo.example -\n");
	r.reporter = REPORTER_SERVER;
	r.cluster_name = r.server_name = NULL;
	r.flags = FLAG(UF) | FLAG(DT);
	r.termination = "rbac_access_denied_matched_policy[none]";
	is(&r,
	   "%UPSTREAM_CLUSTER% %REQUESTED_SERVER_NAME% %RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS% "
	   "%ACCESS_LOG_TYPE% %PROTOCOL% %STREAM_ID%",
	   "inbound|80|| - UF,DT rbac_access_denied_matched_policy[none] TcpConnectionEnd - -");
}

static void test_utf8_by_rfc_3629(void **state)
{
	(void)state;
	static const struct {
		const char *p;
		size_t n, len;
	} cases[] = {
		{ "a", 1, 1 },
		{ "\x80", 1, 0 },
		{ "\xc1\xbf", 2, 0 },
		{ "\xc2\x80", 2, 2 },
		{ "\xc2", 1, 0 },
		{ "\xe0\x9f\xbf", 3, 0 },
		{ "\xe0\xa0\x80", 3, 3 },
		{ "\xed\xa0\x80", 3, 0 },
		{ "\xf0\x8f\xbf\xbf", 4, 0 },
		{ "\xf0\x90\x80\x80", 4, 4 },
		{ "\xf4\x90\x80\x80", 4, 0 },
		{ "\xf5\x80\x80\x80", 4, 0 },
		{ "\xe2\x82", 2, 0 },
		{ "", 0, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(escape_utf8_len(cases[i].p, cases[i].n), cases[i].len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_operators_of_a_whole_request),
		CASE(test_ipv6_addresses_have_brackets),
		CASE(test_absent_values_are_dashes),
		CASE(test_start_time_formats),
		CASE(test_percent_signs),
		CASE(test_grpc_status_has_three_forms),
		CASE(test_hostile_values_stay_in_their_line),
		CASE(test_cut_leaves_whole_characters),
		CASE(test_json_types),
		CASE(test_json_operator_without_end_stays_in_its_string),
		CASE(test_istio_defaults),
		CASE(test_a_connection_in_istios_default),
		cmocka_unit_test(test_utf8_by_rfc_3629),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
