"""How much may be sent: `Limits`, of a plan or given, and what one request takes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from aifs_vision._errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aifs_vision._catalogue import Allowance, ModelCard

__all__ = ["Cost", "Limits"]


_PACED = ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may be sent to a model, by everybody in this process who asks it; None is no limit known.

        Limits()                                                   # no limit known: it is learned from refusals
        Limits(requests_per_minute=60, in_flight=8)
        Limits(requests_per_minute=60).share(4)                    # for each of four processes

    Attributes:
        requests_per_minute, input_tokens_per_minute, output_tokens_per_minute: paced to 95 % of each.
        in_flight: requests under way at once.
        patience: seconds for which 429s may be the answer to everything before that is an error; a request that alone
            is refused, again and again, is one after the same time.
    """

    requests_per_minute: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    in_flight: int = 32
    patience: float = 600.0

    def __post_init__(self) -> None:
        if not isinstance(self.patience, (int, float)) or not self.patience >= 0:
            raise SettingsError.bad_value("Limits.patience", self.patience, "it is a number of seconds")
        for name, value in self._paced().items():
            if value is not None and not (isinstance(value, (int, float)) and value > 0):
                raise SettingsError.bad_value(f"Limits.{name}", value, "it is a number above 0, or None")
        if not isinstance(self.in_flight, int) or self.in_flight < 1:
            raise SettingsError.bad_value("Limits.in_flight", self.in_flight, "it is a whole number above 0")

    def share(self, processes: int) -> Limits:
        """What each of so many processes may send that use the same contract; at least one request at once.

        Raises:
            SettingsError: `processes` is not a whole number above 0.
        """
        if not isinstance(processes, int) or isinstance(processes, bool) or processes < 1:
            raise SettingsError.bad_value("Limits.share", processes, "it is a number of processes, 1 or more")
        parts: dict[str, Any] = {name: value and value / processes for name, value in self._paced().items()}
        return replace(self, **parts, in_flight=max(1, self.in_flight // processes))

    def _paced(self) -> dict[str, float | None]:
        return {name: getattr(self, name) for name in _PACED}

    @classmethod
    def strictest(cls, several: Iterable[Limits]) -> Limits:
        """What keeps to all of these; there is one at least."""
        one, *others = several
        for other in others:
            both: dict[str, Any] = {
                name: min((value for value in (getattr(one, name), getattr(other, name)) if value), default=None)
                for name in _PACED
            }
            in_flight, patience = min(one.in_flight, other.in_flight), min(one.patience, other.patience)
            one = replace(one, **both, in_flight=in_flight, patience=patience)
        return one

    @classmethod
    def chosen(cls, limits: Limits | None, card: ModelCard, plan: str) -> Limits:
        """The limits given, else those of the plan.

        Raises:
            SettingsError: what was given is something else.
        """
        if limits is None:
            return cls.of_plan(card, plan)
        if not isinstance(limits, Limits):
            raise SettingsError.bad_value("limits", limits, "it is a Limits(...), or None for those of the plan")
        return limits

    @classmethod
    def of_plan(cls, card: ModelCard, plan: str) -> Limits:
        """What the price list says of a model in a plan; no limits where it says nothing."""
        return _allowed(card.allowances.get(plan))


@lru_cache
def _allowed(allowance: Allowance | None) -> Limits:
    if allowance is None:
        return Limits()
    return Limits(
        requests_per_minute=allowance.requests_per_minute,
        input_tokens_per_minute=allowance.input_tokens_per_minute,
        output_tokens_per_minute=allowance.output_tokens_per_minute,
    )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one request takes from the budgets: itself, and its tokens as estimated or counted.

    Attributes:
        kind: what is asked; requests of one kind are alike in how far an estimate is off.
    """

    input_tokens: float = 0
    output_tokens: float = 0
    kind: str = ""
