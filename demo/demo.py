#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Weft's main job on real traffic: two nodes, three pods each, real servers; prints what became of each connection.

usage: demo.py [--keep]        as root; `make demo` calls it with everything installed and built
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "e2e"))

from lib import traffic  # noqa: E402
from lib.mesh import Mesh  # noqa: E402
from lib.net import Net  # noqa: E402
from lib.shell import BUILD, Failed, run, wait_for  # noqa: E402

COLOR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
PODS = (("frontend", "node-a", 10), ("catalog-1", "node-a", 20), ("names", "node-a", 53),
        ("catalog-2", "node-b", 20), ("payments", "node-b", 30), ("stranger", "node-b", 90))
NGINX = """daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  server {{ listen 8080; listen [::]:8080; location / {{ return 200 "{name} sees $remote_addr"; }} }} }}
"""


PATHS = {"attested": "direct, attested", "hbone": "mutual TLS", "direct": "direct", "plaintext": "plaintext"}
ERRORS = {"ECONNREFUSED": "connection refused", "ECONNRESET": "connection reset", "EPERM": "not permitted"}
CURL_ERRORS = {7: "connection refused", 28: "timeout", 56: "connection reset"}


def paint(code, text):
    return f"\033[{code}m{text}\033[0m" if COLOR else text


def say(text):
    print(text, flush=True)


def title(text):
    say("\n" + paint("1", text))


class Demo:
    def __init__(self, net):
        self.net = net
        self.mesh = Mesh(net)
        self.rows = []

    # --- building

    def nodes_and_pods(self):
        for name in ("node-a", "node-b"):
            self.net.node(name)
        for name, node, host in PODS:
            self.net.pod(name, node, host)

    def nginx(self, pod):
        directory = os.path.join(self.net.directory, f"nginx-{pod.name}")
        os.makedirs(directory)
        config = os.path.join(directory, "nginx.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(NGINX.format(dir=directory, name=pod.name))
        pod.spawn("/usr/sbin/nginx", "-c", config, "-p", directory)
        wait_for(f"nginx in {pod.name}", lambda: pod.run("curl", "-sf", "http://127.0.0.1:8080/", check=False).stdout)

    def servers(self):
        pods = self.net.pods
        for name in ("catalog-1", "catalog-2"):
            self.nginx(pods[name])
        for name in ("catalog-1", "payments"):
            pods[name].spawn("iperf3", "-s")
        traffic.serve(pods["payments"], 7000)
        traffic.serve(pods["stranger"], 8080)
        pods["names"].spawn("/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
                            "--no-hosts", "--port=5300", "--address=/answers.example/192.0.2.7", "--user=root",
                            "--pid-file=")
        wait_for("iperf3", lambda: all(":5201" in pods[n].run("ss", "-Htln").stdout for n in ("catalog-1", "payments")))

    def configure(self):
        names = [(f"@{pod.name}@", pod.netns) for pod in self.net.pods.values()]
        directory = os.path.join(HERE, "config")
        self.mesh.copy(directory, sorted(os.listdir(directory)), names)

    # --- traffic

    def iperf(self, address, seconds=2):
        out = self.net.pods["frontend"].run("iperf3", "-c", address, "-t", seconds, "-J", timeout=60).stdout
        return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e9

    def flows(self, before, **wanted):
        """The flows since `before` that the agents have seen like this."""
        return [row for node, agent in self.mesh.agents.items() for row in agent.flows(100, **wanted)
                if row["sequence"] > before[node]]

    def flow(self, before, **wanted):
        """One of them. Of a refusal that the other node decided, the caller's node only knows that it was refused."""
        try:
            return wait_for("a flow", lambda: next(
                (row for row in self.flows(before, **wanted) if row.get("reason") != "hbone_refused"), None), 2.0)
        except Failed:
            return next(iter(self.flows(before, **wanted)), {})

    def newest(self):
        return {node: max([row["sequence"] for row in agent.flows(1)] or [0])
                for node, agent in self.mesh.agents.items()}

    def step(self, who, what, happened, expect_ok=True, **wanted):
        """One line of the table; `happened` makes the traffic and returns (worked, what was seen)."""
        before = self.newest()
        worked, seen = happened()
        row = self.flow(before, **wanted)
        if worked:
            cells = (paint("32", "ok"), PATHS.get(row.get("path"), "-"), self.identity(row))
        else:
            cells = (paint("31", "refused"), "-", self.why(row))
        self.rows.append((who, what, *cells, seen))
        if worked != expect_ok:
            raise Failed(f"{who} -> {what}: {'worked' if worked else 'did not work'} against expectation: {seen}")
        return row

    @staticmethod
    def identity(row):
        if row.get("protocol") == "udp":
            return "nobody: datagrams are not authenticated"
        if not row.get("source_identity"):
            return "a process of the node itself"
        return row["source_identity"].replace("spiffe://cluster.local/", "")

    def why(self, row):
        """The reason, with the name of what the user wrote that it comes from."""
        reason, inbound = row.get("reason", "not known"), {}
        for agent in self.mesh.agents.values() if row else ():
            said = agent.api(f"/v1/explain?source={row['source_address']}&destination="
                             f"{row['destination_address']}:{row['destination_port']}")
            inbound = inbound or (said or {}).get("inbound") or {}
        mtls = inbound.get("mtls_origin", "").split(" ")[0]
        text = {"policy_no_allow": f"no rule of {inbound.get('allow_policies')} allows it",
                "mtls_required": f"{mtls} is STRICT",
                "not_in_registry": "REGISTRY_ONLY: nobody registered it"}.get(reason)
        return f"{text} ({reason})" if text else ", ".join(filter(None, (reason, row.get("rule"))))

    @staticmethod
    def curl(place, url):
        def go():
            done = place.run("curl", "-s", "-g", "--fail-with-body", "--max-time", "5", url, check=False)
            error = CURL_ERRORS.get(done.returncode, f"curl exit {done.returncode}")
            return done.returncode == 0, done.stdout.strip() or error
        return go

    def peer(self, place, address, port, **options):
        def go():
            seen = traffic.call(place, address, port, **options)
            shown = f"{seen['answer']['name']} sees {seen['answer']['peer']}" if seen["ok"] else ERRORS.get(seen["error"], seen["error"])
            return seen["ok"], shown
        return go

    def connections(self):
        pods, nodes, frontend = self.net.pods, self.net.nodes, self.net.pods["frontend"]
        opened, refused = {"event": "opened"}, {"event": "refused"}
        self.step("frontend", "catalog-v1 (same node)", self.curl(frontend, "http://10.60.0.21/"), path="attested",
                  **opened)
        self.step("frontend", "catalog-v1, IPv6", self.curl(frontend, "http://[fd60::21]/"), path="attested", **opened)
        self.step("frontend", "payments (other node)", self.peer(frontend, "10.60.0.30", 7000), path="hbone", **opened)
        self.step("frontend", "payments, IPv6", self.peer(frontend, "fd60::30", 7000), path="hbone", **opened)
        self.step("frontend", "payments, as Java and Go call", self.peer(frontend, "10.60.0.30", 7000, family="mapped"),
                  path="hbone", **opened)
        self.step("frontend", "names, UDP (same node)", self.dig(), protocol="udp")
        self.step("node-a itself", "catalog-1 (a probe)", self.curl(nodes["node-a"], "http://10.50.1.20:8080/"),
                  path="attested", **opened)
        self.step("node-b itself", "payments (a probe)", self.peer(nodes["node-b"], "10.50.2.30", 7000), False, **refused)
        self.step("catalog-1", "payments", self.peer(pods["catalog-1"], "10.60.0.30", 7000), False, **refused)
        self.step("stranger", "payments", self.peer(pods["stranger"], "10.50.2.30", 7000), False, **refused)
        self.step("stranger", "catalog-2", self.curl(pods["stranger"], "http://10.50.2.20:8080/"), False, **refused)
        self.step("frontend", "stranger", self.peer(frontend, "10.50.2.90", 8080), False, **refused)

    # --- HTTP

    def ask(self, path, *words, family="10.60.0.25"):
        """(status, what was said) of one request of frontend's to the service `web`."""
        done = self.net.pods["frontend"].run("curl", "-s", "-g", "--path-as-is", "--max-time", "5", "-w",
                                             "\n%{http_code} %{redirect_url}", *words, f"http://{family}{path}", check=False)
        body, _, last = done.stdout.rpartition("\n")
        status, _, location = last.partition(" ")
        return status, location or body.strip()

    def requests(self):
        """One line a request: what was asked, what came back, and what the mesh says of it."""
        canary = ("-H", "x-canary: true")
        asked = (("GET /", (), "10.60.0.25", "200", "90 % to v1, 10 % to v2"),
                 ("GET / with x-canary: true", canary, "10.60.0.25", "200", "route testers: version 2, on the other node"),
                 ("GET / over IPv6, canary", canary, "[fd60::25]", "200", "the same"),
                 ("GET /old/page", (), "10.60.0.25", "308", "route old-links: a redirect"),
                 ("GET /flaky", (), "10.60.0.25", "503", "route broken: the fault that it injects"),
                 ("GET /admin", (), "10.60.0.25", "403", "denied by shop/no-admin at the server's side"),
                 ("GET /x/%2e%2e/%61dmin", (), "10.60.0.25", "403", "the same path, written otherwise"))
        say(paint("1", f"{'asked':<32}{'status':<8}{'answer':<40}why"))
        for what, words, address, expected, why in asked:
            status, seen = self.ask(what.split(" ")[1], *words, family=address)
            color = "32" if status[:1] == "2" else "31" if status[:1] in "45" else "0"
            say(f"{what:<32}{paint(color, status):<{8 + (len(paint(color, status)) - 3)}}{seen[:38]:<40}{why}")
            if status != expected:
                raise Failed(f"{what}: {status} {seen} instead of {expected}")

    def split(self, count=200):
        """How often each version answered."""
        seen = [self.ask("/")[1].split(" ")[0] for _ in range(count)]
        return {name: seen.count(name) for name in sorted(set(seen))}

    def counted(self):
        agent = self.mesh.agents["node-a"]
        return {code: int(agent.metric("istio_requests_total", reporter="source", response_code=code,
                                       destination_service_name="web")) for code in ("200", "403", "503")}

    def dig(self):
        def go():
            done = self.net.pods["frontend"].run("dig", "@10.60.0.53", "-p", "5300", "+short", "+tries=1", "+time=2",
                                                 "answers.example", check=False)
            return bool(done.stdout.strip()), f"answer: {done.stdout.strip()}" if done.stdout.strip() else "no answer"
        return go

    def table(self):
        heads = ("from", "to", "result", "path", "caller's identity, or why it was refused", "what the server or the caller saw")
        plain = [tuple(c.replace("\033[32m", "").replace("\033[31m", "").replace("\033[0m", "") for c in row)
                 for row in self.rows]
        widths = [max(len(row[i]) for row in plain + [heads]) for i in range(5)]
        say(paint("1", "  ".join(h.ljust(w) for h, w in zip(heads, widths)) + "  " + heads[5]))
        for row, bare in zip(self.rows, plain):
            cells = [row[i] + " " * (widths[i] - len(bare[i])) for i in range(5)]
            say("  ".join(cells) + "  " + row[5])

    def names_resolve(self):
        """A name of the mesh, asked of a resolver that does not exist: the helper answers."""
        done = self.net.pods["frontend"].run("dig", "@192.0.2.1", "+short", "+tries=1", "+time=2", "catalog.shop.svc",
                                             check=False)
        return done.stdout.split()

    def survive(self):
        agent = self.mesh.agents["node-a"]
        direct = traffic.hold(self.net.pods["frontend"], "10.60.0.30", 7000, 4)
        begin = time.monotonic()
        agent.kill()
        agent.start()
        took = time.monotonic() - begin
        fresh = traffic.call(self.net.pods["frontend"], "10.60.0.30", 7000)["ok"]
        return took, fresh, traffic.held(direct)


def kept(demo):
    agents = demo.mesh.agents
    socket = agents["node-a"].socket
    state = os.path.join(demo.net.directory, "stop")
    say(f"""
It is left running (KEEP=1). Try:
  export WEFT_SOCKET={socket} PATH={BUILD}:$PATH
  meshctl status
  meshctl explain shop/frontend payments.shop:7000
  meshctl explain shop/catalog-1 payments.shop:7000
  meshctl explain shop/frontend http://web.shop/ -H 'x-canary: true'
  meshctl tap & meshctl top
  meshctl flows --last 20
  meshctl cert list
  nsenter --net=/run/netns/{demo.net.pods['frontend'].netns} curl http://10.60.0.20/
  edit {demo.mesh.config}/20-security.yaml and watch: meshctl flows --follow
The other node: export WEFT_SOCKET={agents['node-b'].socket}
Remove it all with Ctrl-C here, or: touch {state}""")
    while not os.path.exists(state):
        time.sleep(0.5)


def interrupted(number, _frame):
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    say("\nInterrupted: removing what the demo made.")
    sys.exit(128 + number)


def main():
    keep = "--keep" in sys.argv[1:] or os.environ.get("KEEP") == "1"
    if os.geteuid() != 0:
        sys.exit("demo: needs root, for network namespaces and BPF")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    directory = tempfile.mkdtemp(prefix="weft-demo-")
    try:
        with Net(directory) as net:
            play(Demo(net), keep)
    except (Failed, subprocess.SubprocessError) as error:
        sys.exit(f"demo: {error}")
    finally:
        run("rm", "-rf", directory)
        say("\nEverything the demo made has been removed.")


def play(demo, keep):
    begin = time.monotonic()
    title("Two nodes, three pods each")
    say("node-a: frontend, catalog-1, names    node-b: catalog-2, payments, stranger (not in the mesh)")
    demo.nodes_and_pods()
    demo.servers()
    say("nginx, iperf3, dnsmasq and an echo server run in the pods. Throughput without a mesh:")
    bare = demo.iperf("10.50.1.20"), demo.iperf("10.50.2.30")
    say(f"  same node {bare[0]:.1f} Gbit/s, other node {bare[1]:.1f} Gbit/s")

    title("One agent a node, from the YAML in demo/config")
    say("It says: callers must be authenticated (STRICT), only registered destinations may be called (REGISTRY_ONLY),\n"
        "and payments takes only frontend's calls (AuthorizationPolicy shop/payments-callers).")
    demo.configure()
    started = time.monotonic()
    demo.mesh.start()
    say(f"Both agents ready after {(time.monotonic() - started) * 1000:.0f} ms; no pod was restarted or changed")

    title("What became of each connection")
    demo.connections()
    demo.table()
    say("attested: straight from pod to pod, the kernel vouches for the caller. mutual TLS: between the nodes' helpers,\n"
        "as HBONE. The client and the server see each other's own addresses.")
    say(f"\nNames: `dig catalog.shop.svc` in frontend, whatever its resolver: {' '.join(demo.names_resolve())}")

    title("Requests of frontend to the service web, which speaks HTTP (demo/config/30-http.yaml)")
    demo.requests()
    say(f"200 more GET /: {', '.join(f'{name} {count}' for name, count in demo.split().items())}")
    say(f"istio_requests_total of node-a, by response code: {demo.counted()}")

    title("Throughput beside the run without a mesh (2 s each; make bench measures properly)")
    meshed = demo.iperf("10.60.0.21"), demo.iperf("10.60.0.30")
    for what, before, after in (("same node, attested by the kernel", bare[0], meshed[0]),
                                ("other node, mutual TLS", bare[1], meshed[1])):
        say(f"  {what:<36} {before:6.1f} -> {after:6.1f} Gbit/s  ({after / before:.2f} of no mesh)")

    title("The agent of node-a is killed (SIGKILL) and started again while frontend talks to payments")
    took, fresh, lasted = demo.survive()
    say(f"  back in {took * 1000:.0f} ms; the connection {'lived on' if lasted else 'BROKE'}; "
        f"a new one {'works' if fresh else 'FAILED'}")
    if not (fresh and lasted):
        raise Failed("the restart was not clean")

    title("meshctl explain shop/catalog-1 payments.shop:7000")
    say(demo.mesh.agents["node-a"].meshctl("explain", "shop/catalog-1", "payments.shop:7000", check=False).stdout)
    title("meshctl status (node-b)")
    say(demo.mesh.agents["node-b"].meshctl("status", check=False).stdout)
    say(f"The demo took {time.monotonic() - begin:.0f} s.")
    if keep:
        kept(demo)


if __name__ == "__main__":
    main()
