"""A site for a browser: python3 site.py PORT PAGE RESULT

/         the page
/events   server-sent events: the next one comes only after the page has said that it heard the last, so that
          somebody in between who keeps them back is found out
/heard    where the page says so
/upload   says how many bytes it got
/said     writes what the page found to the file RESULT
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, PAGE, RESULT = int(sys.argv[1]), sys.argv[2], sys.argv[3]
EVENTS = 5
heard = [threading.Event() for _ in range(EVENTS)]


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, content, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(EVENTS):
            self.wfile.write(f"data: {number}\n\n".encode())
            self.wfile.flush()
            if not heard[number].wait(20):
                return

    def do_GET(self):
        if self.path == "/":
            with open(PAGE, "rb") as page:
                self.answer(page.read(), "text/html; charset=utf-8")
        elif self.path == "/events":
            self.events()
        else:
            self.send_error(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/said":
            with open(RESULT, "wb") as result:
                result.write(body)
        if self.path == "/heard":
            heard[int(body)].set()
        self.answer(str(len(body)).encode())


class Server(ThreadingHTTPServer):
    daemon_threads = True


Server(("0.0.0.0", PORT), Site).serve_forever()
