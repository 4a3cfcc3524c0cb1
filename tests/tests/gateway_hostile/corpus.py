"""Requests that are not what they seem, each once: python3 corpus.py HOST PATHS ADDRESS ROOT

HOST takes every path, PATHS only /app. A line for each case that ends otherwise than it must; then how many there were.
What must not come about carries the word `smuggled` to the server.
"""

import socket
import ssl
import sys

from frames import DATA, GOAWAY, PREFACE, RST_STREAM, SETTINGS, frame, headers, split

host, paths, address, root = sys.argv[1:5]
cases, wrong = 0, 0


def plain(port=443):
    return socket.create_connection((address, port), 10)


def tls(name, protocol="http/1.1"):
    context = ssl.create_default_context(cafile=root)
    context.set_alpn_protocols([protocol])
    return context.wrap_socket(plain(), server_hostname=name)


def all_of(stream):
    """What comes until the gateway ends it, or says nothing for a while."""
    got = b""
    stream.settimeout(2)
    try:
        while more := stream.recv(65536):
            got += more
        return got, True
    except socket.timeout:
        return got, False
    except OSError:
        return got, True


def case(what, wanted, got):
    global cases, wrong
    cases += 1
    if got not in (wanted if isinstance(wanted, set) else {wanted}):
        wrong += 1
        print(f"{what}: {got}, not {wanted}")


def first(got):
    """The first answer's status."""
    return got[9:12].decode() if got.startswith(b"HTTP/1.1 ") else "nothing"


def ask(name, raw):
    with tls(name) as stream:
        try:
            stream.sendall(raw)
        except OSError:
            # It has heard enough, and its answer is on the way.
            pass
        return all_of(stream)


HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
LINE = b"POST / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n"
CHUNKED = b"0\r\n\r\n" + HIDDEN

for what, lines, body in [
    ("two lengths, of which one is chunked", b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", CHUNKED),
    ("the same the other way round", b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", CHUNKED),
    ("two lengths", b"Content-Length: 0\r\nContent-Length: 37\r\n", HIDDEN),
    ("a length with a sign", b"Content-Length: +0\r\n", HIDDEN),
    ("a list of lengths", b"Content-Length: 0, 37\r\n", HIDDEN),
    ("a hexadecimal length", b"Content-Length: 0x0\r\n", HIDDEN),
    ("chunked twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKED),
    ("an encoding that is not the last", b"Transfer-Encoding: chunked, identity\r\n", CHUNKED),
    ("an unknown encoding", b"Transfer-Encoding: xchunked\r\n", CHUNKED),
    ("a space before the colon", b"Transfer-Encoding : chunked\r\n", CHUNKED),
    ("a tab before the name", b"X: y\r\n\tTransfer-Encoding: chunked\r\n", CHUNKED),
    ("a vertical tab in the value", b"Transfer-Encoding: \x0bchunked\r\n", CHUNKED),
    ("a bare carriage return", b"X: y\rTransfer-Encoding: chunked\r\n", CHUNKED),
    ("a bare line feed", b"X: y\nX-Smuggled: 1\r\n", b""),
    ("NUL", b"X: y\0z\r\n", b""),
    ("no colon", b"nothing\r\n", b""),
    ("an empty name", b": x\r\n", b""),
    ("two hosts", b"Host: x\r\n", b""),
]:
    got, closed = ask(host, LINE + lines + b"\r\n" + body)
    case(what, ("400", True, 1), (first(got), closed, got.count(b"HTTP/1.1 ")))

for what, wanted, raw in [
    ("no host", "400", b"GET / HTTP/1.1\r\n\r\n"),
    ("another host than in the hello", "421", b"GET / HTTP/1.1\r\nHost: " + paths.encode() + b"\r\n\r\n"),
    ("a host nobody has", "421", b"GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n"),
    ("two authorities", "400", b"GET https://x/smuggled HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n"),
    ("a tunnel", "405", b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n"),
    ("a long header", "431", LINE + b"X: " + b"y" * 65536 + b"\r\n\r\n"),
    ("many headers", "431", LINE + b"X: y\r\n" * 500 + b"\r\n"),
    ("a long path", "431", b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n"),
]:
    case(what, wanted, first(ask(host, raw)[0]))

for path, wanted in [
    ("/app", "200"),
    ("/app/x", "200"),
    ("/smuggled", "404"),
    ("/app/../smuggled", "400"),
    ("/app/%2e%2e/smuggled", "400"),
    ("/app/.%2e/smuggled", "400"),
    ("/app%2f..%2fsmuggled", "400"),
    ("/app/..%5csmuggled", "400"),
    ("/app/..;/smuggled", "400"),
    ("//smuggled", {"400", "404"}),
    ("/./smuggled", "400"),
    ("/app\\..\\smuggled", "400"),
    ("/app/%00", "400"),
]:
    raw = f"GET {path} HTTP/1.1\r\nHost: {paths}\r\nConnection: close\r\n\r\n".encode()
    case(f"the path {path}", wanted, first(ask(paths, raw)[0]))

# HTTP/2, whose fields may hold what HTTP/1 has no way to say.
GET = [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]


def ask2(fields, body=None, trailers=None):
    """What becomes of one request: its status, or how it is refused."""
    with tls(host, "h2") as stream:
        out = PREFACE + SETTINGS + headers(1, fields, end=body is None)
        if body is not None:
            out += frame(DATA, 0 if trailers else 1, 1, body)
        if trailers:
            out += headers(1, trailers, end=True)
        # The last word, so that what is answered at all is answered when this is.
        stream.sendall(out + frame(6, 0, 0, b"01234567"))
        stream.settimeout(5)
        got = b""
        while True:
            try:
                more = stream.recv(65536)
            except OSError:
                return "nothing"
            got += more
            for kind, _, number, payload in split(got):
                if kind == GOAWAY or (kind == RST_STREAM and number == 1):
                    return "refused"
                if kind == 1 and number == 1:
                    return status(payload)
            if not more:
                return "closed"


def status(block):
    """Of a header block; the static table has the usual ones (RFC 7541, appendix A)."""
    static = {8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500"}
    while block and block[0] & 0xE0 == 0x20:
        block = block[1:]
    if block[0] & 0x80:
        return static[block[0] & 0x7F]
    size = block[1] & 0x7F
    value = block[2 : 2 + size]
    if not block[1] & 0x80:
        return value.decode()
    # Huffman code of digits: "0", "1", "2" have five bits, the others six.
    bits, out = "".join(f"{byte:08b}" for byte in value), ""
    while len(bits) >= 5 and len(out) < 3:
        short = int(bits[:5], 2)
        size = 5 if short < 3 else 6
        out += str(short if size == 5 else int(bits[:6], 2) - 0x19 + 3)
        bits = bits[size:]
    return out


INJECTED = "a\r\nX-Smuggled: 1"
for what, wanted, fields in [
    ("as it should be", "200", GET),
    ("a line's end in a value", "refused", [*GET, ("x", INJECTED)]),
    ("a request in a value", "refused", [*GET, ("x", b"a\r\n\r\n" + HIDDEN)]),
    ("NUL in a value", "refused", [*GET, ("x", "a\0b")]),
    ("a line's end in a name", "refused", [*GET, ("x: y\r\nx-smuggled", "1")]),
    ("a colon in a name", "refused", [*GET, ("x-smuggled: 1\r\ny", "1")]),
    ("a large letter in a name", "refused", [*GET, ("X-Smuggled", "1")]),
    ("an empty name", "refused", [*GET, ("", "1")]),
    ("a line's end in the path", "refused", [*GET[:3], (":path", "/ HTTP/1.1\r\nX-Smuggled: 1\r\n")]),
    ("a space in the path", "refused", [*GET[:3], (":path", "/smuggled HTTP/1.1")]),
    ("a line's end in the method", "refused", [(":method", "GET /smuggled HTTP/1.1\r\nX: "), *GET[1:]]),
    ("a line's end in the authority", "refused", [*GET[:2], (":authority", host + "\r\nX-Smuggled: 1"), GET[3]]),
    ("chunked", "refused", [*POST, ("transfer-encoding", "chunked")]),
    ("a header of the connection", "refused", [*GET, ("connection", "x-smuggled")]),
    ("an upgrade", "refused", [*GET, ("upgrade", "h2c"), ("http2-settings", "")]),
    ("two paths", "refused", [*GET, (":path", "/smuggled")]),
    ("a pseudo-header that is none", "refused", [*GET, (":smuggled", "1")]),
    ("a pseudo-header after the others", "refused", [*GET[:3], ("x", "y"), GET[3]]),
    ("no path", "refused", GET[:3]),
    ("another authority than in the hello", "421", [*GET[:2], (":authority", paths), GET[3]]),
    ("a host that is not the authority", "400", [*GET, ("host", paths)]),
    ("two lengths", "refused", [*POST, ("content-length", "0"), ("content-length", "37")]),
    ("long headers", "431", [*GET, *[("x", "y" * 8000)] * 8]),
]:
    case(f"HTTP/2: {what}", wanted, ask2(fields))

for what, length in [("more than its length", "0"), ("less than its length", "1000")]:
    case(f"HTTP/2: {what}", {"refused", "400"}, ask2([*POST, ("content-length", length)], HIDDEN))
# Trailers that would be another request lose what makes them one: HTTP/1 has no word for it.
trailers = [(":path", "/smuggled")]
case("HTTP/2: a path in the trailers", {"200", "refused"}, ask2([*POST, ("x", "y")], b"x", trailers))

# Who says whom he speaks for, and is no proxy; and what is no TLS.
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + socket.inet_aton("10.20.0.1") + socket.inet_aton(address) + b"\x10\0\1\xbb"
V1 = f"PROXY TCP4 10.20.0.1 {address} 4096 443\r\n".encode()
ASK = b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n"
# A record of 16 KiB, and in it a hello that says it has 64 KiB.
LONG = b"\x16\x03\x01\x40\0\x01\0\xff\xff\x03\x03" + bytes(16384 - 6)
for what, wanted, port, raw in [
    ("a PROXY header of nobody's proxy", "nothing", 443, V2),
    ("the same as text", "nothing", 443, V1),
    ("the same before a request", "400", 80, V1 + ASK),
    ("the same in bytes", "400", 80, V2 + ASK),
    ("no TLS", "400", 443, ASK),
    ("a hello of 64 KiB", "alert", 443, LONG),
    ("a record of the old SSL", "nothing", 443, b"\x80\x2e\x01\0\2\0\x15\0\0\0\x10"),
]:
    with plain(port) as stream:
        stream.sendall(raw)
        got, closed = all_of(stream)
        how = "alert" if got[:1] == b"\x15" else first(got)
        case(what, (wanted, True), (how, closed))

try:
    tls("nobody.gw.test")
    case("a name nobody has", "refused", "taken")
except ssl.SSLError as error:
    case("a name nobody has", "TLSV1_UNRECOGNIZED_NAME", error.reason)
print(f"{cases} cases, {wrong} wrong", flush=True)
