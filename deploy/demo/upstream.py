"""A service behind Envoy: answers each request with the headers that Portcullis set, so that one can see them.

upstream.py HOST PORT        port 0 takes a free one; the first line printed says which
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        told = [f"{name}: {value}" for name, value in self.headers.items() if name.lower().startswith("x-portcullis-")]
        body = "".join(line + "\n" for line in ["served", *sorted(told)]).encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Echo)
    print(server.server_port, flush=True)
    server.serve_forever()
