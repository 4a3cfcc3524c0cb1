"""A server that says what it is asked: python3 victim.py PORT

Python's own HTTP library, which has read nothing of what the gateway has. A request that nobody should have been
able to send is a line with SMUGGLED in it.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Victim(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        trailers = b""
        # As it stands in RFC 9112 §7.1; the library leaves it to its users.
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            while line := self.rfile.readline().strip():
                trailers += line
        smuggled = "smuggled" in f"{self.requestline} {list(self.headers)} {trailers}".lower()
        print("SMUGGLED" if smuggled else "asked", repr(self.requestline), dict(self.headers), flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("0.0.0.0", int(sys.argv[1])), Victim).serve_forever()
