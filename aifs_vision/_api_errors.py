"""What the service, the model or the budget says no with; the tree is drawn in `_errors`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aifs_vision._errors import AIFSError

if TYPE_CHECKING:
    from aifs_vision._readings import Reading

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AnswerError",
    "AuthenticationError",
    "BadRequestError",
    "BudgetError",
    "ContextLengthError",
    "NotFoundError",
    "PermissionDeniedError",
    "QuotaExceededError",
    "RateLimitError",
    "RequestTooLargeError",
    "ServiceError",
    "UnexpectedAnswerError",
    "error_of_status",
    "is_filtered",
    "is_too_long",
    "is_used_up",
]


class APIError(AIFSError):
    """The service said no, or nothing.

    Attributes:
        status: the HTTP status, or None where there was no answer.
        detail: the service's own words, from either of its two body shapes; "" where it had none.
        request_id: what the service calls this request, or None.
        code: the service's own name of the error; "" where it has none.
        attempts: how many requests were sent for it.
        unanswered: of these, how many the service may have worked on, and bill, though no whole answer came.
        waited: seconds that limits have held them up.
    """

    status: int | None = None
    remedy = ""

    def __init__(
        self, what: str, *, detail: str = "", status: int | None = None, request_id: str | None = None
    ) -> None:
        words = f": {detail.rstrip('. ')}" if detail else ""
        number = f" (request {request_id})" if request_id else ""
        super().__init__(f"{what}{words}{number}.{' ' if self.remedy else ''}{self.remedy}")
        self.detail, self.status, self.request_id, self.code = detail, status, request_id, ""
        self.attempts, self.unanswered, self.waited = 1, 0, 0.0
        self._brief = f"{what}{number}"

    @property
    def brief(self) -> str:
        """The message without the service's own words."""
        return self._brief


class BadRequestError(APIError):
    """The service refuses the request itself; sending it again would not help."""


class ContextLengthError(BadRequestError):
    """The question and the room for its answer are more tokens than the model's context window."""

    remedy = (
        "Send smaller pictures (Task.sized(...), or image_size=... of a chat model) or fewer messages, or give the "
        "answer less room (max_tokens)."
    )


class AuthenticationError(APIError):
    """401: the service does not know the key."""

    remedy = "Check the key in AIFS_API_KEY or api_key=..., and that it belongs to this address."


class PermissionDeniedError(APIError):
    """403: the key is known, but its plan does not include this."""

    remedy = "Vision.models() lists what the key may use."


class QuotaExceededError(APIError):
    """429 with words that no waiting helps against: the contract's quota or its credit is used up."""

    remedy = "Waiting does not help: ask whoever holds the contract, or take another model."


class NotFoundError(APIError):
    """404: no such model or endpoint at this address."""

    remedy = "Check the model's name (Vision.models() lists them) and that base_url ends in /v2."


class RequestTooLargeError(APIError):
    """413: the request has more bytes than the service takes."""

    remedy = "Send a smaller picture or file."


class RateLimitError(APIError):
    """429, for longer than one is willing to wait."""

    remedy = "Give the run fewer requests a minute (limits=Limits(...)), or more time."


class ServiceError(APIError):
    """The service failed (408, 409, 425 or 5xx) until the last attempt."""


class APIConnectionError(APIError):
    """No connection to the service, or it broke on every attempt."""

    remedy = "Check the address, the network and HTTPS_PROXY."


class APITimeoutError(APIConnectionError):
    """No answer in time on any attempt."""

    remedy = "Give it more time with timeout=..., in seconds."


class UnexpectedAnswerError(APIError):
    """A success that is not what was promised: not JSON, cut off, or without a choice."""


_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServiceError,
    409: ServiceError,
    413: RequestTooLargeError,
    425: ServiceError,
    429: RateLimitError,
}
_REFUSED, _INVALID, _TOO_MANY, _SERVER_ERRORS = 400, 422, 429, 500
_TOO_LONG = re.compile(
    r"context[ _]?length|context ?window|context_window_exceeded|maximum context"
    r"|(?:available|exceed)[ _]context[ _](?:limit|size)"
    r"|input (?:is )?too long|prompt is too long|maximum (?:model|prompt) length|exceeded model token limit"
    r"|too many (?:input )?tokens|input tokens exceed"
    r"|exceeds? the (?:maximum|model)(?:(?!(?<!and )(?<!\+ )(?:output|completion) tokens)[^.]){0,40}tokens"
    r"|inputs\W{0,3} tokens \+ \W{0,3}max_new_tokens\W{0,3} must be|inputs\W{0,3}must have less than \d+ tokens"
    r"|reduce the length of the messages|input token count is \d+|exceeds the pre-allocated encoder cache",
    re.IGNORECASE,
)
# Such words may also be of tokens in a time, for which nothing is too long, or names that somebody has given.
_ELSE = re.compile(
    r"(?<![a-z])per[ _-](?:second|sec|minute|min|hour|day)(?![a-z])|\btp[md]\b|rate[ _-]?limit"
    r"|please wait|try again in \d"
    r"|invalid schema for|unrecognized request argument|unknown parameter|extra inputs are not|invalid '[^']*\.name'",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content_filter|content management policy|ResponsibleAIPolicy", re.IGNORECASE)
_USED_UP = re.compile(
    r"insufficient[_ ](?:quota|credits?|balance)|billing_(?:hard_limit_reached|not_active)|credit balance",
    re.IGNORECASE,
)
_MAYBE_USED_UP = re.compile(r"billing|exceeded your current quota", re.IGNORECASE)  # words of ordinary limits, too


def is_filtered(error: BadRequestError) -> bool:
    """Whether a host refuses a question since its content filter does, as Azure's does."""
    return _FILTERED.search(f"{error.code} {error.detail}") is not None


def is_too_long(words: str) -> bool:
    """Whether the words or the code of an error say that the context window has no room for the question."""
    certain = "context_length_exceeded" in words or "maximum context length is" in words
    return certain or (_TOO_LONG.search(words) is not None and _ELSE.search(words) is None)


def is_used_up(body: str, *, waiting_helps: bool) -> bool:
    """Whether a 429 says that a quota or credit is used up; not where it says when to come back."""
    return bool(_USED_UP.search(body) or (not waiting_helps and _MAYBE_USED_UP.search(body)))


def error_of_status(
    status: int, *, detail: str, code: str = "", request_id: str | None, asked: str, waiting_helps: bool = False
) -> APIError:
    """The error for an HTTP status that is not a success; `asked` says what was asked of whom."""
    kind = _BY_STATUS.get(status) or (ServiceError if status >= _SERVER_ERRORS else BadRequestError)
    if status in {_REFUSED, _INVALID} and is_too_long(f"{code} {detail}"):
        kind = ContextLengthError
    if status == _TOO_MANY and is_used_up(f"{code} {detail}", waiting_helps=waiting_helps):
        kind = QuotaExceededError
    error = kind(f"HTTP {status} for {asked}", detail=detail, status=status, request_id=request_id)
    error.code = code
    return error


class AnswerError(AIFSError):
    """The model answered, but its text is no result; `reading` keeps status, text and usage."""

    def __init__(self, reading: Reading, reason: str) -> None:
        self._brief = f"{reading.source} (page {reading.page}): the answer is {reading.status}"
        super().__init__(f"{self._brief}: {reason}")
        self.reading = reading

    @property
    def brief(self) -> str:
        """The message without the reason, which may quote the answer."""
        return self._brief


class BudgetError(AIFSError):
    """The next request could cost more than `max_cost` leaves; it was not sent.

    Attributes:
        max_cost, spent: EUR.
    """

    def __init__(self, max_cost: float, spent: float, wanted: float) -> None:
        super().__init__(
            f"max_cost={max_cost:g} EUR: {spent:.6f} EUR are spent, and the next request could cost {wanted:.6f} EUR. "
            "It was not sent. Go on with another Vision(max_cost=...); with a cache, what is read is not paid again."
        )
        self.max_cost, self.spent, self.wanted = max_cost, spent, wanted
