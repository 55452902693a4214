/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "agent/model/telemetry.h"
#include "agent/model/workload.h"
#include "tests/unit/compile/world.h"

static struct world w;

static struct world_fixture fixture = { &w, NULL };

static const char base[] =
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } }\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
	"metadata: { name: a, namespace: shop, annotations: { weft.dev/netns: x } }\n"
	"spec: { address: 10.0.0.1, labels: { app: a } }\n---\n";

static const char providers[] =
	"extensionProviders:\n"
	"- { name: otel, opentelemetry: { service: otel.obs.svc.cluster.local, port: 4317 } }\n"
	"- { name: zip, zipkin: { service: zipkin.obs.svc.cluster.local, port: 9411 } }\n"
	"- { name: file, envoyFileAccessLog: { path: /var/log/a.log, logFormat: { labels: { code: \"%RESPONSE_CODE%\", "
	"who: 'a \"b\"' } } } }\n"
	"- { name: als, envoyOtelAls: { service: obs/otel.obs.svc.cluster.local, port: 4317, logFormat: { text: "
	"\"%REQ(:PATH)% 'x'\\n\", labels: { code: \"%RESPONSE_CODE%\" } } } }\n"
	"- { name: text, envoyFileAccessLog: { path: /dev/stderr, logFormat: { text: \"%REQ(:PATH)%\\n\" } } }\n";

#define TELEMETRY(name, ns, spec)                                                                                      \
	"apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: " name ", namespace: " ns               \
	" }\nspec:\n" spec "\n---\n"

static const struct telemetry *of(const char *mesh, const char *documents)
{
	char *text = str_format("%s%s", base, documents);
	assert_non_null(text);
	world_set(&w, mesh);
	world_with(&w, text);
	free(text);
	return world_workload(&w, "shop/a")->telemetry;
}

static void test_nothing_said_metrics_only(void **state)
{
	(void)state;
	const struct telemetry *t = of("trustDomain: cluster.local\n", "");
	assert_non_null(t);
	assert_true(t->metrics);
	assert_int_equal(t->log_count[REPORTER_CLIENT] + t->log_count[REPORTER_SERVER], 0);
	assert_null(t->tracing[REPORTER_CLIENT].provider);
}

static void test_mesh_access_log_file(void **state)
{
	(void)state;
	const struct telemetry *t =
		of("accessLogFile: /dev/stdout\naccessLogEncoding: JSON\naccessLogFormat: '{}'\n", "");
	assert_int_equal(t->log_count[REPORTER_SERVER], 1);
	assert_string_equal(t->logs[REPORTER_SERVER][0].path, "/dev/stdout");
	assert_true(t->logs[REPORTER_SERVER][0].json);
	assert_string_equal(t->logs[REPORTER_SERVER][0].format, "{}");
}

static void test_logging_of_namespace_replaces_that_of_mesh(void **state)
{
	(void)state;
	char *mesh = str_format("accessLogFile: /dev/stdout\n%s", providers);
	const struct telemetry *t = of(mesh, TELEMETRY("a", "shop",
						       "  accessLogging:\n  - { match: { mode: CLIENT }, providers: [ "
						       "{ name: file }, { name: text } ], "
						       "filter: { expression: 'response.code >= 400' } }"));
	assert_int_equal(t->log_count[REPORTER_CLIENT], 2);
	assert_string_equal(t->logs[REPORTER_CLIENT][0].format,
			    "{\"code\":\"%RESPONSE_CODE%\",\"who\":\"a \\\"b\\\"\"}\n");
	assert_true(t->logs[REPORTER_CLIENT][0].json);
	assert_string_equal(t->logs[REPORTER_CLIENT][1].format, "%REQ(:PATH)%\n");
	assert_string_equal(t->logs[REPORTER_CLIENT][1].filter, "response.code >= 400");
	assert_int_equal(t->log_count[REPORTER_SERVER], 1); /* the mesh's */
	free(mesh);
}

static void test_logging_to_a_collector(void **state)
{
	(void)state;
	const struct telemetry *t =
		of(providers, TELEMETRY("a", "shop", "  accessLogging: [ { providers: [ { name: als } ] } ]"));
	assert_int_equal(t->log_count[REPORTER_CLIENT], 1);
	const struct access_log *log = &t->logs[REPORTER_CLIENT][0];
	assert_string_equal(log->path, "otlp:als");
	assert_true(log->json);
	assert_string_equal(log->format,
			    "{\"t\":\"%START_TIME(%s%f)%\",\"p\":\"%HOSTNAME%\",\"b\":\"%REQ(:PATH)% 'x'\","
			    "\"a\":{\"code\":\"%RESPONSE_CODE%\"}}\n");
	const struct mesh_settings *mesh = &w.plan->mesh;
	bool found = false;
	for (size_t i = 0; i < mesh->trace_provider_count; i++)
		found |= str_eq(mesh->trace_providers[i].name, "als") &&
			 str_eq(mesh->trace_providers[i].host, "otel.obs.svc.cluster.local") &&
			 mesh->trace_providers[i].kind == TRACE_OTLP_LOGS && mesh->trace_providers[i].port == 4317;
	assert_true(found);
}

static void test_logging_disabled_for_one_workload(void **state)
{
	(void)state;
	const struct telemetry *t =
		of("accessLogFile: /dev/stdout\n", TELEMETRY("a", "shop",
							     "  selector: { matchLabels: { app: a } }\n"
							     "  accessLogging: [ { disabled: true } ]"));
	assert_int_equal(t->log_count[REPORTER_CLIENT] + t->log_count[REPORTER_SERVER], 0);
}

static void test_tracing_levels_merge_by_field(void **state)
{
	(void)state;
	const struct telemetry *t =
		of(providers, TELEMETRY("mesh", "istio-system",
					"  tracing: [ { providers: [ { name: zip } ], randomSamplingPercentage: 5, "
					"customTags: { old: { literal: { value: x } } } } ]")
				      TELEMETRY("a", "shop",
						"  tracing: [ { randomSamplingPercentage: 12.5, customTags: { cell: { "
						"literal: { value: a } }, "
						"tenant: { header: { name: x-tenant, defaultValue: none } } } } ]")
					      TELEMETRY("b", "shop",
							"  selector: { matchLabels: { app: other } }\n"
							"  tracing: [ { randomSamplingPercentage: 99 } ]"));
	const struct tracing *c = &t->tracing[REPORTER_CLIENT];
	assert_string_equal(c->provider, "zip");
	assert_int_equal(c->sampling_ppm, 125000);
	assert_int_equal(c->tag_count, 2);
	assert_string_equal(c->tags[0].name, "cell");
	assert_int_equal(c->tags[1].kind, TAG_HEADER);
	assert_string_equal(c->tags[1].default_value, "none");
	assert_true(c->client && c->server);
}

static void test_unknown_provider_is_none(void **state)
{
	(void)state;
	const struct telemetry *t = of("trustDomain: cluster.local\n",
				       TELEMETRY("a", "shop", "  tracing: [ { providers: [ { name: nobody } ] } ]"));
	assert_null(t->tracing[REPORTER_CLIENT].provider);
}

static void test_metric_overrides_by_metric_and_mode(void **state)
{
	(void)state;
	const struct telemetry *t =
		of("trustDomain: cluster.local\n",
		   TELEMETRY("a", "shop",
			     "  metrics:\n  - providers: [ { name: prometheus } ]\n    overrides:\n"
			     "    - { match: { metric: REQUEST_COUNT, mode: CLIENT }, tagOverrides: { tenant: { "
			     "operation: UPSERT, "
			     "value: \"request.headers['x-tenant']\" }, request_protocol: { operation: REMOVE } } }\n"
			     "    - { match: { metric: ALL_METRICS, mode: SERVER }, disabled: true }"));
	const struct metric_override *o = &t->overrides[REPORTER_CLIENT][METRIC_REQUEST_COUNT];
	assert_int_equal(o->tag_count, 2);
	assert_string_equal(o->tags[0].value, "request.headers['x-tenant']");
	assert_true(o->tags[1].remove);
	assert_int_equal(t->overrides[REPORTER_CLIENT][METRIC_REQUEST_SIZE].tag_count, 0);
	assert_true(t->overrides[REPORTER_SERVER][METRIC_GRPC_RESPONSE_MESSAGES].disabled);
	assert_false(t->overrides[REPORTER_CLIENT][METRIC_REQUEST_DURATION].disabled);
}

static void test_mesh_json_format_is_one_line_or_none(void **state)
{
	(void)state;
	const struct telemetry *t =
		of("accessLogFile: /dev/stdout\naccessLogEncoding: JSON\n"
		   "accessLogFormat: \"{ \\\"a\\\":\\n \\\"%PROTOCOL%\\\", \\\"b c\\\": { \\\"d\\\": 1 } }\"\n",
		   "");
	assert_string_equal(t->logs[REPORTER_CLIENT][0].format, "{\"a\":\"%PROTOCOL%\",\"b c\":{\"d\":1}}");
	t = of("accessLogFile: /dev/stdout\naccessLogEncoding: JSON\naccessLogFormat: '{ \"a\": '\n", "");
	assert_true(t->logs[REPORTER_CLIENT][0].json);
	assert_null(t->logs[REPORTER_CLIENT][0].format);
	t = of("accessLogFile: /dev/stdout\naccessLogFormat: '{ \"a\": '\n", "");
	assert_string_equal(t->logs[REPORTER_CLIENT][0].format, "{ \"a\": ");
}

static void test_tags_of_the_environment_are_the_mesh_s(void **state)
{
	(void)state;
	setenv("WEFT_TEST_SECRET", "leaked", 1);
	char *mesh = str_format("defaultConfig: { proxyMetadata: { CELL: west } }\n%s", providers);
	const struct telemetry *t =
		of(mesh, TELEMETRY("a", "shop",
				   "  tracing:\n  - { match: { mode: SERVER }, providers: [ { name: otel } ], "
				   "useRequestIdForTraceSampling: false, "
				   "customTags: { cell: { environment: { name: CELL, defaultValue: none } }, "
				   "other: { environment: { name: WEFT_TEST_SECRET, defaultValue: none } }, "
				   "gone: { environment: { name: NONE } } } }"));
	const struct tracing *s = &t->tracing[REPORTER_SERVER];
	assert_null(t->tracing[REPORTER_CLIENT].provider);
	assert_string_equal(s->provider, "otel");
	assert_int_equal(s->tag_count, 2);
	assert_int_equal(s->tags[0].kind, TAG_LITERAL);
	assert_string_equal(s->tags[0].value, "west");
	assert_string_equal(s->tags[1].value, "none");
	free(mesh);
}

static void test_overrides_of_another_provider_are_not_ours(void **state)
{
	(void)state;
	const struct telemetry *t = of("extensionProviders: [ { name: prom, prometheus: {} } ]\n",
				       TELEMETRY("a", "shop",
						 "  metrics:\n  - { providers: [ { name: stackdriver } ], overrides: [ "
						 "{ match: { metric: REQUEST_COUNT }, "
						 "disabled: true } ] }\n"
						 "  - { providers: [ { name: prom } ], overrides: [ { match: { metric: "
						 "REQUEST_SIZE }, disabled: true } ] }"));
	assert_false(t->overrides[REPORTER_CLIENT][METRIC_REQUEST_COUNT].disabled);
	assert_true(t->overrides[REPORTER_CLIENT][METRIC_REQUEST_SIZE].disabled);
}

static void test_logging_without_a_provider_goes_where_the_mesh_says(void **state)
{
	(void)state;
	char *mesh =
		str_format("accessLogFile: /dev/stdout\ndefaultProviders: { accessLogging: [ text ] }\n%s", providers);
	const struct telemetry *t = of(mesh, "");
	assert_int_equal(t->log_count[REPORTER_CLIENT], 1); /* and not the file, too */
	assert_string_equal(t->logs[REPORTER_CLIENT][0].path, "/dev/stderr");
	t = of(mesh, TELEMETRY("a", "shop",
			       "  accessLogging: [ { match: { mode: SERVER }, filter: { expression: 'response.code >= "
			       "500' } } ]"));
	assert_string_equal(t->logs[REPORTER_SERVER][0].path, "/dev/stderr");
	assert_string_equal(t->logs[REPORTER_SERVER][0].filter, "response.code >= 500");
	assert_null(t->logs[REPORTER_CLIENT][0].filter);
	free(mesh);
}

static void test_logging_switched_off_and_on_again(void **state)
{
	(void)state;
	const struct telemetry *t =
		of("accessLogFile: /dev/stdout\n",
		   TELEMETRY("mesh", "istio-system", "  accessLogging: [ { disabled: true } ]")
			   TELEMETRY("a", "shop", "  accessLogging: [ { match: { mode: CLIENT }, disabled: false } ]"));
	assert_int_equal(t->log_count[REPORTER_CLIENT], 1);
	assert_int_equal(t->log_count[REPORTER_SERVER], 0);
}

static void test_tracing_says_what_is_told_and_passed_on(void **state)
{
	(void)state;
	char *mesh = str_format("defaultProviders: { tracing: [ otel ] }\n%s", providers);
	const struct telemetry *t =
		of(mesh,
		   TELEMETRY("mesh", "istio-system",
			     "  tracing: [ { enableIstioTags: false, disableSpanReporting: true, customTags: { way: { "
			     "formatter: { value: '%PROTOCOL%' } } } } ]")
			   TELEMETRY("a", "shop",
				     "  tracing: [ { match: { mode: CLIENT }, disableSpanReporting: false, "
				     "disableContextPropagation: true, customTags: {} } ]"));
	const struct tracing *client = &t->tracing[REPORTER_CLIENT], *server = &t->tracing[REPORTER_SERVER];
	assert_string_equal(client->provider, "otel");
	assert_true(client->no_istio_tags && server->no_istio_tags);
	assert_true(client->client && !server->server);
	assert_true(client->no_propagation && !server->no_propagation);
	assert_int_equal(client->tag_count, 0);
	assert_int_equal(server->tags[0].kind, TAG_FORMATTER);
	free(mesh);
}

/* A server's requests are only looked at where something needs it: said by name, it does. */
static void test_the_servers_side_by_name_brings_requests_to_the_helper(void **state)
{
	(void)state;
	static const struct {
		const char *spec;
		bool server;
	} cases[] = {
		{ "  accessLogging: [ { providers: [ { name: text } ] } ]", false },
		{ "  accessLogging: [ { match: { mode: CLIENT }, providers: [ { name: text } ] } ]", false },
		{ "  accessLogging: [ { match: { mode: SERVER }, providers: [ { name: text } ] } ]", true },
		{ "  accessLogging: [ { match: { mode: SERVER }, disabled: true } ]", false },
		{ "  tracing: [ { match: { mode: SERVER }, providers: [ { name: zip } ] } ]", true },
		{ "  tracing: [ { match: { mode: SERVER }, providers: [ { name: zip } ], disableSpanReporting: true } "
		  "]",
		  false },
		{ "  metrics: [ { overrides: [ { match: { mode: SERVER }, disabled: true } ] } ]", false },
		{ "  metrics: [ { overrides: [ { match: { mode: SERVER, metric: REQUEST_COUNT }, tagOverrides: { a: { "
		  "value: request.method } } } ] } ]",
		  true },
		{ "  metrics: [ { overrides: [ { match: { mode: SERVER, metric: TCP_SENT_BYTES }, tagOverrides: { a: { "
		  "operation: REMOVE } } } ] } ]",
		  false },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = str_format("apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: a, "
					"namespace: shop }\nspec:\n%s\n---\n",
					cases[i].spec);
		assert_int_equal(of(providers, text)->server, cases[i].server);
		assert_int_equal(world_workload(&w, "shop/a")->l7_other_ports, cases[i].server);
		free(text);
	}
}

static void test_what_has_no_effect_is_told(void **state)
{
	(void)state;
	char *text = str_format(
		"%s%s", base,
		TELEMETRY("a", "shop",
			  "  metrics:\n  - providers: [ { name: stackdriver } ]\n"
			  "  - { overrides: [ { match: { metric: TCP_SENT_BYTES }, tagOverrides: { a: { value: "
			  "source.address } } } ] }\n"
			  "  accessLogging: [ { providers: [ { name: als } ] } ]"));
	world_set(&w, "accessLogFile: /dev/stdout\nenableTracing: true\ndefaultConfig: { tracing: { zipkin: { address: "
		      "a } } }\n");
	world_with(&w, text);
	assert_true(world_finds(&w, "Telemetry/shop/a", "metrics names the provider \"stackdriver\""));
	assert_true(world_finds(&w, "Telemetry/shop/a", "tagOverrides of TCP metrics have no effect"));
	assert_true(world_finds(&w, "Telemetry/shop/a", "accessLogging names the provider \"als\""));
	assert_true(world_finds(&w, "MeshConfig/mesh", "defaultConfig.tracing.zipkin is not read"));
	assert_true(world_finds(&w, "MeshConfig/mesh", "there are no extensionProviders"));
	assert_false(world_finds(&w, "MeshConfig/mesh", "accessLogFile"));
	free(text);
}

static void test_unchanged_keeps_the_workload(void **state)
{
	(void)state;
	of("accessLogFile: /dev/stdout\n", "");
	const struct workload *before = world_workload(&w, "shop/a");
	world_with(&w, TELEMETRY("z", "elsewhere", "  accessLogging: [ { disabled: true } ]"));
	assert_ptr_equal(world_workload(&w, "shop/a"), before);
	world_with(&w, TELEMETRY("z", "shop", "  accessLogging: [ { disabled: true } ]"));
	assert_int_equal(world_workload(&w, "shop/a")->telemetry->log_count[REPORTER_CLIENT], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_nothing_said_metrics_only),
		WORLD_CASE(test_mesh_access_log_file),
		WORLD_CASE(test_logging_of_namespace_replaces_that_of_mesh),
		WORLD_CASE(test_logging_to_a_collector),
		WORLD_CASE(test_logging_disabled_for_one_workload),
		WORLD_CASE(test_tracing_levels_merge_by_field),
		WORLD_CASE(test_unknown_provider_is_none),
		WORLD_CASE(test_metric_overrides_by_metric_and_mode),
		WORLD_CASE(test_mesh_json_format_is_one_line_or_none),
		WORLD_CASE(test_tags_of_the_environment_are_the_mesh_s),
		WORLD_CASE(test_overrides_of_another_provider_are_not_ours),
		WORLD_CASE(test_logging_without_a_provider_goes_where_the_mesh_says),
		WORLD_CASE(test_logging_switched_off_and_on_again),
		WORLD_CASE(test_tracing_says_what_is_told_and_passed_on),
		WORLD_CASE(test_the_servers_side_by_name_brings_requests_to_the_helper),
		WORLD_CASE(test_what_has_no_effect_is_told),
		WORLD_CASE(test_unchanged_keeps_the_workload),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
