/* SPDX-License-Identifier: Apache-2.0 */
/* The labels of a request_series' key, in their order: Istio's. After them come a Telemetry resource's own tags, as
 * "name=value". REQUEST_LABEL_REMOVED stands for a label that a Telemetry resource removed; an empty value is unknown. */
#pragma once

#define REQUEST_LABEL_REMOVED "\""

#define REQUEST_LABELS(X)                                                                                              \
	X(REPORTER, "reporter")                                                                                        \
	X(SOURCE_WORKLOAD, "source_workload")                                                                          \
	X(SOURCE_WORKLOAD_NAMESPACE, "source_workload_namespace")                                                      \
	X(SOURCE_PRINCIPAL, "source_principal")                                                                        \
	X(SOURCE_APP, "source_app")                                                                                    \
	X(SOURCE_VERSION, "source_version")                                                                            \
	X(SOURCE_CANONICAL_SERVICE, "source_canonical_service")                                                        \
	X(SOURCE_CANONICAL_REVISION, "source_canonical_revision")                                                      \
	X(DESTINATION_WORKLOAD, "destination_workload")                                                                \
	X(DESTINATION_WORKLOAD_NAMESPACE, "destination_workload_namespace")                                            \
	X(DESTINATION_PRINCIPAL, "destination_principal")                                                              \
	X(DESTINATION_APP, "destination_app")                                                                          \
	X(DESTINATION_VERSION, "destination_version")                                                                  \
	X(DESTINATION_CANONICAL_SERVICE, "destination_canonical_service")                                              \
	X(DESTINATION_CANONICAL_REVISION, "destination_canonical_revision")                                            \
	X(DESTINATION_SERVICE, "destination_service")                                                                  \
	X(DESTINATION_SERVICE_NAME, "destination_service_name")                                                        \
	X(DESTINATION_SERVICE_NAMESPACE, "destination_service_namespace")                                              \
	X(REQUEST_PROTOCOL, "request_protocol")                                                                        \
	X(RESPONSE_CODE, "response_code")                                                                              \
	X(GRPC_RESPONSE_STATUS, "grpc_response_status")                                                                \
	X(RESPONSE_FLAGS, "response_flags")                                                                            \
	X(CONNECTION_SECURITY_POLICY, "connection_security_policy")

enum request_label {
#define REQUEST_LABEL_ID(symbol, name) REQUEST_LABEL_##symbol,
	REQUEST_LABELS(REQUEST_LABEL_ID)
#undef REQUEST_LABEL_ID
		REQUEST_LABEL_COUNT
};

enum { REQUEST_TAGS_MAX = 32 }; /* beyond those */
