# SPDX-License-Identifier: Apache-2.0
"""HTTP servers and clients in pods, and the topology of the HTTP scenarios.

    node-a: frontend, catalog-1 (v1)     node-b: catalog-2 (v2), payments, stranger (not in the mesh)

Services in namespace shop: catalog (10.60.0.20, fd60::20; http 80 to 8080), payments (10.60.0.30, fd60::30; http 80 to
8080), plain (10.60.0.50: port 80 without a name, so sniffed only when a rule names it)."""
import json
import os
import signal

from .mesh import namespace, service, workload
from .shell import PATIENCE_S
from .town import Town, pods
from .traffic import PYTHON, last_line

HERE = os.path.dirname(os.path.abspath(__file__))


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def name(self):
        """The server that answered; None when the mesh did."""
        return self.header("x-server")

    def header(self, name):
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None

    def seen(self, name):
        """A header as the server received it; None: absent."""
        values = [value for key, value in self.json["headers"] if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:300]!r}>"


def serve(place, port=8080, name=None):
    process = place.spawn(PYTHON, os.path.join(HERE, "webserver.py"), port, "--name", name or place.name,
                          name=f"web-{place.name}")
    return process.wait_output("listening")


def parse(text):
    """What curl -i wrote; subprocess has made line ends of CR LF."""
    head, _, body = text.partition("\n\n")
    while head.split(" ", 2)[1].startswith("1"):
        head, _, body = body.partition("\n\n")
    lines = head.split("\n")
    headers = [(key.lower(), value.strip()) for key, _, value in (line.partition(":") for line in lines[1:])]
    return Answer(int(lines[0].split(" ", 2)[1]), headers, body)


def get(place, url, *words, headers=None, host=None, method=None, data=None, timeout=PATIENCE_S):
    """By curl, from a pod; an Answer, whose status is 0 when there was none (body: curl's exit status)."""
    command = ["curl", "-s", "-i", "--path-as-is", "--max-time", timeout, *words]
    for key, value in (headers or {}).items():
        command += ["-H", f"{key}: {value}"]
    if host:
        command += ["-H", f"Host: {host}"]
    if method == "HEAD":
        command.append("-I")
    elif method:
        command += ["-X", method]
    if data is not None:
        command += ["--data-binary", data]
    done = place.run(*command, url, check=False, timeout=timeout + 5)
    if done.returncode != 0 and not done.stdout:
        return Answer(0, [], str(done.returncode))
    return parse(done.stdout)


def load(place, address, port=80, **options):
    """Many requests (webload.py): {"status": {...}, "server": {...}, "failed": n}."""
    words = [PYTHON, os.path.join(HERE, "webload.py"), address, port]
    for name, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            words += [f"--{name}", item]
    return json.loads(place.run(*words).stdout.splitlines()[-1])


def load_begin(place, address, port=80, **options):
    words = [PYTHON, os.path.join(HERE, "webload.py"), address, port]
    for name, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            words += [f"--{name}", item]
    return place.spawn(*words, name=f"load-{place.name}").wait_output("begins")


def load_end(process):
    """What it saw; ends it, if it goes on."""
    process.signal(signal.SIGTERM)
    return last_line(process)


def base_config(net, ns="shop"):
    made = net.pods
    text = namespace(ns) + namespace("outside", enrolled=False)
    text += workload(made["frontend"], ns, "frontend")
    text += workload(made["catalog-1"], ns, "catalog")
    text += workload(made["catalog-2"], ns, "catalog", version="v2")
    text += workload(made["payments"], ns, "payments")
    text += service("catalog", ns, [("http", 80, 8080, "TCP")], ["10.60.0.20", "fd60::20"])
    text += service("payments", ns, [("http", 80, 8080, "TCP")], ["10.60.0.30", "fd60::30"])
    text += service("plain", ns, [("web", 80, 8080, "TCP")], ["10.60.0.50", "fd60::50"], app="payments")
    return text


def build(net, mesh_yaml="trustDomain: cluster.local\n", more=""):
    pods(net)
    for name in ("frontend", "catalog-1", "catalog-2", "payments", "stranger"):
        serve(net.pods[name])
    made = Town(net)
    made.mesh.write("10-mesh.yaml", mesh_yaml)
    made.mesh.write("00-workloads.yaml", base_config(net) + more)
    made.mesh.start()
    return made
