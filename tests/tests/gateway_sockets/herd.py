"""Many connections of one machine: python3 herd.py live|idle HOST ADDRESS ROOT COUNT SOURCE...

Opens COUNT of them, dealt out over the source addresses, and says so: WebSockets (live), or connections that have
had an answer and wait (idle). Then each SIGUSR1 is a round: every one says something and hears it again, or asks
again; how many did is a line of standard output.
"""

import signal
import socket
import ssl
import sys

kind, host, address, root, count, sources = *sys.argv[1:5], int(sys.argv[5]), sys.argv[6:]
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
context = ssl.create_default_context(cafile=root)
MASK = b"\x01\x02\x03\x04"


def read(stream, length):
    got = b""
    while len(got) < length:
        more = stream.recv(length - len(got))
        if not more:
            raise OSError("ended")
        got += more
    return got


def connect(number):
    plain = socket.create_connection((address, 443), 30, (sources[number % len(sources)], 0))
    return context.wrap_socket(plain, server_hostname=host)


def ask(stream):
    """A request, and all of its answer."""
    stream.sendall(b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += read(stream, 1)
    lines = dict(line.lower().split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
    read(stream, int(lines[b"content-length"]))
    return b" 200 " in head.split(b"\r\n")[0] and lines.get(b"connection") != b"close"


def open_idle(number):
    stream = connect(number)
    stream.settimeout(15)
    if not ask(stream):
        raise OSError(f"{number}: no answer that keeps the connection")
    return stream


def ask_all(streams):
    heard = 0
    for stream in streams:
        try:
            heard += ask(stream)
        except OSError:
            pass
    return heard


def open_live(number):
    stream = connect(number)
    stream.sendall(
        b"GET /live HTTP/1.1\r\nHost: " + host.encode() + b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = b""
    while b"\r\n\r\n" not in head:
        more = stream.recv(4096)
        if not more:
            raise OSError(f"{number}: ended after {head!r}")
        head += more
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise OSError(f"{number}: {head!r}")
    stream.settimeout(15)
    return stream


def round_trip(streams):
    heard = 0
    asked = []
    for number, stream in enumerate(streams):
        text = f"hello {number}".encode()
        hidden = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(text))
        try:
            stream.sendall(bytes([0x81, 0x80 | len(text)]) + MASK + hidden)
            asked.append((stream, text))
        except OSError:
            pass
    for stream, text in asked:
        try:
            heard += read(stream, 2 + len(text))[2:] == text
        except OSError:
            pass
    return heard


open_one, again = {"live": (open_live, round_trip), "idle": (open_idle, ask_all)}[kind]
streams = [open_one(number) for number in range(count)]
print(f"open {len(streams)}", flush=True)
rounds = 0
while True:
    signal.sigwait({signal.SIGUSR1})
    rounds += 1
    print(f"round {rounds}: {again(streams)} of {count}", flush=True)
