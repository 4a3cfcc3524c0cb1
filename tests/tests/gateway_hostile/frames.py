"""Frames of HTTP/2 put together by hand, so that they may be wrong (RFC 9113 §4, RFC 7541 §6.2.2)."""

GOAWAY, RST_STREAM, DATA = 7, 3, 0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


SETTINGS = frame(4, 0, 0)


def number(value):
    """A length with a prefix of seven bits; the first bit says that no Huffman code follows."""
    if value < 127:
        return bytes([value])
    value, more = value - 127, b"\x7f"
    while value >= 128:
        more += bytes([value % 128 | 128])
        value //= 128
    return more + bytes([value])


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return number(len(value)) + value


def block(fields):
    return b"".join(b"\0" + text(name) + text(value) for name, value in fields)


def headers(stream, fields, end=False):
    """HEADERS, and CONTINUATION where one frame is too small."""
    whole = block(fields)
    parts = [whole[at : at + 16384] for at in range(0, len(whole), 16384)]
    out = b""
    for at, part in enumerate(parts):
        flags = (4 if at == len(parts) - 1 else 0) | (1 if end and at == 0 else 0)
        out += frame(1 if at == 0 else 9, flags, stream, part)
    return out


def split(got):
    """Whole frames of what has come: kind, flags, stream, payload."""
    while len(got) >= 9 and len(got) >= 9 + (length := int.from_bytes(got[:3], "big")):
        yield got[3], got[4], int.from_bytes(got[5:9], "big"), got[9 : 9 + length]
        got = got[9 + length :]
