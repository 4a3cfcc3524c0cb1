"""A WebSocket server that says what it hears: python3 echo.py PORT"""

import asyncio
import base64
import hashlib
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def serve(reader, writer):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [line.split(b":", 1) for line in head.split(b"\r\n") if b":" in line]
        headers = {name.strip().lower(): value.strip() for name, value in lines}
        proof = base64.b64encode(hashlib.sha1(headers[b"sec-websocket-key"] + GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n"
        )
        while True:
            # Short frames with a mask, as clients send them.
            kind, length = await reader.readexactly(2)
            mask = await reader.readexactly(4)
            body = await reader.readexactly(length & 0x7F)
            plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
            writer.write(bytes([kind, len(plain)]) + plain)
            await writer.drain()
    except (asyncio.IncompleteReadError, KeyError, OSError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, None, int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


asyncio.run(main())
