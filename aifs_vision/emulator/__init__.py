"""The service on this machine: real text recognition and embeddings, no network, no key, no cost.

    from aifs_vision import Vision
    from aifs_vision.emulator import Emulator

    with Emulator() as server:
        vision = Vision(base_url=server.base_url, api_key=server.api_key)
        print(vision.read("examples/images/receipt.jpg", task="ocr").text)

It answers for the real model names with the service's wire format, is strict about what it accepts, and
marks every answer as its own (`system_fingerprint: "aifs-emulator"`). For tests it can be told what to answer,
what to do wrong, and how fast to be; `requests` says what it was asked. Its Visual RAG (`/v1`) keeps what it is given
for as long as it runs. Tests that use pytest find it as the
fixture `aifs_emulator`; `python -m aifs_vision.emulator --port 8085` runs it for other programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from aifs_vision.emulator._checks import ChatRequest, SentImage
from aifs_vision.emulator._faults import Fault, Faults, Kind
from aifs_vision.emulator._log import LoggedRequest, RequestLog
from aifs_vision.emulator._quota import Quota

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from aifs_vision.emulator._server import LoopbackServer

__all__ = ["ChatRequest", "Emulator", "Fault", "LoggedRequest", "SentImage"]

_INSTALL = "the emulator needs its extra: pip install 'aifs-vision[emulator]'"


class Emulator:
    """AI Foundation Services on 127.0.0.1, for demonstrations and tests.

        server = Emulator()  # real text recognition
        server = Emulator(ocr=False, latency=0.3)  # fixed answers, for load tests
        server = Emulator(reply=lambda asked: "...")  # any answer; None stands for the usual one

    Args:
        api_key: the only key it accepts.
        port: 0 takes a free one.
        ocr: False answers with a fixed text instead of recognising the picture's.
        reply: asked for every chat request; gives the text of the answer, a whole assistant message (a dict,
            which may have `tool_calls` and `finish_reason`), or None for the usual answer. Runs in a thread.
        latency: seconds an answer takes at least; `jitter` adds up to so many more.
        requests_per_minute, input_tokens_per_minute: limits for each model, strict; None for none.
        window: seconds of the window they are counted in.
        rate_limit_headers: whether `x-ratelimit-*` headers are sent; None sends them for the models on Azure
            alone, as the service does.

    Raises:
        ImportError: the extra `emulator` is not installed.
    """

    def __init__(
        self,
        *,
        api_key: str = "emulator-key",
        port: int = 0,
        ocr: bool = True,
        reply: Callable[[ChatRequest], str | dict[str, Any] | None] | None = None,
        latency: float = 0.0,
        jitter: float = 0.0,
        requests_per_minute: int | None = None,
        input_tokens_per_minute: int | None = None,
        window: float = 60.0,
        rate_limit_headers: bool | None = None,
    ) -> None:
        self.api_key = api_key
        self._port, self._ocr, self._reply = port, ocr, reply
        self._latency, self._jitter, self._headers = latency, jitter, rate_limit_headers
        self._quota = Quota(requests=requests_per_minute, tokens=input_tokens_per_minute, window=window)
        self._log, self._faults = RequestLog(), Faults()
        self._server: LoopbackServer | None = None

    @property
    def base_url(self) -> str:
        """The address to give to clients; only while it runs.

        Raises:
            RuntimeError: it does not run.
        """
        if self._server is None:
            raise RuntimeError("the emulator does not run; use it in a with block, or call start()")
        return f"http://127.0.0.1:{self._server.port}/v2"

    @property
    def requests(self) -> Sequence[LoggedRequest]:
        """What it was asked, in the order of arrival."""
        return self._log.all()

    def fail(
        self,
        kind: Kind | int,
        *,
        times: int = 1,
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
        body: str | None = None,
        seconds: float = 0.0,
        path: str = "",
    ) -> None:
        """The next `times` requests to paths that end in `path` go wrong; faults queue up.

        Args:
            kind: an HTTP status, or a kind of `Fault`.
            times: how many requests.
            retry_after: seconds, for a `retry-after-ms` header.
            headers: further headers.
            body: another body for a status than the service's own.
            seconds: how long "slow" and "drip" wait.
            path: for example "/embeddings".

        Raises:
            ValueError: there is no such fault.
        """
        if kind not in get_args(Kind) and (isinstance(kind, bool) or kind not in range(200, 600)):
            raise ValueError(f"kind={kind!r} is no fault; known are {', '.join(get_args(Kind))} and HTTP statuses")
        if times < 1:
            raise ValueError(f"times={times!r}: a fault is met at least once")
        sent = dict(headers or {})
        if retry_after is not None:
            sent["retry-after-ms"] = f"{retry_after * 1000:g}"
        status = {"kind": "status", "status": kind} if isinstance(kind, int) else {"kind": kind}
        fault: dict[str, Any] = {"times": times, "body": body, "seconds": seconds, "path": path, **status}
        self._faults.add(Fault(headers=tuple(sent.items()), **fault))

    def clear(self) -> None:
        """Forgets the requests so far, also those that nobody waits for any more, and the faults still to come."""
        if self._server is not None:
            self._server.settle()
        self._log.clear()
        self._faults.clear()

    def start(self) -> Self:
        """Starts the server; `with` does the same, and stops it in the end."""
        try:
            from aifs_vision.emulator._app import Service
            from aifs_vision.emulator._brain import Brain
            from aifs_vision.emulator._server import Connections, LoopbackServer
        except ImportError as error:
            raise ImportError(f"{_INSTALL} ({error})") from error
        if self._server is not None:
            raise RuntimeError(f"the emulator runs already, at {self.base_url}")
        connections = Connections()
        self._service = Service(
            api_key=self.api_key,
            log=self._log,
            faults=self._faults,
            quota=self._quota,
            brain=Brain(ocr=self._ocr),
            reply=self._reply,
            latency=self._latency,
            jitter=self._jitter,
            rate_limit_headers=self._headers,
            abort=connections.abort,
            ocr=self._ocr,
        )
        self._server = LoopbackServer(self._service.app, connections, self._port)
        self._server.start()
        return self

    def stop(self) -> None:
        """Stops the server; connections that are open are closed."""
        if self._server is not None:
            self._server.stop()
            self._service.close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
