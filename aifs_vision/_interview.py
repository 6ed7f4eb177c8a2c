"""One image, and everything that is asked about it until there is a verdict."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aifs_vision._answers import Verdict, judge, says_much
from aifs_vision._api_errors import (
    APIError,
    BadRequestError,
    BudgetError,
    QuotaExceededError,
    UnexpectedAnswerError,
    is_filtered,
)
from aifs_vision._doors import is_open
from aifs_vision._exchange import exchange
from aifs_vision._ink import letters_on, looks_blank
from aifs_vision._line import line_of
from aifs_vision._loop import home
from aifs_vision._plan import Manner, plan
from aifs_vision._readings import ModelUse, Usage
from aifs_vision._tracing import ObserverError, SentRequest, Watched, asking
from aifs_vision._transport import OUTAGE, Unwanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from aifs_vision._budget import Budget
    from aifs_vision._catalogue import ModelCard
    from aifs_vision._errors import AIFSError
    from aifs_vision._exchange import Told
    from aifs_vision._images import PreparedImage
    from aifs_vision._limits import Limits
    from aifs_vision._plan import Form, Plan
    from aifs_vision._settings import Settings
    from aifs_vision._tasks import Task
    from aifs_vision._tracing import OnRequest

__all__ = ["Interview", "Spent", "Way", "first_manner"]

_MORE_ROOM = 3  # times its room for an answer that did not fit into it; once
_TEMPERATURES = (
    0.3,
    0.8,
)  # for an answer that ran in circles, one after the other (olmOCR's ladder goes from 0.1 to 1)
_AS_MUCH = (
    0.5  # of what was said is printed on the picture at least, and at most twice as much, where it may stand there
)
_PRINTED = 40  # letters that a picture seems to have, of which no model may say nothing at all
_OUTAGE = 10.0  # seconds for which everything may fail before the model that stands in is asked
_SIMPLER: dict[Form, Form] = {"schema": "object", "object": "prompt"}
_OF_FORM = ("response_format", "json_schema", "json_object", "structured output", "guided")


@dataclass(frozen=True, kw_only=True)
class Way:
    """A model, and how it is reached.

    Attributes:
        patience: seconds that 429s may put a question off; None for those of the limits.
        stood_in_for: whether there is another way, so that a door that is shut is no more waited at.
    """

    settings: Settings
    model: str
    card: ModelCard
    limits: Limits
    patience: float | None = None
    stood_in_for: bool = False

    @property
    def name(self) -> tuple[str, ...]:
        """What tells it from other ways, of this process or of others."""
        return (self.settings.base_url, self.settings.api_key.fingerprint, self.model)


class Spent:
    """What the requests of one reading took, by model, and the seconds that limits have held them up.

    `ended` gives what has ended the run meanwhile, if something has: then nothing more is asked.
    """

    def __init__(self, ended: Callable[[], AIFSError | None] = lambda: None) -> None:
        self.models: dict[str, ModelUse] = {}
        self.waited = 0.0
        self.ended = ended

    @property
    def total(self) -> ModelUse:
        """All models together."""
        return sum(self.models.values(), ModelUse())

    def add(self, way: Way, use: ModelUse) -> None:
        """Counts what was asked by a way."""
        self.models[way.model] = self.models.get(way.model, ModelUse()) + use


class _Forms:
    """How a model can be asked for the data of a task, as its host has turned out to understand."""

    def __init__(self, card: ModelCard) -> None:
        self.form: Form = "object" if card.schema is False else "schema"


def first_manner(way: Way, task: Task) -> Manner:
    """How a question is put at first; called on the loop."""
    return Manner(room=task.max_tokens, form=_forms(way, task).form)


def _forms(way: Way, task: Task) -> _Forms:
    return home().keep(("forms", *way.name, task.fingerprint), lambda: _Forms(way.card))


class Interview:
    """The questions about one image.

    More room where an answer was cut off, another temperature where it ran in circles, the mistake where its data did
    not fit; each of them as often as it is worth it.
    """

    def __init__(
        self,
        way: Way,
        task: Task,
        image: PreparedImage,
        spent: Spent,
        budget: Budget | None,
        *,
        on_request: OnRequest | None = None,
    ) -> None:
        self._way, self._task, self._image = way, task, image
        self._spent, self._budget, self._on_request = spent, budget, on_request
        # The reasoning models take no temperature; what they are asked twice they say twice.
        self._temperatures = list(_TEMPERATURES) if way.card.takes_temperature else []
        self._again = True  # an answer that cannot be used may be a gateway's hiccup
        self._best: Verdict | None = None

    async def verdict(self, request: Plan) -> Verdict:
        """The last verdict, of which nothing better is to be had.

        Raises:
            APIError: the service did not answer, or refused, or answered what cannot be used.
            BudgetError: the next question could cost more than may be spent.
        """
        while True:
            try:
                verdict = self._best = await self._asked(request)
            except BadRequestError as error:
                if is_filtered(error):
                    return Verdict(status="filtered", text="", reason=error.detail)
                manner = self._simpler(request.manner, error)
                if manner is None:
                    return self._best_after(error)
            except UnexpectedAnswerError as error:
                if not self._again:
                    return self._best_after(error)
                self._again, manner = False, request.manner
            except (APIError, BudgetError) as error:
                return self._best_after(error)
            else:
                manner = self._better(request.manner, verdict)
                if manner is None:
                    return verdict
            request = await asyncio.get_running_loop().run_in_executor(
                home().cpu, plan, self._image, self._way.model, self._way.card, self._task, manner
            )

    def _best_after(self, error: APIError | BudgetError) -> Verdict:
        """What was answered, and paid, before something better could not be had."""
        if self._best is None:
            raise error
        return self._best

    def _better(self, manner: Manner, verdict: Verdict) -> Manner | None:
        """Another way to ask, that may give a better answer; None where there is none."""
        if verdict.remedy == "again" and self._again:
            self._again = False
            return manner
        if verdict.remedy == "room":
            most = self._task.max_tokens * _MORE_ROOM
            room = min(most, self._way.card.max_output_tokens or most)
            return replace(manner, room=room) if room > manner.room else None
        if verdict.remedy == "temperature" and self._temperatures:
            return replace(manner, temperature=self._temperatures.pop(0))
        if verdict.remedy == "repair" and manner.wrong is None:
            return replace(manner, wrong=(verdict.text, verdict.reason))
        return None

    def _simpler(self, manner: Manner, error: BadRequestError) -> Manner | None:
        """The next simpler form, where a host says that it does not know this one; None where that is not it."""
        form = _SIMPLER.get(manner.form)
        if self._task.schema is None or form is None or not any(word in error.detail.lower() for word in _OF_FORM):
            return None
        _forms(self._way, self._task).form = form
        return replace(manner, form=form)

    async def _asked(self, request: Plan) -> Verdict:
        """One question, judged; `spent` grows by what it took, also when it fails."""
        way, asked = self._way, {"max_tokens": request.manner.room, "temperature": request.manner.temperature}
        kind = "text" if self._task.schema is None else "json"
        with asking(way.model, way.settings.base_url, output_type=kind, **asked) as span:
            if self._budget is None:
                answer, told = await self._answer(request)
                attempts = told.attempts
            else:
                answer, attempts = await self._paid(request, self._budget)
            span.answered(answer, attempts)
            before = self._best.text if self._best else ""
            verdict = judge(answer, self._task, before=before)
        data, on_cpu = self._image.data, asyncio.get_running_loop().run_in_executor
        if data and verdict.doubted:
            printed = await on_cpu(home().cpu, letters_on, data)
            if _AS_MUCH * verdict.doubted < printed < verdict.doubted / _AS_MUCH:
                return judge(answer, self._task, printed=True, before=before)
        if data and verdict.silent and await on_cpu(home().cpu, letters_on, data) > _PRINTED:
            raise UnexpectedAnswerError("The model answered with nothing, though there is print on the picture")
        if data and says_much(verdict, self._task) and await on_cpu(home().cpu, looks_blank, data):
            return judge(answer, self._task, blank=True, before=before)
        return verdict

    async def _paid(self, request: Plan, budget: Budget) -> tuple[Any, int]:
        """An answer for which there is money; what broke on its way is booked as if it had come."""
        line = line_of(self._way.settings, self._way.model)
        expected = line.governor.expected(request.cost)
        usual = self._cost(expected.input_tokens, expected.output_tokens)
        most = self._cost(max(request.most.input_tokens, expected.input_tokens), request.most.output_tokens)

        told_of: dict[str, Any] = {}

        async def again() -> None:
            budget.add(reserved, most)  # what broke may be billed, and so may the next one

        with budget.settling(await budget.reserve(most)) as reserved:
            reserved.cost = 0.0  # what is refused costs nothing
            try:
                answer, told = await self._answer(request, again=again, sent=lambda sent: told_of.update(of=sent))
            except (APIError, BudgetError, asyncio.CancelledError):  # what was left on its way may be worked on
                if told_of:
                    extensions = told_of["of"].extensions
                    reserved.cost = usual * (extensions["unanswered"] + extensions["open"])
                raise
            except ObserverError:  # nobody knows what was answered
                reserved.cost = most if told_of else 0.0
                raise
            used = Usage.of(answer)
            reserved.cost = told.unanswered * usual + (self._cost(used.input_tokens, used.output_tokens) or most)
            return answer, told.attempts

    def _cost(self, read: float, written: float) -> float:
        return self._way.card.cost_eur(round(read), round(written)) or 0.0

    async def _answer(
        self, request: Plan, *, sent: Callable[[Any], None] = lambda _: None, **more: Any
    ) -> tuple[Any, Told]:
        way, spent, watched = self._way, self._spent, self._watched()
        spent.add(way, ModelUse(requests=1))
        if watched is not None:
            more["ended"] = watched.ended

        def counted(attempt: Any) -> None:
            if watched is not None:
                watched.sent(attempt.extensions["attempts"])
            spent.add(way, ModelUse(attempts=1))
            sent(attempt)

        try:
            answer, told = await exchange(
                "POST",
                f"{way.settings.base_url}/chat/completions",
                way.settings,
                model=way.model,
                limits=way.limits,
                patience=way.patience,
                outage=_OUTAGE if way.stood_in_for else OUTAGE,
                wanted=lambda: not self._in_vain() and (not way.stood_in_for or is_open(way)),
                sent=counted,
                cost=request.cost,
                body=request.body,
                **more,
            )
        except APIError as error:
            self._again = self._again and error.attempts == 1  # else it has been tried as often as it is worth
            spent.waited += error.waited
            if isinstance(error.__cause__, Unwanted) and (ended := self._in_vain()):
                raise ended from error
            raise
        used = Usage.of(answer)
        cost = way.card.cost_eur(used.input_tokens, used.output_tokens)
        spent.add(way, ModelUse(usage=used, cost_eur=cost))
        spent.waited += told.waited
        return answer, told

    def _watched(self) -> Watched | None:
        """Whoever is told of the requests of one more question."""
        if self._on_request is None:
            return None
        image, model, task = self._image, self._way.model, self._task.name
        return Watched(self._on_request, SentRequest(source=image.source, page=image.page, model=model, task=task))

    def _in_vain(self) -> AIFSError | None:
        """What makes every further request futile; those who have their money reserved may still go."""
        ended = self._spent.ended()
        return ended if isinstance(ended, QuotaExceededError) else None
