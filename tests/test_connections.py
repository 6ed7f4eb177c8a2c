"""Connections: encrypted ones, broken ones, hosts of several addresses, and servers that take or send too much."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
import threading
import warnings
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from PIL import Image

from aifs_vision import APIConnectionError, APITimeoutError, Limits, Vision, http_client
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated, virtual_time
from tests.pictures import corners, saved
from tests.servers import accepting, answer_all, answer_one, answered, asked
from tests.service import answer
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PNG = saved(corners())
ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Tell me"}]}
MUCH = 16 * 2**20  # bytes; more than the buffers of the system and of a connection take


@pytest.fixture(autouse=True)
def _own_connections() -> Iterator[None]:
    with isolated():
        yield


# -- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Signs certificates, and is trusted by nobody."""
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That authority is trusted."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


@contextmanager
def encrypted(server: Emulator, authority: trustme.CA, name: str = "localhost") -> Iterator[str]:
    """The address at which an emulator is to be had by TLS, with a certificate for that name."""
    inner = int(server.base_url.rsplit(":", 1)[1].split("/")[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection("127.0.0.1", inner)
        serving.add(asyncio.current_task())
        try:
            await asyncio.gather(pass_on(reader, before), pass_on(behind, writer), return_exceptions=True)
        finally:
            for end in (writer, before):
                end.transport.abort()  # by TLS, closing would wait for the other side
                with suppress(OSError, ssl.SSLError):
                    await end.wait_closed()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listening:
            ports.append(listening.sockets[0].getsockname()[1])
            ready.set()
            await asyncio.to_thread(over.wait)
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    ports, ready, over, serving = list[int](), threading.Event(), threading.Event(), set[Any]()
    thread = threading.Thread(target=asyncio.run, args=[run()])
    thread.start()
    ready.wait()
    try:
        yield f"https://localhost:{ports[0]}/v2"
    finally:
        over.set()
        thread.join()


@pytest.mark.usefixtures("trusted")
def test_pictures_are_read_by_way_of_tls(server: Emulator, authority: trustme.CA) -> None:
    """At an address with TLS pictures are read, large ones too, many at a time on connections that are used again."""
    large = saved(Image.effect_noise((1600, 1600), 100), "JPEG", quality=95)  # more than a connection takes at once
    with encrypted(server, authority) as url:
        vision = Vision(base_url=url, api_key=server.api_key, limits=Limits(in_flight=4))
        readings = list(vision.read_many([large, PNG] * 8))
    assert [(reading.status, reading.attempts) for reading in readings] == [("ok", 1)] * 16


@pytest.mark.usefixtures("trusted")
def test_streams_come_by_way_of_tls(authority: trustme.CA) -> None:
    """A long stream through TLS comes whole, piece by piece."""
    text = " ".join(f"word{number}" for number in range(20_000))
    with Emulator(ocr=False, reply=lambda _: text) as server, encrypted(server, authority) as url:
        client = http_client(base_url=url, api_key=server.api_key)
        with client.stream("POST", "/chat/completions", json={**ASKED, "stream": True}) as stream:
            events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]) == text


@pytest.mark.parametrize("known", [True, False])
def test_a_server_that_cannot_prove_its_name_gets_nothing(
    server: Emulator,
    authority: trustme.CA,
    request: pytest.FixtureRequest,
    known: bool,  # noqa: FBT001
) -> None:
    """A certificate of an unknown authority, or for another name, is an error that says so; nothing is sent."""
    if known:
        request.getfixturevalue("trusted")
    with encrypted(server, authority, "elsewhere.example" if known else "localhost") as url:
        vision = Vision(base_url=url, api_key=server.api_key)
        with virtual_time():
            (reading,) = vision.read_many([PNG], on_error="keep")
    assert isinstance(reading.error, APIConnectionError)
    assert "certificate verify failed" in str(reading.error)
    assert not server.requests


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_without_tls_is_an_error(said: bytes) -> None:
    """A server that ends the handshake, or knows no TLS, is an error of its connection."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(said)

    with accepting(serve) as (url, accepted):
        vision = Vision(base_url=url.replace("http:", "https:"), api_key="k")
        with virtual_time(), pytest.raises(APIConnectionError):
            vision.read(PNG)
        assert len(accepted) == 4


# -- Addresses -----------------------------------------------------------------------------------------------------


@contextmanager
def hole() -> Iterator[tuple[str, int]]:
    """An address at which nobody answers, not even to say so."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # they fill its queue
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)  # noqa: FBT003 - the name of the argument is not to be had
            other.connect_ex(listener.getsockname())
        yield listener.getsockname()


@pytest.mark.parametrize("bad", ["nobody lets in", "nobody answers", "many nobody answers"])
def test_the_address_that_answers_is_taken(monkeypatch: pytest.MonkeyPatch, server: Emulator, bad: str) -> None:
    """Of a host's addresses the first that lets one in is used, whatever is wrong with those before it.

    That many of one family lead nowhere, as where IPv6 is broken, does not use up the time to connect.
    """
    port, known = int(server.base_url.rsplit(":", 1)[1].split("/")[0]), socket.getaddrinfo

    def addresses(host: Any, *args: Any, **more: Any) -> Any:
        return found if host == "service.example" else known(host, *args, **more)

    with hole() as (_, nowhere), socket.socket() as nobody:  # which has a port, and does not listen
        nobody.bind(("127.0.0.1", 0))
        wrong = nobody.getsockname()[1] if bad == "nobody lets in" else nowhere
        count = 60 if bad.startswith("many") else 2  # 60 of them would take 15 seconds, one after the other
        found = [
            *[(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::ffff:127.0.0.1", wrong, 0, 0))] * count,
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", addresses)
        url = server.base_url.replace("127.0.0.1", "service.example")
        assert Vision(base_url=url, api_key=server.api_key).read(PNG).attempts == 1


# -- What servers do -----------------------------------------------------------------------------------------------


def test_a_connection_that_the_server_has_ended_is_not_used_again() -> None:
    """A server may end a connection that nobody uses; the next request goes by another one, and is not lost."""
    with accepting(answer_one) as (url, accepted):
        vision = Vision(base_url=url, api_key="k")
        for number in range(1, 6):
            assert vision.read(PNG).attempts == 1
            assert len(accepted) == number
            until(lambda: accepted[-1].fileno() < 0)


def test_a_connection_is_used_again() -> None:
    """One after the other, requests go by one connection."""
    with accepting(answer_all) as (url, accepted):
        vision = Vision(base_url=url, api_key="k")
        assert [vision.read(PNG).attempts for _ in range(5)] == [1] * 5
        assert len(accepted) == 1


def test_an_answer_in_small_pieces_comes_whole() -> None:
    """It does not matter into how many pieces the network cuts an answer."""

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while asked(connection):
            for byte in answered():
                connection.sendall(bytes([byte]))

    with accepting(serve) as (url, _):
        vision = Vision(base_url=url, api_key="k")
        assert [vision.read(PNG).text for _ in range(3)] == ["seen"] * 3


@pytest.mark.parametrize("length", [True, False])
def test_a_large_answer_comes_whole(length: bool) -> None:  # noqa: FBT001
    """An answer of many megabytes comes whole, whether its length is told or the connection ends with it."""
    text = "x" * MUCH

    def serve(connection: socket.socket) -> None:
        if asked(connection):
            body = json.dumps(answer(text)).encode()
            connection.sendall(answered(body) if length else b"HTTP/1.1 200 OK\r\n\r\n" + body)

    with accepting(serve) as (url, _):
        assert Vision(base_url=url, api_key="k").read(PNG, "caption").text == text


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("secret", [True, False])
def test_a_server_that_takes_nothing_is_given_up(authority: trustme.CA, secret: bool) -> None:  # noqa: FBT001
    """A server that does not read what it is sent holds nobody up for longer than the timeout, by TLS either."""
    over, context = threading.Event(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) if secret else connection:
            over.wait()

    with accepting(serve) as (url, _):
        client = http_client(base_url=url.replace("http:", "https:") if secret else url, api_key="k", timeout=0.5)
        with pytest.raises(APITimeoutError, match="WriteTimeout"):
            client.post("/chat/completions", json={**ASKED, "stream": True, "more": "x" * MUCH})
        over.set()


@pytest.mark.usefixtures("trusted")
def test_an_answer_cut_off_is_an_error_by_tls_too(server: Emulator, authority: trustme.CA) -> None:
    """A connection that ends in the middle of an answer is an error, and not the end of the answer."""
    server.fail("reset_body", times=4)
    with encrypted(server, authority) as url, virtual_time(), pytest.raises(APIConnectionError):
        Vision(base_url=url, api_key=server.api_key).read(PNG)
    assert len(server.requests) == 4


@pytest.mark.parametrize("reads_on", [True, False])
def test_a_refusal_in_the_middle_of_an_upload_is_heard(*, reads_on: bool) -> None:
    """A server that refuses what is too large before it has all of it is heard, also where it takes no more."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        refusal = answered(b'{"detail": "too large"}', b"connection: close")
        connection.sendall(refusal.replace(b"200 OK", b"413 Content Too Large"))
        connection.shutdown(socket.SHUT_WR)
        if not reads_on:
            over.wait()
        while connection.recv(65_536):
            pass

    with accepting(serve) as (url, _):
        client = http_client(base_url=url, api_key="k", limits=Limits(), timeout=30)
        try:
            for _ in range(5):
                assert client.post("/chat/completions", json={**ASKED, "more": "x" * MUCH}).status_code == 413
        finally:
            over.set()


def test_a_stream_that_nobody_reads_holds_its_server_back() -> None:
    """What a server sends and nobody reads is not gathered: the server has to wait, and goes on when it is read."""
    sent, piece = [0], b"data: " + b"x" * 65_536 + b"\n\n"

    def serve(connection: socket.socket) -> None:
        if asked(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            while sent[0] < 4 * MUCH:
                connection.sendall(piece)
                sent[0] += len(piece)

    def stands_still() -> bool:
        before = sent[0]
        time_passes.wait(0.3)  # longer than it takes to send another piece
        return before > 0 and sent[0] == before

    time_passes = threading.Event()
    with accepting(serve) as (url, _):
        client = http_client(base_url=url, api_key="k")
        with client.stream("POST", "/chat/completions", json={**ASKED, "stream": True}) as stream:
            pieces = stream.iter_raw()
            read = len(next(pieces))
            until(stands_still)
            assert sent[0] < 4 * MUCH
            read += sum(map(len, pieces))
    assert read == sent[0] >= 4 * MUCH


def test_connections_that_are_left_are_closed() -> None:
    """Whoever leaves while a connection is made, or used, leaves nothing open, neither here nor at the server."""
    leave, left = asyncio.Event(), list[bool]()

    def serve(connection: socket.socket) -> None:
        loop.call_soon_threadsafe(leave.set)
        while connection.recv(65_536):
            pass
        left.append(True)

    async def leave_when_accepted(url: str, steps: int) -> None:
        task = asyncio.create_task(Vision(base_url=url, api_key="k", limits=Limits()).aread(PNG))
        await leave.wait()
        leave.clear()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    gc.collect()  # what others have left
    loop = asyncio.new_event_loop()
    with warnings.catch_warnings(record=True) as seen, accepting(serve) as (url, accepted):
        warnings.simplefilter("always")
        for number in range(200):
            loop.run_until_complete(leave_when_accepted(url, number % 20))
        until(lambda: len(left) == len(accepted))
        gc.collect()
    loop.close()
    assert [str(warning.message) for warning in seen] == []
    assert len(accepted) == 200
