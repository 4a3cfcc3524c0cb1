"""The service that faces outside: takes files from people and passes them on to the press.

It keeps nothing. Python's own HTTP library on both sides.
"""

import http.client
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PRESS = sys.argv[1]


class Desk(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        press = http.client.HTTPConnection(PRESS, 8081, timeout=60)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length else None
        press.request(self.command, self.path, body=body)
        answer = press.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = pass_on


class Server(ThreadingHTTPServer):
    daemon_threads = True


Server(("0.0.0.0", 8080), Desk).serve_forever()
