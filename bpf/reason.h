/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every reason for which Weft refuses a connection or datagram: one list for BPF programs, agent, helper,
 * metrics and meshctl. Values are ABI (pinned counters): append only, never reorder.
 * X(SYMBOL, "name in metrics and JSON", "sentence for people: what happened and what to look at") */
#pragma once

#define DROP_REASONS(X)                                                                                                \
	X(NONE, "none", "Not refused.")                                                                                \
	X(POLICY_DENY, "policy_deny", "A DENY AuthorizationPolicy rule matched.")                                      \
	X(POLICY_NO_ALLOW, "policy_no_allow", "ALLOW policies select the workload and no rule of theirs matched.")     \
	X(MTLS_REQUIRED, "mtls_required", "PeerAuthentication is STRICT and the caller is not authenticated.")         \
	X(NOT_IN_REGISTRY, "not_in_registry",                                                                          \
	  "outboundTrafficPolicy is REGISTRY_ONLY and no Service, ServiceEntry or workload has this destination.")     \
	X(NO_ENDPOINT, "no_endpoint", "The service has no endpoint that may be used.")                                 \
	X(NOT_READY, "not_ready", "The workload's listeners, certificate or policy are not in place yet.")             \
	X(UNKNOWN_SOURCE, "unknown_source", "The caller's network namespace or control group is not known.")           \
	X(UNKNOWN_DESTINATION, "unknown_destination", "The address is not one of the enrolled workload's.")            \
	X(RESERVED_PORT, "reserved_port", "The port belongs to the mesh and may not be called from outside.")          \
	X(MAP_FULL, "map_full", "A kernel table is full; raise its size in mesh.yaml (weft.maps).")                    \
	X(MAP_MISSING, "map_missing", "A kernel table is missing; the agent's pins are damaged: restart weftd.")       \
	X(CONNECTION_LIMIT, "connection_limit", "connectionPool.tcp.maxConnections or the pod's limit is reached.")    \
	X(NO_CERTIFICATE, "no_certificate", "No valid certificate for the workload's identity.")                       \
	X(TLS_HANDSHAKE, "tls_handshake", "The TLS handshake failed (protocol, cipher, truncated or not TLS).")        \
	X(TLS_UNTRUSTED, "tls_untrusted", "The peer's certificate does not chain to a trusted root, or is expired.")   \
	X(TLS_IDENTITY, "tls_identity", "The peer's SPIFFE identity is missing, not unique or not the expected one.")  \
	X(TLS_REVOKED, "tls_revoked", "The peer's certificate is revoked.")                                            \
	X(HBONE_PROTOCOL, "hbone_protocol", "The peer broke HTTP/2 or sent a request that is not a valid CONNECT.")    \
	X(HBONE_FLOOD, "hbone_flood", "The peer exceeded a frame or reset rate limit.")                                \
	X(HBONE_AUTHORITY, "hbone_authority", "The CONNECT authority is not an address of this workload.")             \
	X(HBONE_REFUSED, "hbone_refused", "The peer's side refused the CONNECT (its policy, or it is overloaded).")    \
	X(UPSTREAM_CONNECT, "upstream_connect", "The connection to the destination failed or timed out.")              \
	X(UPSTREAM_EJECTED, "upstream_ejected", "Outlier detection holds the endpoint ejected.")                       \
	X(NO_SOCKET, "no_socket", "No outbound socket in the pod's network namespace could be had in time.")           \
	X(NO_MEMORY, "no_memory", "Out of memory or over the connection's buffer budget.")                             \
	X(DRAINING, "draining", "The helper is shutting down and takes no new connection.")                            \
	X(DNS_MALFORMED, "dns_malformed", "A DNS message could not be parsed.")                                        \
	X(INTERNAL, "internal", "An internal error; the log has details.")                                             \
	X(JWT_INVALID, "jwt_invalid", "A RequestAuthentication applies and the request's token is not valid.")         \
	X(EXT_AUTHZ_DENIED, "ext_authz_denied", "The external authorizer of a CUSTOM rule denied it, or failed.")      \
	X(RATE_LIMITED, "rate_limited", "A rate limit of the workload, or of its rate limit service, is reached.")     \
	X(RATE_LIMIT_ERROR, "rate_limit_error", "The rate limit service gave no answer and failure_mode_deny is set.") \
	X(LUA_REFUSED, "lua_refused", "A Lua script does not compile, or went beyond its instructions or memory.")     \
	X(HTTP_RULES, "http_rules",                                                                                    \
	  "HTTP rules came to the port of an open connection, which is made anew through the helper.")

enum drop_reason {
#define DROP_REASON_VALUE(symbol, name, help) DROP_##symbol,
	DROP_REASONS(DROP_REASON_VALUE)
#undef DROP_REASON_VALUE
		DROP_REASON_COUNT
};
