"""The pooled connections to a host, through the proxy and with the certificates that the environment names."""

from __future__ import annotations

import os
import urllib.request

import httpx

from aifs_vision._errors import SettingsError
from aifs_vision._loop import home

__all__ = ["connections"]

_ROUTE_SETTINGS = [
    *(name for proxy in ("https_proxy", "http_proxy", "all_proxy", "no_proxy") for name in (proxy, proxy.upper())),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
]


def connections(url: httpx.URL) -> httpx.AsyncBaseTransport:
    """The connections to a host, kept on the background loop."""
    route = ("connections", url.scheme, url.host, *map(os.environ.get, _ROUTE_SETTINGS))
    return home().keep(route, lambda: _made(url), lambda made: made.aclose())


def _made(url: httpx.URL) -> httpx.AsyncBaseTransport:
    made: httpx.AsyncBaseTransport = home().around(_connect(url.scheme, url.host))
    return made


def _connect(scheme: str, host: str) -> httpx.AsyncHTTPTransport:
    proxies = urllib.request.getproxies()
    proxy = None if urllib.request.proxy_bypass(host) else proxies.get(scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        return httpx.AsyncHTTPTransport(
            verify=scheme == "https",  # the context reads SSL_CERT_FILE and SSL_CERT_DIR itself
            # No bound of its own: the lines' slots are the bound, and a second queue would hide from the pacing.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30.0),
            proxy=proxy,
        )
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        raise SettingsError.bad_route(proxy, str(error)) from error
