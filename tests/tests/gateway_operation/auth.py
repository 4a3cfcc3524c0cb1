"""A service that decides who may come in: python3 auth.py PORT

Whoever has the cookie of a session may, and is told about by name; others are sent to where one logs in.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Auth(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = self.path == "/verify" and self.headers.get("Cookie") == "session=good"
        self.send_response(204 if known else 302)
        if known:
            self.send_header("X-Auth-Request-User", "ann")
        else:
            self.send_header("Location", "https://login.example/?back=" + self.headers["X-Forwarded-Uri"])
            self.send_header("Content-Length", "0")
        self.end_headers()


ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Auth).serve_forever()
