# SPDX-License-Identifier: Apache-2.0
"""Envoy bootstrap (as JSON) for the two ends of an HBONE tunnel: HTTP/2 CONNECT over mutual TLS 1.3 on port 15008."""

OUTBOUND_PORT, HBONE_PORT = 15001, 15008
TYPE = "type.googleapis.com/envoy."
# The default limits (1,024 of each) would be what is measured at 10,000 connections.
UNLIMITED = {"thresholds": [{"max_connections": 1000000, "max_pending_requests": 1000000, "max_requests": 1000000,
                             "max_retries": 1000000}]}
HTTP2 = {"max_concurrent_streams": 100, "initial_stream_window_size": 4 << 20,
         "initial_connection_window_size": 16 << 20}


def any_of(kind, **fields):
    return {"@type": TYPE + kind, **fields}


def tls_context(root, certificate, peer):
    chain, key = certificate
    return {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}],
        "validation_context": {
            "trusted_ca": {"filename": root},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}]},
    }


def bootstrap(name, admin, listeners, clusters):
    return {
        "node": {"id": name, "cluster": "bench"},
        "admin": {"address": {"pipe": {"path": admin}}},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": {
            "re2.max_program_size.error_level": 1000}}]},
    }


def listener(name, port, filters, tls=None, listener_filters=()):
    chain = {"filters": filters}
    if tls:
        chain["transport_socket"] = {"name": "tls", "typed_config": any_of(
            "extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=tls,
            require_client_certificate=True)}
    # The kernel gives both workers' sockets what it likes: few long connections would all be one worker's.
    return {"name": name, "filter_chains": [chain], "listener_filters": list(listener_filters),
            "connection_balance_config": {"exact_balance": {}},
            "address": {"socket_address": {"address": "::", "port_value": port, "ipv4_compat": True}}}


def original_dst_cluster(name, fields, extra):
    return {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s",
            "circuit_breakers": UNLIMITED, "original_dst_lb_config": fields, **extra}


def outbound(admin, tls):
    """Captured connections: the original destination becomes the authority, and on port 15008 the peer."""
    tunnel = any_of("extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="outbound", cluster="hbone",
                    tunneling_config={"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%"})
    original = {"name": "original_dst",
                "typed_config": any_of("extensions.filters.listener.original_dst.v3.OriginalDst")}
    http2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any_of(
        "extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": HTTP2})}
    secure = {"name": "tls", "typed_config": any_of("extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                                                    common_tls_context=tls)}
    cluster = original_dst_cluster("hbone", {"upstream_port_override": HBONE_PORT},
                                   {"typed_extension_protocol_options": http2, "transport_socket": secure})
    return bootstrap("outbound", admin, [listener("outbound", OUTBOUND_PORT, [
        {"name": "tcp", "typed_config": tunnel}], listener_filters=[original])], [cluster])


def inbound(admin, tls):
    """CONNECT requests: terminated, and the payload sent to the address in :authority."""
    route = {"match": {"connect_matcher": {}}, "route": {
        "cluster": "application", "timeout": "0s", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}
    router = {"name": "router", "typed_config": any_of("extensions.filters.http.router.v3.Router")}
    manager = any_of(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="hbone",
        codec_type="HTTP2", http2_protocol_options={**HTTP2, "allow_connect": True},
        stream_idle_timeout="0s", upgrade_configs=[{"upgrade_type": "CONNECT"}], http_filters=[router],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]})
    cluster = original_dst_cluster("application", {"use_http_header": True, "http_header_name": ":authority"}, {})
    return bootstrap("inbound", admin, [listener("hbone", HBONE_PORT, [
        {"name": "hcm", "typed_config": manager}], tls=tls)], [cluster])
