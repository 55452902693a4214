# SPDX-License-Identifier: Apache-2.0
"""HTTP servers (nginx) and clients (h2load) in pods."""
import os
import re
import subprocess
import sys

from e2e.lib.shell import Failed, wait_for

H1_PORT, H2_PORT, GRPC_PORT = 8080, 8081, 8082
WARMUP_S = 1
CONFIG = """daemon off; master_process off; worker_processes 1; pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
events {{ worker_connections 20000; }}
http {{
	access_log off; server_tokens off; keepalive_requests 1000000000; keepalive_timeout 1h;
	http2_max_requests 1000000000; http2_max_concurrent_streams 1000;
	client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
	uwsgi_temp_path {directory}; scgi_temp_path {directory};
	server {{ listen {h1} backlog=4096 reuseport; listen [::]:{h1} backlog=4096 reuseport;
		location / {{ default_type text/plain; return 200 "{body}"; }} }}
	server {{ listen {h2} http2 backlog=4096 reuseport; listen [::]:{h2} http2 backlog=4096 reuseport;
		location / {{ default_type text/plain; return 200 "{body}"; }} }}
	server {{ listen {grpc} http2 backlog=4096 reuseport; listen [::]:{grpc} http2 backlog=4096 reuseport;
		root {directory}; open_file_cache max=10; error_page 405 =200 /message;
		location / {{ return 405; }}
		location = /message {{ default_type application/grpc; add_trailer grpc-status 0; }} }}
}}
"""
# A gRPC message of 64 bytes, uncompressed; what nginx answers to any call, with a status in trailers.
MESSAGE = b"\0\0\0\0@" + b"m" * 64


def serve(pod, directory):
    path = os.path.join(directory, f"nginx-{pod.name}")
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "nginx.conf"), "w", encoding="utf-8") as file:
        file.write(CONFIG.format(directory=path, h1=H1_PORT, h2=H2_PORT, grpc=GRPC_PORT, body="x" * 64))
    with open(os.path.join(path, "message"), "wb") as file:
        file.write(MESSAGE)
    for opened in (directory, path):
        os.chmod(opened, 0o755)
    process = pod.spawn("nginx", "-c", os.path.join(path, "nginx.conf"), "-e", os.path.join(path, "start.log"),
                        name=f"nginx-{pod.name}")
    wait_for(f"nginx in {pod.name}", lambda: pod.run(
        "curl", "-sf", "-o", "/dev/null", f"http://127.0.0.1:{H1_PORT}/", check=False).returncode == 0)
    return process


def url(address, port, path="/"):
    return f"http://[{address}]:{port}{path}" if ":" in address else f"http://{address}:{port}{path}"


def explain(done):
    told = [line for line in done.stdout.splitlines() if re.match("finished|requests:|status codes:", line)]
    return f"h2load ended with {done.returncode}: {', '.join(told) or (done.stdout + done.stderr)[-500:]}"


def ask(pod, address, h1):
    done = pod.run("curl", "-sS", "-m", "3", "-i", "--http1.1" if h1 else "--http2-prior-knowledge", address, check=False)
    return " | ".join((done.stdout + done.stderr).split("\r\n"))[:500]


def status(pod, target, path):
    """Of one request, as text; 000: no answer."""
    return pod.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "3", url(*target, path), check=False).stdout


def load(pod, target, seconds, clients=64, streams=1, h1=True, rate=0, path="/", headers=(), data=None, log=None):
    """{"rps": answers a second, "with_warmup": how many in all}. Anything but 2xx is a failure."""
    words = ["h2load", "-t", 1, "-c", clients, "-m", streams, "-D", max(1, round(seconds)), "--warm-up-time", WARMUP_S]
    if h1:
        words.append("--h1")
    if rate:
        words += ["--rps", rate / clients]
    if log:
        words += ["--log-file", log]
    if data:
        words += ["-d", data]
    for header in headers:
        words += ["-H", header]
    done = pod.run(*words, url(*target, path), check=False, timeout=seconds + 60)
    total = re.search(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed", done.stdout)
    speed = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    if not total or not speed or not codes or int(total[3]) or any(int(codes[i]) for i in (2, 3, 4)):
        raise Failed(f"{explain(done)}; one by itself: {ask(pod, url(*target, path), h1)}")
    # Of the warm-up no count is told: it ran at the same speed.
    return {"rps": float(speed[1]), "with_warmup": int(total[2]) * (1 + WARMUP_S / max(1, round(seconds)))}


def p99_us(log):
    with open(log, encoding="ascii") as file:
        times = sorted(int(line.split()[2]) for line in file)
    return times[int(len(times) * 0.99)] if times else None


HOLD = """
import resource, socket, struct, sys, time
count, host, port = int(sys.argv[3]), sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, max(count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
def frame(kind, flags, stream, body):
    return struct.pack('>I', len(body))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + body
def text(value):
    return bytes([len(value)]) + value.encode()
head = b'\\x83\\x86' + b'\\x04' + text('/') + b'\\x01' + text('app')
hello = b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + frame(4, 0, 0, b'') + frame(1, 4, 1, head)
sockets = []
for i in range(count):
    s = socket.create_connection((host, port), 30)
    s.sendall(hello)
    sockets.append(s)
for s in sockets:
    s.settimeout(30)
    s.recv(4096)
print('held', flush=True)
sys.stdin.read()
"""


class Held:
    """HTTP/2 connections, each with a POST that has not ended."""

    def __init__(self, pod, target, count):
        self.popen = subprocess.Popen(pod.command(sys.executable, "-c", HOLD, *target, count), stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        if self.popen.stdout.readline().strip() != "held":
            raise Failed("the connections could not be held open")
        return self

    def __exit__(self, *_):
        self.popen.stdin.close()
        self.popen.wait(30)
        self.popen.stdout.close()
