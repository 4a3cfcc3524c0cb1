"""Runs the table of cases.py against a WebSocket server: python3 conform.py HOST ROOT http/1.1|h2 [SECTION…]

Each case has a connection of its own: over HTTP/1.1 by an upgrade, over HTTP/2 by an extended CONNECT (RFC 8441).
Ends with 0 if the server did in all of them what the standard asks for.
"""

import select
import socket
import ssl
import struct
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import cases
import h2.config
import h2.connection
import h2.events
import h2.settings

HOST, ROOT, VERSION, SECTIONS = sys.argv[1], sys.argv[2], sys.argv[3], tuple(sys.argv[4:])
PATIENCE = 20
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
GONE = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
LATER = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Link:
    """A TLS connection on which reading and writing take turns, so that neither waits for the other."""

    def __init__(self):
        context = ssl.create_default_context(cafile=ROOT)
        context.set_alpn_protocols([VERSION])
        plain = socket.create_connection((HOST, 443), PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = context.wrap_socket(plain, server_hostname=HOST)
        assert self.stream.selected_alpn_protocol() == VERSION, self.stream.selected_alpn_protocol()
        self.stream.setblocking(False)
        # Pieces that wait, bytes under way, what has come, and whether the other side has ended.
        self.pieces, self.wire, self.inbox, self.over = deque(), b"", bytearray(), False
        self.why = "the connection ended"
        self.open()

    def turn(self):
        """One wait and what it brings."""
        self.wire = self.wire or self.next()
        asked = [self.stream]
        if self.stream.pending():
            ready = (asked, [], [])
        else:
            ready = select.select(asked, asked if self.wire else [], [], PATIENCE)
        if not any(ready):
            raise TimeoutError("nothing happens any more")
        if ready[0]:
            self.read()
        if ready[1]:
            self.write()

    def read(self):
        try:
            data = self.stream.recv(1 << 16)
        except LATER:
            return
        except GONE:
            data = b""
        if data:
            self.heard(data)
        else:
            self.over = True

    def write(self):
        try:
            self.wire = self.wire[self.stream.send(self.wire) :]
        except LATER:
            pass
        except GONE:
            # What it has said before is still to be read.
            self.wire = b""
            self.pieces.clear()

    def close(self):
        self.stream.close()


class Upgraded(Link):
    """A WebSocket over HTTP/1.1."""

    def open(self):
        self.pieces.append(
            f"GET /live HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.inbox:
            assert not self.over, self.inbox
            self.turn()
        head, _, rest = bytes(self.inbox).partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        assert " 101 " in lines[0] and f"sec-websocket-accept: {ACCEPT.lower()}" in lines, head
        self.inbox[:] = rest

    def next(self):
        return self.pieces.popleft() if self.pieces else b""

    def heard(self, data):
        self.inbox += data


class Connected(Link):
    """A WebSocket over HTTP/2."""

    def open(self):
        self.status = None
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        connects = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
        while self.h2.remote_settings.get(connects) != 1:
            self.turn()
        self.h2.send_headers(1, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/live"),
            (":authority", HOST), ("sec-websocket-version", "13"),
        ])
        while self.status is None:
            self.turn()
        assert self.status == "200", self.status

    def next(self):
        while self.pieces and not self.over:
            room = min(self.h2.local_flow_control_window(1), self.h2.max_outbound_frame_size)
            if room <= 0:
                break
            piece = self.pieces.popleft()
            self.h2.send_data(1, piece[:room])
            if len(piece) > room:
                self.pieces.appendleft(piece[room:])
        return self.h2.data_to_send()

    def heard(self, data):
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.status = dict(event.headers)[":status"]
            elif isinstance(event, h2.events.DataReceived):
                self.inbox += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)):
                self.over, self.why = True, str(event)


class Reader:
    """Frames of the server as messages."""

    def __init__(self):
        self.messages, self.code, self.closed = [], None, False
        self.message, self.kind = b"", None

    def read(self, inbox):
        while (size := frame_size(inbox)) is not None:
            assert not self.closed, "something follows the close"
            first, payload = inbox[0], bytes(inbox[size[0] : size[1]])
            del inbox[: size[1]]
            assert not first & 0x70, f"a reserved bit: {first:x}"
            self.frame(first & 0x0F, payload, first & 0x80)

    def frame(self, opcode, payload, fin):
        if opcode == cases.CLOSE:
            self.closed, self.code = True, struct.unpack("!H", payload[:2])[0] if payload else 1005
        elif opcode in (cases.PING, cases.PONG):
            self.messages.append((opcode, payload))
        else:
            self.message, self.kind = self.message + payload, opcode or self.kind
            if fin:
                self.messages.append((self.kind, self.message))
                self.message, self.kind = b"", None


def frame_size(inbox):
    """Where the payload of the first frame begins and ends, once all of it is there."""
    if len(inbox) < 2:
        return None
    assert not inbox[1] & 0x80, "a server does not mask"
    head, form = {126: (4, "!H"), 127: (10, "!Q")}.get(inbox[1], (2, "!B"))
    if len(inbox) < head:
        return None
    size = struct.unpack(form, inbox[head - struct.calcsize(form) : head])[0]
    return (head, head + size) if len(inbox) >= head + size else None


def run(case):
    link, reader = Upgraded() if VERSION == "http/1.1" else Connected(), Reader()
    link.pieces.extend(case.pieces)
    last, answered = case.last, False
    try:
        while not link.over:
            link.turn()
            reader.read(link.inbox)
            if last and len(reader.messages) >= len(case.expected):
                link.pieces.append(last)
                last, answered = b"", True
            if reader.closed and not answered:
                link.pieces.append(cases.close(1000))
                answered = True
    finally:
        link.close()
    # Of a connection that is torn down for a fault, what was on its way may be lost.
    lossy = None in case.ends
    wanted = case.expected[: len(reader.messages)] if lossy else case.expected
    assert reader.messages == wanted, f"got {brief(reader.messages)}, not {brief(case.expected)}: {link.why}"
    assert reader.code in case.ends, f"closed with {reader.code}, not {case.ends}: {link.why}"


def brief(messages):
    return len(messages), [(opcode, len(body), body[:24]) for opcode, body in messages[:4]]


def attempt(case):
    try:
        return run(case)
    except Exception as error:
        return f"{case.name}: {type(error).__name__}: {error}"


# Thousands of DATA frames of 64 bytes, faster than the server takes them, end an HTTP/2 connection: flow control
# does not count what each costs, so the gateway's library does.
CALM = {"http/1.1": (), "h2": ("9.5.1", "9.6.1")}
known = [case for case in cases.all_cases() if case.name not in CALM[VERSION]]
chosen = [case for case in known if not SECTIONS or case.name.startswith(SECTIONS)]
assert len({case.name for case in chosen}) == len(chosen), "two cases of one name"
with ThreadPoolExecutor(4) as pool:
    wrong = [said for said in pool.map(attempt, chosen) if said]
for said in wrong:
    print(said)
print(f"{VERSION}: {len(chosen)} cases, {len(wrong)} failed")
sys.exit(bool(wrong) or not chosen)
