"""TCP and TLS for the connection pool, on asyncio's own transports.

httpcore comes with connections by anyio, which give the loop a turn after each write, and have the kernel begin and end
to watch a socket at each read. That took a tenth of the CPU of a short call, and of each piece of a stream.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Sequence

    _Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]  # as getaddrinfo has it

__all__ = ["Sockets"]

_NEXT_ADDRESS = 0.25  # seconds until the next address of a host is tried beside the last one, RFC 8305
_PIECE = 65_536  # bytes that are written at once
_UNREAD = 262_144  # bytes that have come and nobody has read, beyond which the server has to wait


class Sockets(httpcore.AsyncNetworkBackend):
    """Makes the connections of a pool; each of them belongs to the loop that it was made on."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - this and the others are httpcore's interface
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address of the host that answers; the pool here asks for no options.

        Raises:
            httpcore.ConnectTimeout: none has answered within so many seconds.
            httpcore.ConnectError: none is there, or none lets anybody in.
        """
        loop = asyncio.get_running_loop()
        with _connecting(timeout):
            addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            _, made = await loop.create_connection(_Socket, sock=await _first_of(_alternating(addresses)))
        return await made.unless_left()


class _Socket(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """A connection: what has come and is not read yet, and whoever waits for more, or for room to write."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._unread: deque[bytes] = deque()
        self._unread_size = 0
        self._ended = self._lost = self._closed = self._held_back = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None  # there is none as long as this waits

    # -- What asyncio tells ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # typeshed: a stream's is a Transport

    def data_received(self, data: bytes) -> None:
        self._unread.append(bytes(data))  # Windows gives a bytearray that it uses again
        self._unread_size += len(data)
        if self._unread_size > _UNREAD and not self._held_back:
            self._held_back = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> None:
        self._ended = True
        _wake(self._reader)
        _wake(self._room)  # the server may have said why it takes no more

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._lost, self._error = True, True, exc
        _wake(self._reader)
        _wake(self._room)

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        _wake(self._room)

    # -- What httpcore asks for --------------------------------------------------------------------------------------

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """The next bytes; none at the end.

        Raises:
            httpcore.ReadTimeout: nothing has come for so many seconds.
            httpcore.ReadError: the connection broke, or was closed here.
        """
        if not self._unread and not self._ended:
            self._reader = self._loop.create_future()
            await _until(self._reader, timeout, httpcore.ReadTimeout)
        if not self._unread:
            if self._error is not None or self._closed:
                raise httpcore.ReadError(str(self._error or "closed")) from self._error
            return b""
        data = self._unread.popleft()
        if len(data) > max_bytes:
            self._unread.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        self._unread_size -= len(data)
        if self._held_back and self._unread_size <= _UNREAD and not self._ended:
            self._held_back = False
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Writes, and waits as long as more is written than the server takes.

        Raises:
            httpcore.WriteTimeout: it has taken nothing for so many seconds.
            httpcore.WriteError: the connection is closed, or broke.
        """
        # In pieces: TLS would take any amount at once, and say of none that there is no room for it.
        for at in range(0, len(buffer), _PIECE):
            self._check_open()
            self._transport.write(buffer[at : at + _PIECE])
            if self._room is not None and not self._room.done():
                await _until(self._room, timeout, httpcore.WriteTimeout)
        if buffer:
            self._check_open()

    async def aclose(self) -> None:
        """Closes it at once; never waits, so that nothing can come between."""
        self._closed = True
        if self._lost:  # a transport that has closed with bytes still to write cannot bear abort()
            self._transport.close()
        else:
            self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted, to the server of that name and no other.

        Raises:
            httpcore.ConnectTimeout: no handshake within so many seconds.
            httpcore.ConnectError: it failed, as with a certificate that nobody has signed who is trusted.
        """
        try:
            with _connecting(timeout):
                made = await self._loop.start_tls(self._transport, self, ssl_context, server_hostname=server_hostname)
        except BaseException:
            await self.aclose()
            raise
        if made is None:
            raise httpcore.ConnectError("the server has left after the handshake")
        self._transport = made
        return await self.unless_left()

    async def unless_left(self) -> _Socket:
        """The connection; closed where whoever wanted it has left meanwhile.

        httpcore forgets a connection that it has got and not used yet, and keeps it open for ever.
        """
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            await self.aclose()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        """What asyncio knows of the connection; and "is_readable", which means of an idle one that it has ended."""
        if info == "is_readable":
            return bool(self._unread) or self._ended
        return self._transport.get_extra_info(info)

    def _check_open(self) -> None:
        if self._ended or self._transport.is_closing():
            raise httpcore.WriteError(str(self._error or "closed")) from self._error


def _alternating(addresses: Sequence[_Address]) -> list[_Address]:
    """The addresses, those of the two families by turns: where one leads nowhere, the other is tried next."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for pair in zip_longest(first, others) for address in pair if address is not None]


async def _first_of(addresses: Iterable[_Address]) -> socket.socket:
    """A socket connected to the first address that answers.

    asyncio's own race loses sockets open where it is left, on Python 3.10 at any rate; so this one is held here.
    """
    untried, attempts = deque(addresses), list[asyncio.Task[socket.socket]]()
    won: asyncio.Task[socket.socket] | None = None
    try:
        while untried or not all(attempt.done() for attempt in attempts):
            if untried:
                attempts.append(asyncio.create_task(_connected(untried.popleft())))
            under_way = [attempt for attempt in attempts if not attempt.done()]
            pause = _NEXT_ADDRESS if untried else None
            await asyncio.wait(under_way, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            won = next((one for one in attempts if one.done() and one.exception() is None), None)
            if won is not None:
                return won.result()
        raise OSError("; ".join(str(attempt.exception()) for attempt in attempts))
    finally:
        for attempt in attempts:
            if attempt is not won:
                attempt.cancel()
                attempt.add_done_callback(_discard)


async def _connected(address: _Address) -> socket.socket:
    family, kind, protocol, _, where = address
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)  # noqa: FBT003 - the name of the argument is not to be had
        await asyncio.get_running_loop().sock_connect(made, where)
    except BaseException:
        made.close()
        raise
    return made


def _discard(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


async def _until(waiting: asyncio.Future[None], seconds: float | None, error: type[Exception]) -> None:
    """Waits for whoever wakes; raises the error after so many seconds."""
    if seconds is None:
        return await waiting
    timer = asyncio.get_running_loop().call_later(seconds, _give_up, waiting, error)
    try:
        await waiting
    finally:
        timer.cancel()
    return None


def _give_up(waiting: asyncio.Future[None], error: type[Exception]) -> None:
    if not waiting.done():
        waiting.set_exception(error())


@contextmanager
def _connecting(timeout: float | None) -> Iterator[None]:
    try:
        with anyio.fail_after(timeout):
            yield
    except TimeoutError as error:
        raise httpcore.ConnectTimeout(str(error)) from error
    except OSError as error:  # those of TLS, too
        raise httpcore.ConnectError(str(error)) from error
