"""The pooled connections to a host, through the proxy and with the certificates that the environment names."""

from __future__ import annotations

import os
import urllib.request
from typing import TYPE_CHECKING, Any, cast

import httpcore
import httpx

from aifs_vision._errors import SettingsError
from aifs_vision._loop import home
from aifs_vision._sockets import Sockets

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

__all__ = ["connections"]

_ROUTE_SETTINGS = [
    *(name for proxy in ("https_proxy", "http_proxy", "all_proxy", "no_proxy") for name in (proxy, proxy.upper())),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
]
# There is no bound of its own: the lines' slots are the bound, and a second queue would hide from the pacing.
_KEPT_ALIVE, _KEPT_ALIVE_FOR = 64, 30.0  # connections that nobody uses, and seconds
_RAISED = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


def connections(url: httpx.URL) -> httpx.AsyncBaseTransport:
    """The connections to a host, kept on the background loop."""
    route = ("connections", url.scheme, url.host, *map(os.environ.get, _ROUTE_SETTINGS))
    return home().keep(route, lambda: _made(url), lambda made: made.aclose())


def _made(url: httpx.URL) -> httpx.AsyncBaseTransport:
    made: httpx.AsyncBaseTransport = home().around(_connect(url.scheme, url.host))
    return made


def _connect(scheme: str, host: str) -> httpx.AsyncBaseTransport:
    proxies = urllib.request.getproxies()
    proxy = None if urllib.request.proxy_bypass(host) else proxies.get(scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    encrypted = scheme == "https"
    try:
        if not proxy:
            return _Direct(httpx.create_ssl_context() if encrypted else None)
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=_KEPT_ALIVE, keepalive_expiry=_KEPT_ALIVE_FOR
        )
        return httpx.AsyncHTTPTransport(verify=encrypted, limits=limits, proxy=proxy)
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        raise SettingsError.bad_route(proxy, str(error)) from error


class _Direct(httpx.AsyncBaseTransport):
    """The connections to a host that no proxy stands before: httpx's own transport, but for who makes the sockets."""

    def __init__(self, ssl_context: ssl.SSLContext | None) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=None,
            max_keepalive_connections=_KEPT_ALIVE,
            keepalive_expiry=_KEPT_ALIVE_FOR,
            network_backend=Sockets(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        asked = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            answer = await self._pool.handle_async_request(asked)
        except _RAISED as error:
            raise _as_httpx_has_it(error) from error
        stream = _Body(cast(Any, answer.stream))
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=answer.extensions)

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except _RAISED as error:
            raise _as_httpx_has_it(error) from error

    async def aclose(self) -> None:
        await self._stream.aclose()


def _as_httpx_has_it(error: Exception) -> httpx.TransportError:
    """The error of httpx that has the name of one of httpcore's."""
    made: httpx.TransportError = getattr(httpx, type(error).__name__)(str(error))
    return made
