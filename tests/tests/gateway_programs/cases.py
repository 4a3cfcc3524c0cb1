"""What a WebSocket server does with frames, as a table in the order of the Autobahn test suite's sections.

Each case is a Case. A fault that the server finds ends the connection, and what was on its way may be lost.
"""

import struct
from typing import NamedTuple

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"
FINE = (1000,)
# A server that finds a fault ends the connection; it may be gone before all is written, and its word with it.
FAULT = (1002, None)
NO_TEXT = (1007, None)


class Case(NamedTuple):
    name: str
    # Bytes, each written by itself.
    pieces: list
    # What comes back: opcode and payload of whole messages.
    expected: list
    # With which code the server may close; None is an end without a word.
    ends: tuple = FINE
    # Sent once all that is expected has come.
    last: bytes = b""


def masked(payload):
    size = len(payload)
    key = (MASK * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def frame(opcode, payload=b"", fin=True, rsv=0):
    first, size = (fin << 7) | (rsv << 4) | opcode, len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0xFE, size)
    else:
        head = struct.pack("!BBQ", first, 0xFF, size)
    return head + MASK + masked(payload)


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


def chopped(pieces, size):
    whole = b"".join(pieces)
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def fragments(opcode, payload, size):
    """A message in frames of at most `size` bytes; an empty one is a frame, too."""
    starts = list(range(0, len(payload), size)) or [0]
    for number, at in enumerate(starts):
        last = number == len(starts) - 1
        yield frame(0 if number else opcode, payload[at : at + size], fin=last)


def echo(name, pieces, *messages):
    """Well-behaved: the messages come back, the close is answered."""
    return Case(name, pieces, list(messages), last=close())


def fault(name, pieces, *messages, ends=FAULT):
    return Case(name, pieces, list(messages), ends)


def variants(case):
    """The same bytes in other pieces: nobody may mind where they are cut."""
    section, _, number = case.name.rpartition(".")
    for offset, cut in enumerate((case.pieces, [b"".join(case.pieces)], chopped(case.pieces, 1))):
        yield case._replace(name=f"{section}.{int(number) + offset}", pieces=cut)


def framing():
    sizes = (0, 125, 126, 127, 128, 65535, 65536)
    for section, opcode, body in (("1.1", TEXT, b"*"), ("1.2", BINARY, b"\xfe")):
        for number, size in enumerate(sizes, 1):
            yield echo(f"{section}.{number}", [frame(opcode, body * size)], (opcode, body * size))
        large = chopped([frame(opcode, body * 65536)], 997)
        yield echo(f"{section}.8", large, (opcode, body * 65536))


def pings():
    blob = bytes((0x00, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0x00, 0xFF))
    for number, body in enumerate((b"", b"Hello, world!", blob, b"\xfe" * 125), 1):
        yield echo(f"2.{number}", [frame(PING, body)], (PONG, body))
    yield fault("2.5", [frame(PING, b"\xfe" * 126)])
    yield echo("2.6", chopped([frame(PING, b"\xfe" * 125)], 1), (PONG, b"\xfe" * 125))
    yield echo("2.7", [frame(PONG)])
    yield echo("2.8", [frame(PONG, b"unsolicited")])
    yield echo("2.9", [frame(PONG, b"unsolicited"), frame(PING, b"asked")], (PONG, b"asked"))
    ten = [f"payload-{number}".encode() for number in range(10)]
    pongs = [(PONG, body) for body in ten]
    yield echo("2.10", [frame(PING, body) for body in ten], *pongs)
    yield echo("2.11", chopped([frame(PING, body) for body in ten], 1), *pongs)


def reserved_bits():
    hello, small = frame(TEXT, b"Hello, world!"), b"small payload"
    yield fault("3.1", [frame(TEXT, small, rsv=1)])
    pieces = [hello, frame(TEXT, small, rsv=2), frame(PING)]
    yield from variants(fault("3.2", pieces, (TEXT, b"Hello, world!")))
    yield fault("3.5", [frame(BINARY, small, rsv=5)])
    yield fault("3.6", [frame(PING, small, rsv=6)])
    yield fault("3.7", [frame(CLOSE, b"", rsv=7)])


def opcodes():
    hello = frame(TEXT, b"Hello, world!")
    for section, first in (("4.1", 3), ("4.2", 11)):
        yield fault(f"{section}.1", [frame(first)])
        yield fault(f"{section}.2", [frame(first + 1, b"reserved")])
        for number in (3, 4, 5):
            body = b"" if number == 3 else b"reserved"
            pieces = [hello, frame(first + number - 1, body), frame(PING)]
            yield fault(f"{section}.{number}", pieces, (TEXT, b"Hello, world!"))


def fragmentation():
    one, two = frame(TEXT, b"fragment1", fin=False), frame(0, b"fragment2")
    whole = (TEXT, b"fragment1fragment2")
    yield fault("5.1", [frame(PING, b"fragment1", fin=False), two])
    yield fault("5.2", [frame(PONG, b"fragment1", fin=False), two])
    yield from variants(echo("5.3", [one, two], whole))
    ping = frame(PING, b"ping")
    yield from variants(echo("5.6", [one, ping, two], (PONG, b"ping"), whole))
    yield from variants(fault("5.9", [frame(0, b"alone"), frame(TEXT, b"Hello")]))
    yield from variants(fault("5.12", [frame(0, b"alone", fin=False), frame(TEXT, b"Hello")]))
    yield fault("5.15", [one, two, frame(0, b"alone", fin=False), frame(TEXT, b"Hello")], whole)
    yield fault("5.16", [frame(0, b"alone", fin=False), one, two])
    yield fault("5.17", [frame(0, b"alone"), one, two])
    yield fault("5.18", [one, frame(TEXT, b"fragment2")])
    parts = [f"fragment{number}".encode() for number in range(1, 6)]
    pieces = [frame(TEXT, parts[0], fin=False), frame(0, parts[1], fin=False), frame(PING, b"pongme 1")]
    pieces += [frame(0, parts[2], fin=False), frame(0, parts[3], fin=False), frame(PING, b"pongme 2")]
    pieces += [frame(0, parts[4])]
    said = [(PONG, b"pongme 1"), (PONG, b"pongme 2"), (TEXT, b"".join(parts))]
    yield echo("5.19", pieces, *said)
    yield echo("5.20", chopped(pieces, 1), *said)


GREEK = "κόσμε".encode()
CUT = GREEK + b"\xed\xa0\x80" + b"edited"


def texts():
    yield echo("6.1.1", [frame(TEXT)], (TEXT, b""))
    yield echo("6.1.2", list(fragments(TEXT, b"", 1)) * 2, (TEXT, b""), (TEXT, b""))
    middle = [frame(TEXT, b"", fin=False), frame(0, b"middle frame payload", fin=False), frame(0)]
    yield echo("6.1.3", middle, (TEXT, b"middle frame payload"))
    mixed = "Hello-µ@ßöäüàá-UTF-8!!".encode()
    yield echo("6.2.1", [frame(TEXT, mixed)], (TEXT, mixed))
    for number, size in ((2, 12), (3, 1)):
        yield echo(f"6.2.{number}", list(fragments(TEXT, mixed, size)), (TEXT, mixed))
    yield echo("6.2.4", list(fragments(TEXT, GREEK, 1)), (TEXT, GREEK))
    yield fault("6.3.1", [frame(TEXT, CUT)], ends=NO_TEXT)
    yield fault("6.3.2", list(fragments(TEXT, CUT, 1)), ends=NO_TEXT)
    first, last = GREEK + b"\xf4\x90", b"\x80\x80edited"
    yield fault("6.4.1", [frame(TEXT, first, fin=False), frame(0, last)], ends=NO_TEXT)
    yield fault("6.4.2", [frame(TEXT, first, fin=False), frame(0, b"\x80", fin=False)], ends=NO_TEXT)


# By section: sequences that are text, and sequences that are none (RFC 3629).
SEQUENCES = {
    "6.5": ([GREEK], [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
    "6.6": ([GREEK[:size] for size in (2, 4, 6, 8)], [GREEK[:size] for size in (1, 3, 5, 7, 9)]),
    "6.7": ([b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"], []),
    "6.8": ([], [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
    "6.9": ([b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"], []),
    "6.10": ([], [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
    "6.11": ([b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"], [b"\xf4\x90\x80\x80"]),
    "6.12": ([], [b"\x80", b"\xbf"] + [b"\x80\xbf" * size + b"\x80" * (size % 2) for size in range(1, 4)]
             + [bytes(range(0x80, 0xC0))]),
    "6.13": ([], [b"".join(bytes((byte, 0x20)) for byte in part) for part in
                  (range(0xC0, 0xE0), range(0xE0, 0xF0), range(0xF0, 0xF8), range(0xF8, 0xFC), (0xFC, 0xFD))]),
    "6.14": ([], [b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80", b"\xdf",
                  b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"]),
    "6.15": ([], [b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf"]),
    "6.16": ([], [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
    "6.17": ([], [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf",
                  b"\xfc\x80\x80\x80\x80\xaf"]),
    "6.18": ([], [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf",
                  b"\xfc\x83\xbf\xbf\xbf\xbf"]),
    "6.19": ([], [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80",
                  b"\xfc\x80\x80\x80\x80\x80"]),
    "6.20": ([], [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80",
                  b"\xed\xbe\x80", b"\xed\xbf\xbf"]),
    "6.21": ([], [first + second for first in (b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf")
                  for second in (b"\xed\xb0\x80", b"\xed\xbf\xbf")]),
    "6.22": ([chr(plane << 16 | end).encode() for plane in range(17) for end in (0xFFFE, 0xFFFF)], []),
    "6.23": ([chr(point).encode() for point in range(0xFFF9, 0xFFFE)] + [b"\xef\xbf\xbd" * 3], []),
}


def sequences():
    for section, (texts_, others) in SEQUENCES.items():
        for number, body in enumerate(texts_, 1):
            yield echo(f"{section}.{number}", [frame(TEXT, body)], (TEXT, body))
        for number, body in enumerate(others, len(texts_) + 1):
            yield fault(f"{section}.{number}", [frame(TEXT, body)], ends=NO_TEXT)


GOOD = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
BAD = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)


def closing():
    hello = frame(TEXT, b"Hello World!")
    yield echo("7.1.1", [hello], (TEXT, b"Hello World!"))
    # What follows a close is not answered.
    yield Case("7.1.2", [close(), close()], [])
    yield Case("7.1.3", [close(), frame(PING)], [])
    yield Case("7.1.4", [close(), hello], [])
    yield Case("7.1.5", [frame(TEXT, b"frag", fin=False), close(), frame(0, b"ment")], [])
    large = b"BAsd7&jh23" * 26214
    pieces = [frame(TEXT, large), frame(TEXT, b"Hello"), close(), frame(PING)]
    yield Case("7.1.6", pieces, [(TEXT, large), (TEXT, b"Hello")], (1000, None))
    # Without a code in the question there is none in the answer.
    yield Case("7.3.1", [frame(CLOSE)], [], (1005, 1000))
    yield fault("7.3.2", [frame(CLOSE, b"a")])
    yield Case("7.3.3", [close()], [])
    yield Case("7.3.4", [close(1000, b"Hello World!")], [])
    yield Case("7.3.5", [close(1000, b"*" * 123)], [])
    yield fault("7.3.6", [close(1000, b"*" * 124)])
    yield fault("7.5.1", [close(1000, CUT)], ends=(1007, 1002, None))
    for number, code in enumerate(GOOD, 1):
        yield Case(f"7.7.{number}", [close(code)], [], (code,))
    for number, code in enumerate(BAD, 1):
        yield fault(f"7.9.{number}", [close(code)])


def limits():
    for section, opcode, body in (("9.1", TEXT, b"*"), ("9.2", BINARY, b"\xfe")):
        for number, kib in enumerate((64, 256, 1024, 4096), 1):
            whole = body * (kib << 10)
            yield echo(f"{section}.{number}", [frame(opcode, whole)], (opcode, whole))
    for section, opcode, body in (("9.3", TEXT, b"*"), ("9.4", BINARY, b"\xfe")):
        whole = body * (1 << 19)
        for number, size in enumerate((256, 1024, 4096, 65536), 1):
            yield echo(f"{section}.{number}", list(fragments(opcode, whole, size)), (opcode, whole))
    for section, opcode, body in (("9.5", TEXT, b"*"), ("9.6", BINARY, b"\xfe")):
        whole = body * (1 << 19)
        for number, size in enumerate((64, 512, 2048), 1):
            yield echo(f"{section}.{number}", chopped([frame(opcode, whole)], size), (opcode, whole))
    for section, opcode, body in (("9.7", TEXT, b"*"), ("9.8", BINARY, b"\xfe")):
        for number, size in enumerate((0, 16, 256, 4096), 1):
            one = body * size
            yield echo(f"{section}.{number}", [frame(opcode, one)] * 500, *[(opcode, one)] * 500)


def fragments_of_odd_sizes():
    whole = b"*" * 65536
    yield echo("10.1.1", list(fragments(TEXT, whole, 1300)), (TEXT, whole))


def all_cases():
    parts = (framing, pings, reserved_bits, opcodes, fragmentation, texts, sequences, closing, limits,
             fragments_of_odd_sizes)
    return [case for part in parts for case in part()]
