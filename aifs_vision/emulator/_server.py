"""uvicorn on a loopback port, in a thread, with a way to break a connection."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["Connections", "LoopbackServer"]

_TURNS = 20  # of the loop; a request on a new connection is logged after five
_PATIENCE = 1.0  # seconds, with a server that is just being stopped


class Connections:
    """The open connections by the client's address, so that a scripted fault can break one."""

    def __init__(self) -> None:
        self._open: dict[Any, asyncio.Transport] = {}

    def abort(self, client: Any) -> None:
        """Resets the connection to this client; only called on the server's loop."""
        if (transport := self._open.pop(tuple(client), None)) is not None:
            transport.abort()

    def protocol(self) -> type[H11Protocol]:
        """Uvicorn's protocol, which tells about its connections."""
        connections = self._open

        class Watched(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                # asyncio does so only for sockets that say they are TCP; head and body would be 40 ms apart.
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._peer = tuple(transport.get_extra_info("peername") or ())
                connections[self._peer] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                connections.pop(self._peer, None)
                super().connection_lost(exc)

        return Watched


class _Server(uvicorn.Server):
    """Uvicorn's server, which tells its loop."""

    loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        try:
            await super().serve(sockets)
        finally:
            self.loop = None


class LoopbackServer:
    """A server on 127.0.0.1 that runs in a thread of its own until it is stopped."""

    def __init__(self, app: Starlette, connections: Connections, port: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=connections.protocol(),
            ws="none",
            loop="asyncio",  # the same on every machine, whatever else is installed
            lifespan="off",
            log_config=None,
            log_level="critical",  # a connection that breaks, or ends with the server, is what was asked for
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._run, name="aifs-emulator-server", daemon=True)

    def start(self) -> None:
        """Starts the thread; the port takes connections from now on."""
        self._thread.start()

    def settle(self) -> None:
        """Waits until the requests that have come by now have been taken in, if it runs, and not in a fork."""
        loop, settled = self._server.loop, threading.Event()
        if loop is None or not self._thread.is_alive() or threading.current_thread() is self._thread:
            return

        def turn(left: int) -> None:
            settled.set() if left == 0 else loop.call_soon(turn, left - 1)

        with suppress(RuntimeError):  # it has just ended
            loop.call_soon_threadsafe(turn, _TURNS)
            settled.wait(_PATIENCE)

    def stop(self) -> None:
        """Ends the server and waits for its thread."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])
