# SPDX-License-Identifier: Apache-2.0
"""Clients in pods that ask again and again on one connection, and bytes as they are.

    Kept(place, "10.60.0.30").ask("/x") -> status; 0: the connection failed, and the next question makes a new one
    raw(place, "10.60.0.30", 80, b"...") -> Raw: what came back until the peer closed, or was silent for so long"""
import json
import subprocess

from .traffic import PYTHON

CLIENT = """
import http.client, json, sys
c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=90)
for line in sys.stdin:
    q = json.loads(line)
    try:
        c.request(q["method"], q["path"], headers=q["headers"])
        r = c.getresponse()
        r.read()
        print(r.status, c.sock is not None, flush=True)
    except (OSError, http.client.HTTPException):
        c.close()
        print(0, False, flush=True)
"""
# HTTP/2 by prior knowledge: a stream for each question.
CLIENT2 = """
import json, socket, sys
import h2.config, h2.connection, h2.events
conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 15)
conn.initiate_connection()
sock.sendall(conn.data_to_send())
def ask(q):
    n = conn.get_next_available_stream_id()
    head = [(":method", q["method"]), (":scheme", "http"), (":authority", "h2.example"), (":path", q["path"])]
    conn.send_headers(n, head + [(k.lower(), v) for k, v in q["headers"].items()], end_stream=True)
    sock.sendall(conn.data_to_send())
    status = 0
    while True:
        data = sock.recv(65536)
        if not data: return 0
        for event in conn.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived): status = int(dict(event.headers)[":status"])
            if isinstance(event, h2.events.DataReceived): conn.acknowledge_received_data(len(event.data), n)
            if isinstance(event, h2.events.StreamReset): return 0
            if isinstance(event, h2.events.StreamEnded):
                sock.sendall(conn.data_to_send())
                return status
        sock.sendall(conn.data_to_send())
for line in sys.stdin:
    print(ask(json.loads(line)), True, flush=True)
"""
RAW = """
import json, socket, sys
address, port, quiet, end = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "end"
s = socket.create_connection((address, port), 15)
data, closed = b"", False
try:
    s.sendall(sys.stdin.buffer.read())
    if end: s.shutdown(socket.SHUT_WR)
    s.settimeout(quiet)
    while True:
        piece = s.recv(65536)
        if not piece:
            closed = True
            break
        data += piece
except TimeoutError: pass
except OSError: closed = True
print(json.dumps({"data": data.decode("latin-1"), "closed": closed}))
"""


class Kept:
    def __init__(self, place, address, port=80, http2=False):
        words = (PYTHON, "-uc", CLIENT2 if http2 else CLIENT, address, str(port))
        self.process = subprocess.Popen(place.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.kept = False  # after an answer: the connection may be used again

    def ask(self, path="/", method="GET", **headers):
        self.process.stdin.write(json.dumps({"path": path, "method": method, "headers": headers}) + "\n")
        self.process.stdin.flush()
        status, kept = self.process.stdout.readline().split()
        self.kept = kept == "True"
        return int(status)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Raw:
    def __init__(self, data, closed):
        self.data, self.closed = data, closed

    @property
    def statuses(self):
        """Of the answers, in order; bodies that look like status lines are the caller's to avoid."""
        return [int(part[:3]) for part in self.data.replace("HTTP/1.0 ", "HTTP/1.1 ").split("HTTP/1.1 ")[1:]
                if part[:3].isdigit()]

    def __repr__(self):
        return f"<{'closed' if self.closed else 'open'} {self.data!r}>"


def raw(place, address, port, data, quiet=15, end=False):
    """quiet: seconds without a byte after which it is enough. end: ours ends after the bytes."""
    done = subprocess.run(place.command(PYTHON, "-c", RAW, address, str(port), str(quiet), "end" if end else "open"),
                          input=data, stdout=subprocess.PIPE, timeout=180, check=True)
    return Raw(**json.loads(done.stdout))
