# SPDX-License-Identifier: Apache-2.0
"""Agents on the nodes of a Net, and what meshctl and curl say of them."""
import json
import os
import signal

from .shell import BUILD, PATIENCE_S, Ended, Failed, run, wait_for

METRICS_PORT = 15020


class Agent:
    """One weftd on one node."""

    def __init__(self, net, node, config, ca, options=()):
        self.net, self.node, self.config = net, node, str(config)
        self.instance = f"{net.prefix}-{node.name}"
        self.run_dir = os.path.join(net.directory, node.name, "run")
        self.state_dir = os.path.join(net.directory, node.name, "state")
        for directory in (self.run_dir, self.state_dir):
            os.makedirs(directory, exist_ok=True)
        self.ca, self.options, self.process = str(ca), tuple(options), None
        net.closers.append(self.cleanup)

    @property
    def socket(self):
        return os.path.join(self.run_dir, "weft.sock")

    def start(self, wait=True, env=None):
        self.process = self.node.spawn(
            os.path.join(BUILD, "weftd"), "run", "--config", self.config, "--node", self.node.name,
            "--instance", self.instance, "--run-dir", self.run_dir, "--state-dir", self.state_dir,
            "--ca-dir", self.ca, "--metrics-listen", f"0.0.0.0:{METRICS_PORT}",
            "--helper", os.path.join(BUILD, "weft-helper"), *self.options, env=env,
            name=f"weftd-{self.node.name}")
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            if not self.process.alive():
                raise Ended(f"weftd on {self.node.name} ended:\n{self.process.output()[-4000:]}")
            return self.api("/readyz", raw=True) is not None
        try:
            wait_for(f"weftd on {self.node.name} to be ready", ready)
        except Failed as error:
            raise Failed(f"{error}\n{self.process.output()[-4000:]}") from error

    def kill(self, number=signal.SIGKILL):
        """The agent alone (not its helper, which lives in its process group)."""
        self.process.signal(number)
        self.process.popen.wait(PATIENCE_S)

    def api(self, path, raw=False, method="GET"):
        """The admin API; None for an answer other than 2xx, Failed without one."""
        done = run("curl", "-sSf", "-X", method, "--max-time", PATIENCE_S, "--unix-socket", self.socket,
                   f"http://weft{path}", check=False)
        if done.returncode == 22:
            return None
        if done.returncode != 0:
            raise Failed(f"{path} of weftd on {self.node.name}: {done.stderr.strip()}")
        return done.stdout if raw else json.loads(done.stdout)

    def flows(self, last=500, **wanted):
        """Recent flows, flat: source_identity, destination_workload, ...; only those with these values."""
        rows = []
        for line in (self.api(f"/v1/flows?last={last}", raw=True) or "").splitlines():
            row = json.loads(line)
            for side in ("source", "destination"):
                row.update({f"{side}_{key}": value for key, value in row.pop(side).items()})
            if all(row.get(key) == value for key, value in wanted.items()):
                rows.append(row)
        return rows

    def meshctl(self, *words, check=True):
        return run(os.path.join(BUILD, "meshctl"), "--socket", self.socket, *words, check=check)

    def metrics(self):
        """{'name{labels}': value} as a scraper sees it."""
        text = self.node.run("curl", "-sSf", "--max-time", PATIENCE_S, f"http://127.0.0.1:{METRICS_PORT}/metrics").stdout
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {key: float(value) for key, value in rows}

    def metric(self, name, **labels):
        """The sum over the series of `name` that carry these labels."""
        total = 0.0
        for key, value in self.metrics().items():
            series, _, rest = key.partition("{")
            if series == name and all(f'{label}="{text}"' in rest for label, text in labels.items()):
                total += value
        return total

    def helper_pid(self):
        status = self.api("/v1/status") or {}
        return status.get("helper", {}).get("pid")

    def cleanup(self):
        helper = None
        try:
            helper = self.helper_pid() if self.process and self.process.alive() else None
        except Failed as error:
            print(f"cleanup: {error}")
        if self.process:
            self.process.stop(5.0)
        run(os.path.join(BUILD, "weftd"), "cleanup", "--instance", self.instance, "--run-dir", self.run_dir,
            check=False)
        if helper:
            try:
                os.kill(helper, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Mesh:
    """A configuration directory and the agents that share it."""

    def __init__(self, net, options=()):
        self.net, self.options = net, options
        self.config = os.path.join(net.directory, "config")
        self.ca = os.path.join(net.directory, "ca")
        os.makedirs(self.config, exist_ok=True)
        self.agents = {}

    def write(self, name, text):
        """Puts a file in place at once, as editors and config management do."""
        path = os.path.join(self.config, name)
        with open(path + ".new~", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".new~", path)

    def remove(self, name):
        os.unlink(os.path.join(self.config, name))

    def copy(self, directory, names, replace=()):
        for name in names:
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                text = file.read()
            for old, new in replace:
                text = text.replace(old, new)
            self.write(name, text)

    def start(self, wait=True):
        for node in self.net.nodes.values():
            self.agents[node.name] = Agent(self.net, node, self.config, self.ca, self.options).start(wait=False)
        if wait:
            for agent in self.agents.values():
                agent.wait_ready()
        return self

    def revision(self, node):
        return self.agents[node].api("/v1/status")["config"]["revision"]

    def settle(self):
        """Waits until every agent has taken what is in the directory now, and the workers of its helper what that changed: they
        answer in the order in which they are told and asked."""
        for agent in self.agents.values():
            wait_for("configuration to settle", lambda a=agent: a.api("/v1/status")["config"]["settled"])
        for agent in self.agents.values():
            wait_for("the helper to have it", lambda a=agent: a.api("/v1/proxy-config/pools") is not None)


def namespace(name, enrolled=True):
    labels = "{ istio.io/dataplane-mode: ambient }" if enrolled else "{}"
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name}, labels: {labels} }}\n---\n"


def workload(pod, ns, app, account=None, version="v1", extra=""):
    """The WorkloadEntry of a pod; a second address goes into Weft's annotation, as Istio's entries have one."""
    address, more = (pod.ip4, pod.ip6) if pod.ip4 else (pod.ip6, None)
    addresses = f', weft.dev/addresses: "{more}"' if more else ""
    return (f"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
            f"metadata:\n  name: {pod.name}\n  namespace: {ns}\n"
            f"  annotations: {{ weft.dev/netns: {pod.netns}, weft.dev/node: {pod.node.name}{addresses} }}\n"
            f"spec: {{ address: \"{address}\", labels: {{ app: {app}, version: {version} }}, "
            f"serviceAccount: {account or app}{extra} }}\n---\n")


def service(name, ns, ports, ips, app=None, extra=""):
    """ports: [(name, port, targetPort, protocol)]."""
    rows = "".join(f"  - {{ name: {n}, port: {p}, targetPort: {t}, protocol: {proto} }}\n" for n, p, t, proto in ports)
    addresses = ", ".join(f'"{ip}"' for ip in ips)
    return (f"apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: {ns} }}\n"
            f"spec:\n  clusterIPs: [{addresses}]\n  selector: {{ app: {app or name} }}\n{extra}  ports:\n{rows}---\n")
