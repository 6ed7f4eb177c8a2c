"""Servers that do with a connection whatever a test says, byte by byte."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tests.service import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["accepting", "answer_all", "answer_one", "answered", "asked", "refusing_proxy"]

OK = json.dumps(answer("seen")).encode()


@contextmanager
def accepting(serve: Callable[[socket.socket], object]) -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that lets a function serve each connection in a thread; its address, and the connections."""
    listener, over = socket.create_server(("127.0.0.1", 0)), threading.Event()
    accepted, threads = list[socket.socket](), list[threading.Thread]()

    def served(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection)
            except OSError:
                return  # the client has left

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            if over.is_set():
                connection.close()
                return
            accepted.append(connection)
            threads.append(threading.Thread(target=served, args=[connection], daemon=True))
            threads[-1].start()

    accepter = threading.Thread(target=accept, daemon=True)
    accepter.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v2", accepted
    finally:
        over.set()
        socket.create_connection(listener.getsockname()).close()  # wakes it on every system
        accepter.join()
        listener.close()
        for connection in accepted:
            with suppress(OSError):  # it has ended
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def asked(connection: socket.socket) -> bytes:
    """One whole request; nothing at the end."""
    held = b""
    while b"\r\n\r\n" not in held:
        if not (more := connection.recv(65_536)):
            return b""
        held += more
    head, _, body = held.partition(b"\r\n\r\n")
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(lines.get(b"content-length", 0)):
        if not (more := connection.recv(65_536)):
            return b""
        body += more
    return held


def answered(body: bytes = OK, *headers: bytes) -> bytes:
    """A response with this body."""
    head = [b"HTTP/1.1 200 OK", b"content-type: application/json", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def answer_one(connection: socket.socket) -> bool:
    """Answers one request; False where there is none any more."""
    if not asked(connection):
        return False
    connection.sendall(answered())
    return True


def answer_all(connection: socket.socket) -> None:
    """Answers request after request."""
    while answer_one(connection):
        pass


@contextmanager
def refusing_proxy() -> Iterator[tuple[str, list[str]]]:
    """An HTTP proxy that refuses everything, and notes what it was asked for; its address, and its notes."""
    notes = list[str]()

    def serve(connection: socket.socket) -> None:
        notes.append(asked(connection).split(b"\r\n")[0].decode())
        connection.sendall(answered(b'{"detail": "from the proxy"}').replace(b"200 OK", b"400 Bad Request"))

    with accepting(serve) as (url, _):
        yield url.removesuffix("/v2"), notes
