"""An echo by a WebSocket library that keeps to the standard: python3 live.py PORT

Messages of any size, compression if the client asks for it.
"""

import asyncio
import sys

import websockets


async def echo(socket, *_):
    try:
        async for message in socket:
            await socket.send(message)
    except websockets.ConnectionClosed:
        pass


async def main():
    async with websockets.serve(echo, None, int(sys.argv[1]), max_size=None, ping_interval=None, backlog=512):
        await asyncio.Future()


asyncio.run(main())
