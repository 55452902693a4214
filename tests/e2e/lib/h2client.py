#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Requests over one HTTP/2 connection (prior knowledge), all at once; prints JSON: a list of {status, headers, trailers,
body (its length), text, when}, and the seconds of all.

    h2client.py ADDRESS PATH [--streams N] [--size BYTES] [--trailer K:V] [--priority] [--slow] [--websocket BYTES
                [--half client|server]]   who ends its half of the WebSocket first; the other then says the rest"""
import argparse
import json
import socket
import time

import h2.config
import h2.connection
import h2.events
import h2.settings

parser = argparse.ArgumentParser()
parser.add_argument("address")
parser.add_argument("path")
parser.add_argument("--streams", type=int, default=1)
parser.add_argument("--size", type=int, default=0)
parser.add_argument("--trailer")
parser.add_argument("--priority", action="store_true")
parser.add_argument("--slow", action="store_true", help="takes nothing for a second")
parser.add_argument("--websocket", type=int, default=0)
parser.add_argument("--half", choices=["client", "server"])
options = parser.parse_args()
conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
sock = socket.create_connection((options.address, 80), 60)
conn.initiate_connection()
if options.websocket:
    conn.update_settings({h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
sock.sendall(conn.data_to_send())
began = time.monotonic()
streams, left = {}, {}
method = "CONNECT" if options.websocket else "POST" if options.size or options.trailer else "GET"
settled = False


def begin(i):
    stream = conn.get_next_available_stream_id()
    head = [(":method", method), (":scheme", "http"), (":path", options.path), (":authority", "h2.example"), ("x-n", str(i))]
    if options.websocket:
        head.insert(1, (":protocol", "websocket"))
        head += [("sec-websocket-version", "13")]
    if options.trailer:
        head.append(("te", "trailers"))
    body = options.websocket or options.size
    conn.send_headers(stream, head, end_stream=not body and not options.trailer)
    if options.priority:
        conn.prioritize(stream, weight=1 + i % 256, depends_on=0)
    streams[stream] = {"status": 0, "headers": [], "trailers": [], "body": 0, "text": "", "done": False}
    if body or options.trailer:
        left[stream] = body


def send():
    for stream in list(left):
        if options.websocket and not streams[stream]["status"]:
            continue
        if options.half == "server" and "ended" not in streams[stream]:
            continue
        while left[stream]:
            size = min(left[stream], conn.local_flow_control_window(stream), conn.max_outbound_frame_size)
            if size <= 0:
                break
            conn.send_data(stream, b"x" * size)
            left[stream] -= size
        if not left[stream] and (options.half or not options.websocket):
            del left[stream]
            streams[stream]["done"] = options.half == "server"
            if options.trailer:
                conn.send_headers(stream, [tuple(options.trailer.split(":", 1))], end_stream=True)
            else:
                conn.end_stream(stream)


def take(event):
    global settled
    if isinstance(event, h2.events.RemoteSettingsChanged):
        settled = True
    if isinstance(event, h2.events.ConnectionTerminated):
        raise SystemExit(f"GOAWAY {event.error_code}")
    stream = streams.get(getattr(event, "stream_id", None))
    if stream is None:
        return
    if isinstance(event, h2.events.ResponseReceived):
        stream["headers"] = [list(pair) for pair in event.headers]
        stream["status"] = int(dict(event.headers)[":status"])
    elif isinstance(event, h2.events.TrailersReceived):
        stream["trailers"] = [list(pair) for pair in event.headers]
    elif isinstance(event, h2.events.DataReceived):
        stream["body"] += len(event.data)
        if len(stream["text"]) < 4000:
            stream["text"] += event.data.decode("latin-1")
        conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if options.websocket and not options.half and stream["body"] >= options.websocket and left.pop(event.stream_id, None) is not None:
            conn.end_stream(event.stream_id)
    elif isinstance(event, h2.events.StreamReset):
        stream["reset"] = int(event.error_code)
    if isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
        stream["ended"] = True
        stream["done"] = options.half != "server" or "reset" in stream
        stream["when"] = round(time.monotonic() - began, 3)


sock.settimeout(90)
while not settled:
    for event in conn.receive_data(sock.recv(65536)):
        take(event)
for number in range(options.streams):
    begin(number)
send()
sock.sendall(conn.data_to_send())
if options.slow:
    time.sleep(1)
while not all(stream["done"] for stream in streams.values()):
    data = sock.recv(65536)
    if not data:
        break
    for event in conn.receive_data(data):
        take(event)
    send()
    sock.sendall(conn.data_to_send())
print(json.dumps({"streams": list(streams.values()), "seconds": round(time.monotonic() - began, 3)}))
