"""Scripted faults: what goes wrong, how often, and where."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["Fault", "Faults", "Kind"]

Kind = Literal[
    "status",
    "reset",
    "reset_body",
    "html",
    "cut_json",
    "cut_stream",
    "no_choices",
    "length",
    "stall",
    "slow",
    "drip",
    "none",
]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One scripted fault, met by the next `times` requests to a path that ends in `path`.

    Attributes:
        kind: "status" answers with `status`; "reset" closes the connection instead of an answer,
            "reset_body" in the middle of one; "html" is a gateway's page with status 200; "cut_json" and
            "cut_stream" end too early but in good order; "no_choices" has an empty list; "length" cuts the
            answer and says so; "stall" never ends; "slow" waits for `seconds` before the body, "drip" after
            each piece of a stream; "none" lets them through, so that a script may say which requests go wrong.
        status: the HTTP status for "status".
        headers: further headers, for example (("retry-after", "2"),).
        body: the body for "status"; None for the service's own in the model's shape.
        seconds: how long "slow" and "drip" wait.
        times: how many requests meet it.
        path: the end of the paths that meet it; "" for every one.
    """

    kind: Kind = "status"
    status: int = 503
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    seconds: float = 0.0
    times: int = 1
    path: str = ""


class Faults:
    """The faults still to come, first come, first served; safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """One more, after those that are there."""
        with self._lock:
            self._coming.append(fault)

    def clear(self) -> None:
        """None any more."""
        with self._lock:
            self._coming.clear()

    def next(self, path: str) -> Fault | None:
        """The fault that this request meets, if any."""
        with self._lock:
            for index, fault in enumerate(self._coming):
                if path.endswith(fault.path):
                    if fault.times > 1:
                        self._coming[index] = replace(fault, times=fault.times - 1)
                    else:
                        del self._coming[index]
                    return fault
        return None
