/* SPDX-License-Identifier: Apache-2.0 */
/* Table of Telemetry. Expressions and formats are read here once, so that a mistake in them is told with its line instead of
 * showing as a log without lines. */
#include "agent/config/kinds_http.h"

#include <errno.h>

#include "agent/base/err.h"
#include "agent/config/decode.h"
#include "agent/config/node.h"
#include "agent/config/schema.h"
#include "agent/model/access_format.h"
#include "agent/model/cel.h"
#include "agent/model/telemetry.h"

static const struct words modes = WORDS({ "CLIENT_AND_SERVER", WORKLOAD_CLIENT_AND_SERVER },
					{ "CLIENT", WORKLOAD_CLIENT }, { "SERVER", WORKLOAD_SERVER });

static const struct field match_fields[] = {
	FIELD(telemetry_match, mode, "mode", ENUM, .words = &modes, .def = "CLIENT_AND_SERVER",
	      .doc = "Of requests that the workload sends, or gets."),
};
static const struct schema schema_match = SCHEMA(telemetry_match, match_fields, .name = "Telemetry.match");

static const struct field provider_fields[] = {
	FIELD(provider_ref, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Of the MeshConfig's extensionProviders."),
};
static const struct schema schema_provider = SCHEMA(provider_ref, provider_fields, .name = "ProviderRef");

/* An expression that never has a value is odd, not wrong: Istio takes it. */
static void expression_check(struct decode *d, const struct path *path, const char *member, const struct node *node,
			     const char *text, bool condition)
{
	struct err err = ERR_INIT;
	int rc = text ? cel_check(text, condition, &err) : 0;
	if (rc == -ENOENT)
		decode_warn(d, path, member, node, "%s: %s", err.text,
			    condition ? "it is never true" : "the tag is always \"unknown\"");
	else if (rc < 0)
		decode_error(d, path, member, node, "%s", err.text);
}

/* --- tracing */

static const struct field literal_fields[] = {
	FIELD(tag_value, value, "value", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "The tag's value."),
};
static const struct schema schema_literal = SCHEMA(tag_value, literal_fields, .name = "Tracing.Literal");

static void formatter_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct tag_value *t = object;
	const char *absent = NULL;
	struct err err = ERR_INIT;
	if (access_format_check(t->value, &absent, &err) < 0)
		decode_error(d, path, "value", node_get(node, "value"), "%s", err.text);
	else if (absent)
		decode_info(d, path, "value", node_get(node, "value"), "%%%s%% never has a value here", absent);
}

static const struct schema schema_formatter =
	SCHEMA(tag_value, literal_fields, .name = "Tracing.Formatter", .validate = formatter_validate);

static const struct field lookup_fields[] = {
	FIELD(tag_lookup, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Of the variable, or of the request's header."),
	FIELD(tag_lookup, default_value, "defaultValue", STRING, .doc = "Where there is none; absent: no tag then."),
};
static const struct schema schema_lookup = SCHEMA(tag_lookup, lookup_fields, .name = "Tracing.Environment");

static const struct field span_tag_fields[] = {
	FIELD(span_tag, literal, "literal", OBJECT, .of = &schema_literal, .group = 1, .doc = "Always the same."),
	FIELD(span_tag, environment, "environment", OBJECT, .of = &schema_lookup, .group = 1,
	      .doc = "Of defaultConfig.proxyMetadata in the MeshConfig."),
	FIELD(span_tag, header, "header", OBJECT, .of = &schema_lookup, .group = 1, .doc = "Of the request."),
	FIELD(span_tag, formatter, "formatter", OBJECT, .of = &schema_formatter, .group = 1,
	      .doc = "With the operators of access logs."),
};

static void span_tag_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct span_tag *t = object;
	if (!t->literal && !t->environment && !t->header && !t->formatter)
		decode_error(d, path, NULL, node, "needs one of literal, environment, header, formatter");
}

static const struct field span_tag_key = FIELD(span_tag, name, NULL, STRING, .check = text_check_not_empty);
static const struct schema schema_span_tag = SCHEMA(span_tag, span_tag_fields, .name = "Tracing.CustomTag",
						    .key = &span_tag_key, .validate = span_tag_validate);

static const struct field tracing_fields[] = {
	FIELD(tracing_rule, match, "match", OBJECT, .of = &schema_match, .doc = "Which side's spans."),
	FIELD(tracing_rule, providers, "providers", LIST, .of = &schema_provider, .doc = "Where they go: the first."),
	FIELD(tracing_rule, random_sampling_percentage, "randomSamplingPercentage", OPT_DOUBLE, .min = 0, .max = 100,
	      .doc = "Of traces that begin here; default 1."),
	FIELD(tracing_rule, disable_span_reporting, "disableSpanReporting", OPT_BOOL,
	      .doc = "No spans; headers are passed on."),
	FIELD(tracing_rule, custom_tags, "customTags", MAP, .of = &schema_span_tag, .doc = "In place of those before."),
	FIELD(tracing_rule, use_request_id_for_trace_sampling, "useRequestIdForTraceSampling", OPT_BOOL,
	      .flags = FIELD_UNUSED, .doc = "Without effect: the headers of the trace carry the decision."),
	FIELD(tracing_rule, enable_istio_tags, "enableIstioTags", OPT_BOOL, .def = "true",
	      .doc = "istio.namespace and the like."),
	FIELD(tracing_rule, disable_context_propagation, "disableContextPropagation", OPT_BOOL,
	      .doc = "The trace's headers are left as they come."),
};

static void tracing_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	struct tracing_rule *t = object;
	t->has_custom_tags = node_get(node, "customTags") != NULL; /* which may be none, in place of some */
	if (t->providers.n > 1)
		decode_warn(d, path, "providers", node_get(node, "providers"),
			    "names %zu providers: spans go to the first alone, as in Istio", t->providers.n);
}

static const struct schema schema_tracing =
	SCHEMA(tracing_rule, tracing_fields, .name = "Telemetry.tracing", .validate = tracing_validate);

/* --- metrics */

enum { ALL_METRICS = -1 };
static const struct words metrics =
	WORDS({ "ALL_METRICS", ALL_METRICS }, { "REQUEST_COUNT", METRIC_REQUEST_COUNT },
	      { "REQUEST_DURATION", METRIC_REQUEST_DURATION }, { "REQUEST_SIZE", METRIC_REQUEST_SIZE },
	      { "RESPONSE_SIZE", METRIC_RESPONSE_SIZE }, { "TCP_OPENED_CONNECTIONS", METRIC_TCP_OPENED },
	      { "TCP_CLOSED_CONNECTIONS", METRIC_TCP_CLOSED }, { "TCP_SENT_BYTES", METRIC_TCP_SENT },
	      { "TCP_RECEIVED_BYTES", METRIC_TCP_RECEIVED }, { "GRPC_REQUEST_MESSAGES", METRIC_GRPC_REQUEST_MESSAGES },
	      { "GRPC_RESPONSE_MESSAGES", METRIC_GRPC_RESPONSE_MESSAGES });

static const struct field metric_selector_fields[] = {
	FIELD(metric_selector, metric, "metric", ENUM, .words = &metrics, .group = 1, .def = "ALL_METRICS",
	      .doc = "One of Istio's."),
	FIELD(metric_selector, custom_metric, "customMetric", STRING, .group = 1, .check = text_check_not_empty,
	      .doc = "Without effect: there are no others."),
	FIELD(metric_selector, mode, "mode", ENUM, .words = &modes, .def = "CLIENT_AND_SERVER",
	      .doc = "As the source reports it, or the destination."),
};

static void metric_selector_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct metric_selector *m = object;
	if (m->custom_metric)
		decode_warn(d, path, "customMetric", node_get(node, "customMetric"),
			    "there are no metrics but Istio's own: this override has no effect");
}

static const struct schema schema_metric_selector =
	SCHEMA(metric_selector, metric_selector_fields, .name = "MetricSelector", .validate = metric_selector_validate);

static const struct words operations = WORDS({ "UPSERT", TAG_UPSERT }, { "REMOVE", TAG_REMOVE });
static const struct field metric_tag_fields[] = {
	FIELD(metric_tag, operation, "operation", ENUM, .words = &operations, .def = "UPSERT", .doc = "What is done."),
	FIELD(metric_tag, value, "value", STRING, .doc = "An expression: \"request.headers['x-tenant']\"."),
};

static void metric_tag_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct metric_tag *t = object;
	if (t->operation == TAG_REMOVE && t->value && *t->value)
		decode_error(d, path, "value", node_get(node, "value"), "cannot be together with the operation REMOVE");
	else if (t->operation == TAG_UPSERT && (!t->value || !*t->value))
		decode_error(d, path, "value", node, "is required when the operation is UPSERT");
	else if (t->operation == TAG_UPSERT)
		expression_check(d, path, "value", node_get(node, "value"), t->value, false);
}

static const struct field metric_tag_key = FIELD(metric_tag, name, NULL, STRING, .check = text_check_not_empty);
static const struct schema schema_metric_tag =
	SCHEMA(metric_tag, metric_tag_fields, .name = "MetricsOverrides.TagOverride", .key = &metric_tag_key,
	       .validate = metric_tag_validate);

static const struct field override_fields[] = {
	FIELD(metrics_override, match, "match", OBJECT, .of = &schema_metric_selector, .doc = "Absent: all metrics."),
	FIELD(metrics_override, disabled, "disabled", OPT_BOOL, .doc = "Not counted."),
	FIELD(metrics_override, tag_overrides, "tagOverrides", MAP, .of = &schema_metric_tag, .doc = "Labels."),
};
static const struct schema schema_override = SCHEMA(metrics_override, override_fields, .name = "MetricsOverrides");

static const struct field metrics_fields[] = {
	FIELD(metrics_rule, providers, "providers", LIST, .of = &schema_provider,
	      .doc = "prometheus; what is for others has no effect."),
	FIELD(metrics_rule, overrides, "overrides", LIST, .of = &schema_override, .doc = "In this order."),
	FIELD(metrics_rule, reporting_interval, "reportingInterval", OPT_MS, .flags = FIELD_UNUSED,
	      .doc = "Without effect: each scrape sees what is counted."),
};
static const struct schema schema_metrics = SCHEMA(metrics_rule, metrics_fields, .name = "Telemetry.metrics");

/* --- access logs */

static const struct field filter_fields[] = {
	FIELD(logging_filter, expression, "expression", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "A condition: \"response.code >= 400\"."),
};

static void filter_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct logging_filter *f = object;
	expression_check(d, path, "expression", node_get(node, "expression"), f->expression, true);
}

static const struct schema schema_filter =
	SCHEMA(logging_filter, filter_fields, .name = "AccessLogging.Filter", .validate = filter_validate);

static const struct field logging_fields[] = {
	FIELD(logging_rule, match, "match", OBJECT, .of = &schema_match, .doc = "Which side's requests."),
	FIELD(logging_rule, providers, "providers", LIST, .of = &schema_provider,
	      .doc = "Where lines go; absent: the mesh's default."),
	FIELD(logging_rule, disabled, "disabled", OPT_BOOL, .doc = "No lines."),
	FIELD(logging_rule, filter, "filter", OBJECT, .of = &schema_filter, .doc = "Which requests."),
};
static const struct schema schema_logging = SCHEMA(logging_rule, logging_fields, .name = "Telemetry.accessLogging");

/* --- all */

static const struct field telemetry_fields[] = {
	FIELD(telemetry_spec, selector, "selector", OBJECT, .of = &schema_selector, .group = 1,
	      .doc = "Which workloads."),
	FIELD(telemetry_spec, target_ref, "targetRef", OBJECT, .of = &schema_target_ref, .group = 1,
	      .doc = "A gateway or service instead."),
	FIELD(telemetry_spec, target_refs, "targetRefs", LIST, .of = &schema_target_ref, .group = 1,
	      .doc = "Several of them."),
	FIELD(telemetry_spec, tracing, "tracing", LIST, .of = &schema_tracing, .doc = "Spans."),
	FIELD(telemetry_spec, metrics, "metrics", LIST, .of = &schema_metrics, .doc = "Metrics."),
	FIELD(telemetry_spec, access_logging, "accessLogging", LIST, .of = &schema_logging, .doc = "Access log."),
};
const struct schema schema_telemetry =
	SCHEMA(telemetry_spec, telemetry_fields, .name = "Telemetry", .doc = "What is observed, and where it goes.");
