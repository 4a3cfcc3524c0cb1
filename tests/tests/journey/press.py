"""The compute workload: compresses a file, measures it, and has it stored in PostgreSQL.

gzip compresses, sha256sum measures, psql talks to the database; this only leads them.
"""

import json
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STORE = sys.argv[1]
TABLE = "CREATE TABLE IF NOT EXISTS files (name text PRIMARY KEY, sha256 text, bytes bigint, pressed bytea);"


def tool(*argv, given=b""):
    return subprocess.run(argv, input=given, stdout=subprocess.PIPE, check=True).stdout


def database(statement):
    psql = ["psql", "-h", STORE, "-U", "postgres", "-qAt", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    return tool(*psql, given=statement.encode()).decode().strip()


class Press(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, content, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def name(self):
        found = re.fullmatch(r"/files/([a-z0-9.-]{1,64})", self.path)
        return found and found.group(1)

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        pressed = tool("gzip", "-c", given=content)
        digest = tool("sha256sum", given=content).decode().split()[0]
        database(
            f"{TABLE} INSERT INTO files VALUES ('{self.name()}', '{digest}', {len(content)}, "
            f"decode('{pressed.hex()}', 'hex'));"
        )
        said = {"sha256": digest, "bytes": len(content), "pressed_bytes": len(pressed)}
        self.answer(201, json.dumps(said).encode())

    def do_GET(self):
        found = database(f"{TABLE} SELECT encode(pressed, 'hex') FROM files WHERE name = '{self.name()}';")
        if not found:
            return self.answer(404, b"{}")
        self.answer(200, tool("gzip", "-dc", given=bytes.fromhex(found)), "application/octet-stream")


class Server(ThreadingHTTPServer):
    daemon_threads = True


Server(("0.0.0.0", 8081), Press).serve_forever()
