/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of a workload's requests: metrics' labels, access logs, spans. From MeshConfig and Telemetry. Immutable,
 * reference-counted (atomic). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum request_metric {
	METRIC_REQUEST_COUNT,
	METRIC_REQUEST_DURATION,
	METRIC_REQUEST_SIZE,
	METRIC_RESPONSE_SIZE,
	METRIC_GRPC_REQUEST_MESSAGES,
	METRIC_GRPC_RESPONSE_MESSAGES,
	METRIC_TCP_OPENED,
	METRIC_TCP_CLOSED,
	METRIC_TCP_SENT,
	METRIC_TCP_RECEIVED,
	REQUEST_METRIC_COUNT
};

enum { REPORTER_CLIENT, REPORTER_SERVER, REPORTER_COUNT };

struct tag_override {
	char *tag;
	bool remove;
	char *value; /* an expression: "request.headers['x-tenant']", "request.method", or a quoted literal */
};

struct metric_override {
	bool disabled;
	struct tag_override *tags;
	size_t tag_count;
};

struct custom_tag {
	char *name;
	enum { TAG_LITERAL, TAG_HEADER, TAG_FORMATTER } kind; /* environment: resolved by the agent, a literal */
	char *value;					      /* literal, header's name, or text with %operators% */
	char *default_value;
};

/* Begins the path of a log that goes to a collector; behind it stands the provider's name. */
#define ACCESS_LOG_COLLECTOR "otlp:"

struct access_log {
	char *provider;
	char *path; /* "/dev/stdout", a file, or a collector's */
	bool json;
	char *format; /* text; or for JSON the object as text, whose strings hold %operators%. NULL: Istio's default */
	char *filter; /* an expression such as "response.code >= 400"; NULL: all */
};

struct tracing {
	char *provider; /* NULL: off */
	uint32_t sampling_ppm;
	bool client, server;
	bool no_istio_tags;  /* without istio.namespace and the like */
	bool no_propagation; /* the trace's headers are left as they come */
	struct custom_tag *tags;
	size_t tag_count;
};

struct telemetry {
	unsigned int refs;
	uint64_t id;
	bool metrics; /* a Prometheus provider is in force */
	/* The server's side was asked for by name: requests to the workload are looked at even where no rule needs it. */
	bool server;
	struct metric_override overrides[REPORTER_COUNT][REQUEST_METRIC_COUNT];
	struct access_log *logs[REPORTER_COUNT];
	size_t log_count[REPORTER_COUNT];
	struct tracing tracing[REPORTER_COUNT];
};

struct telemetry *telemetry_new(void); /* metrics on, nothing else */
struct telemetry *telemetry_ref(struct telemetry *t);
void telemetry_unref(struct telemetry *t);
void telemetry_seal(struct telemetry *t); /* fills id */
