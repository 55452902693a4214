#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A collector of traces over HTTP: writes each body into a file of its own.

    collector.py PORT DIRECTORY"""
import http.server
import itertools
import os
import socketserver
import sys

COUNT = itertools.count()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = os.path.join(sys.argv[2], f"{next(COUNT):06}")
        with open(path + ".part", "wb") as file:
            file.write(body)
        os.rename(path + ".part", path)
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingTCPServer):
    """http.server's own asks the DNS for the host's name, which takes seconds where there is none."""
    allow_reuse_address = daemon_threads = True


server = Server(("0.0.0.0", int(sys.argv[1])), Handler)
print("listening", flush=True)
server.serve_forever()
