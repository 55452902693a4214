# SPDX-License-Identifier: Apache-2.0
"""What HTTP through Weft is compared with. One hop: nginx, HAProxy and Envoy of one thread in the client's pod. Two nodes:
a pair of Envoys with HTTP routes, retries and mutual TLS, as sidecars are configured."""
import json
import os
import shutil

from e2e.lib.shell import wait_for

from . import certs, envoy, envoyconf, unixhttp
from .candidate import Candidate, Missing
from .envoyconf import UNLIMITED, any_of, bootstrap, tls_context
from .httpload import GRPC_PORT, H1_PORT, H2_PORT

PORTS = {H1_PORT: 15081, H2_PORT: 15082, GRPC_PORT: 15083}
SIDECAR_PORT = 15006
NGINX = """daemon off; master_process off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log crit;
events {{ worker_connections 20000; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
	client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
	uwsgi_temp_path {directory}; scgi_temp_path {directory};
	upstream app {{ server {server}:{port}; keepalive 256; keepalive_requests 1000000000; }}
	server {{ listen {listen} backlog=4096;
		location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""
HAPROXY = """global
	nbthread 1
	maxconn 4000
defaults
	mode http
	timeout connect 5s
	timeout client 1h
	timeout server 1h
	retries 2
	http-reuse always
frontend f
	bind :{listen}
	default_backend b
backend b
	server s {server}:{port} pool-max-conn 1024
"""


def bracket(address):
    return f"[{address}]" if ":" in address else address


class Hop(Candidate):
    """A proxy in the client's pod, called by its own address."""

    def __init__(self, bench):
        super().__init__(bench)
        self.directory = os.path.join(bench.net.directory, self.name)
        os.makedirs(self.directory, exist_ok=True)
        self.process = None

    def target(self, server, port):
        return ("127.0.0.1" if self.bench.family == 4 else "::1"), PORTS[port]

    def deactivate(self):
        if self.process:
            self.process.stop(5.0)
        self.process = None

    def pids(self):
        return [self.process.pid] if self.process else []

    def up(self, port=PORTS[H1_PORT]):
        wait_for(f"{self.name} to answer", lambda: self.bench.client.run(
            "curl", "-sf", "-o", "/dev/null", f"http://127.0.0.1:{port}/", check=False).returncode == 0)

    def config(self, template):
        path = os.path.join(self.directory, "config")
        with open(path, "w", encoding="utf-8") as file:
            file.write(template.format(directory=self.directory, listen=PORTS[H1_PORT], port=H1_PORT,
                                       server=bracket(self.bench.address("hbone"))))
        return path


class Nginx(Hop):
    name = "nginx"

    def activate(self):
        self.process = self.bench.client.spawn("nginx", "-c", self.config(NGINX), "-e",
                                               os.path.join(self.directory, "start.log"), name="bench-nginx")
        self.up()


class Haproxy(Hop):
    name = "haproxy"

    def __init__(self, bench):
        super().__init__(bench)
        if not shutil.which("haproxy"):
            raise Missing("HAProxy: not installed")

    def activate(self):
        self.process = self.bench.client.spawn("haproxy", "-db", "-f", self.config(HAPROXY), name="bench-haproxy")
        self.up()


# --- Envoy

RETRIES = {"retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "num_retries": 2,
           "retriable_status_codes": [503],
           "retry_host_predicate": [{"name": "previous_hosts", "typed_config": any_of(
               "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")}]}


def rbac(action, methods, path, principal=None):
    """As Istio writes an AuthorizationPolicy with one rule."""
    matches = [{"or_rules": {"rules": [{"header": {"name": ":method", "string_match": {"exact": name}}} for name in methods]}},
               {"or_rules": {"rules": [{"url_path": {"path": {"prefix": path}}}]}}]
    who = {"authenticated": {"principal_name": {"exact": principal}}} if principal else {"any": True}
    policy = {"permissions": [{"and_rules": {"rules": [rule for rule in matches if rule["or_rules"]["rules"]]}}],
              "principals": [{"and_ids": {"ids": [{"or_ids": {"ids": [who]}}]}}]}
    return {"name": f"rbac-{action}", "typed_config": any_of(
        "extensions.filters.http.rbac.v3.RBAC", rules={"action": action, "policies": {"bench": policy}})}


def http_listener(name, port, cluster, tls=None, codec="AUTO", filters=()):
    router = {"name": "router", "typed_config": any_of("extensions.filters.http.router.v3.Router")}
    manager = any_of(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix=name, codec_type=codec,
        stream_idle_timeout="0s", http_filters=[*filters, router], generate_request_id=True,
        http2_protocol_options={"max_concurrent_streams": 1000},
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
            "match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s", "retry_policy": RETRIES}}]}]})
    return envoyconf.listener(name, port, [{"name": "hcm", "typed_config": manager}], tls=tls)


def http_cluster(name, address, port, h2=False, tls=None):
    made = {"name": name, "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": UNLIMITED,
            "lb_policy": "LEAST_REQUEST", "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}]}]}}
    if h2:
        made["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any_of(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http2_protocol_options": {"max_concurrent_streams": 100}})}
    if tls:
        made["transport_socket"] = {"name": "tls", "typed_config": any_of(
            "extensions.transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=tls)}
    return made


class EnvoyProcess:
    def __init__(self, binary, place, directory, name, listeners, clusters, concurrency, base_id):
        admin = os.path.join(directory, f"{name}.sock")
        path = os.path.join(directory, f"{name}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(bootstrap(name, admin, listeners, clusters), file)
        self.process = place.spawn(binary, "-c", path, "--concurrency", concurrency, "--disable-hot-restart",
                                   "--base-id", base_id, "--log-level", "error", name=f"envoy-{name}")

        def ready():
            if not self.process.alive():
                raise Missing(f"Envoy ended: {self.process.output()[-1000:]}")
            return unixhttp.get(admin, "/ready").startswith("LIVE")
        wait_for(f"Envoy {name}", ready)


class EnvoyHop(Hop):
    name = "envoy"

    def __init__(self, bench):
        super().__init__(bench)
        self.binary = envoy.find()

    def activate(self):
        address = self.bench.address("hbone")
        listeners = [http_listener("h1", PORTS[H1_PORT], "h1"), http_listener("h2", PORTS[H2_PORT], "h2", codec="HTTP2"),
                     http_listener("grpc", PORTS[GRPC_PORT], "grpc", codec="HTTP2")]
        clusters = [http_cluster("h1", address, H1_PORT), http_cluster("h2", address, H2_PORT, h2=True),
                    http_cluster("grpc", address, GRPC_PORT, h2=True)]
        self.process = EnvoyProcess(self.binary, self.bench.client, self.directory, "hop", listeners, clusters, 1,
                                    7).process
        self.up()


class EnvoySidecars(Candidate):
    """Client's pod: routes and retries, then TLS to the server's pod, whose Envoy calls the application."""
    name = "envoy"
    filters = ()  # before the server's router

    def __init__(self, bench):
        super().__init__(bench)
        self.binary = envoy.find()
        self.directory = os.path.join(bench.net.directory, f"envoy-{type(self).__name__}")
        os.makedirs(self.directory, exist_ok=True)
        authority = certs.Authority(self.directory)
        client, server = (f"spiffe://cluster.local/ns/bench/sa/{name}" for name in ("client", "server"))
        self.server_tls = tls_context(authority.root, authority.issue("server", server), client)
        self.client_tls = tls_context(authority.root, authority.issue("client", client), server)
        self.running = []

    def target(self, server, port):
        return ("127.0.0.1" if self.bench.family == 4 else "::1"), PORTS[port]

    def activate(self):
        """As Istio's sidecars: a client's HTTP/1.1 stays that between the two, ALPN says so."""
        place, address = self.bench.server("hbone"), self.bench.address("hbone")
        local = "127.0.0.1" if self.bench.family == 4 else "::1"
        inner, outer, apps, peers = [], [], [], []
        for number, (port, alpn) in enumerate(((H1_PORT, "http/1.1"), (H2_PORT, "h2"))):
            h2, codec = alpn == "h2", "HTTP2" if alpn == "h2" else "HTTP1"
            inner.append(http_listener(f"in{port}", SIDECAR_PORT + number, f"app{port}", codec=codec,
                                       filters=self.filters, tls={**self.server_tls, "alpn_protocols": [alpn]}))
            apps.append(http_cluster(f"app{port}", local, port, h2=h2))
            outer.append(http_listener(f"out{port}", PORTS[port], f"peer{port}", codec=codec))
            peers.append(http_cluster(f"peer{port}", address, SIDECAR_PORT + number, h2=h2,
                                      tls={**self.client_tls, "alpn_protocols": [alpn]}))
        self.running = [EnvoyProcess(self.binary, place, self.directory, "server", inner, apps, 2, 8),
                        EnvoyProcess(self.binary, self.bench.client, self.directory, "client", outer, peers, 2, 9)]

    def deactivate(self):
        for one in self.running:
            one.process.stop(5.0)
        self.running = []

    def pids(self):
        return [one.process.pid for one in self.running]

    def proxies(self):
        return {"server": self.running[0].process.pid, "client": self.running[1].process.pid}


class EnvoyRules(EnvoySidecars):
    """The server's Envoy judges each request; the same as WeftRules."""
    filters = (rbac("DENY", [], "/admin"), rbac("ALLOW", ["GET", "POST"], "/", "spiffe://cluster.local/ns/bench/sa/client"))
