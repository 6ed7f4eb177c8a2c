"""Everything that can go wrong, in one tree; each class writes its own message.

AIFSError
├── SettingsError               a setting is missing or cannot be right
│   └── ResidencyError          the model's region is unknown or not allowed
├── ImageError                  this picture cannot be read or sent; the others are unharmed
│   ├── ImageNotFoundError      nothing is there
│   ├── ImageAccessError        it is there, but may not or cannot be read
│   ├── ImageFormatError        its bytes are not a picture of a known format
│   ├── ImageBrokenError        a known format, but the decoder gives up
│   ├── ImageEncryptedError     a PDF that opens with a password only
│   ├── ImageTooSmallError      too few pixels to show anything
│   ├── ImageTooLargeError      more bytes, pixels or pages than `ImageLimits` lets through
│   └── SeveralPagesError       one reading was asked for, the source has several pages
├── CacheError                  a cache that cannot be used: foreign, newer, damaged, or out of reach
├── BudgetError                 the next request could cost more than max_cost leaves
├── APIError                    the service said no, or nothing
│   ├── BadRequestError         400, 422 and every other refusal of the request itself
│   │   └── ContextLengthError  more tokens than the model's context window
│   ├── AuthenticationError     401: the key
│   ├── PermissionDeniedError   403: the plan
│   ├── QuotaExceededError      429 that no waiting helps against: a quota or credit is used up
│   ├── NotFoundError           404: the address or the model
│   ├── RequestTooLargeError    413
│   ├── RateLimitError          429, for longer than one is willing to wait
│   ├── ServiceError            408, 409, 425 and 5xx, after the last attempt
│   ├── APIConnectionError      no connection, or it broke
│   │   └── APITimeoutError     no answer in time
│   └── UnexpectedAnswerError   a success that is not what was promised
└── AnswerError                 the model answered, but its text is no result
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AIFSError",
    "CacheError",
    "ImageAccessError",
    "ImageBrokenError",
    "ImageEncryptedError",
    "ImageError",
    "ImageFormatError",
    "ImageNotFoundError",
    "ImageTooLargeError",
    "ImageTooSmallError",
    "ResidencyError",
    "SettingsError",
    "SeveralPagesError",
    "one_line",
]


def one_line(text: str) -> str:
    """A text as one line, with nothing in it that a terminal or a log takes for an order."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class AIFSError(Exception):
    """The root of everything this project raises on purpose; all of it can be pickled."""

    @property
    def brief(self) -> str:
        """The message for logs, which a service's or a model's own words are not for: they may repeat anything."""
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[AIFSError], args: tuple[Any, ...], state: dict[str, Any]) -> AIFSError:
    """An error as it was pickled; its constructor, which composes the message, is not run again."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


# -- Settings ----------------------------------------------------------------------------------------------


class SettingsError(AIFSError):
    """A setting is missing or cannot be right; raised before anything is sent."""

    @classmethod
    def missing_key(cls) -> Self:
        """No key was found in any of its places."""
        return cls(
            "No API key. Set the environment variable AIFS_API_KEY or pass api_key=... "
            "(OPENAI_API_KEY is used only while OPENAI_BASE_URL points at the service)."
        )

    @classmethod
    def bad_key(cls, where: str, what: str) -> Self:
        """A key that no HTTP header can carry; the key itself is not shown."""
        return cls(f"The API key from {where} {what}. Copy it again, without line breaks, blanks or quotes.")

    @classmethod
    def bad_base_url(cls, value: object, where: str) -> Self:
        """An address that is not http(s)://host; a password in it is not shown."""
        shown = _without_secrets(value) if isinstance(value, str) else value
        return cls(
            f"The address {shown!r} from {where} is not a URL of the form 'https://host/v2'. "
            "Set AIFS_BASE_URL or pass base_url=..., with its scheme."
        )

    @classmethod
    def bad_choice(cls, name: str, value: object, choices: tuple[str, ...]) -> Self:
        """A value outside a closed set."""
        return cls(f"{name}={value!r} is not known. Use one of: {', '.join(map(repr, choices))}.")

    @classmethod
    def bad_value(cls, name: str, value: object, rule: str) -> Self:
        """A value that is not possible, and the rule that it breaks."""
        return cls(f"{name}={value!r} is not possible: {rule}.")

    @classmethod
    def bad_route(cls, proxy: str | None, reason: str) -> Self:
        """A proxy or certificates, named by the environment, that cannot be used; a password is not shown."""
        via = f"through the proxy {_without_secrets(proxy)!r}" if proxy else "with the certificates it names"
        return cls(
            f"No way to the service {via}: {_without_secrets(reason)}. "
            "Check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR."
        )

    @classmethod
    def blind_model(cls, model: str) -> Self:
        """A model of the catalogue that takes no images."""
        return cls(
            f"The model {model!r} does not take images. Choose one that does, for example "
            "'Qwen3-VL-30B-A3B-Instruct-FP8' (Germany) or 'gpt-4.1' (EU)."
        )

    @classmethod
    def wrong_kind(cls, model: str, kind: str, wanted: str, example: str) -> Self:
        """A model of the catalogue that is for something else."""
        return cls(f"The model {model!r} is for {kind}, not for {wanted}. Choose one that is, such as {example!r}.")


def _without_secrets(address: str) -> str:
    """An address without user, password and query, whatever is wrong with its form."""
    bare = re.sub(r"\?.*", "?***", address, flags=re.DOTALL)
    return re.sub(r"^(\w+:/*)?.*@", r"\1***@", bare, flags=re.DOTALL)


class ResidencyError(SettingsError):
    """The model's region is unknown or not allowed; nothing was sent."""

    def __init__(self, model: str, region: str | None, residency: str) -> None:
        where = "its region is not known" if region is None else f"it runs in {region!r}"
        super().__init__(
            f"residency={residency!r} forbids the model {model!r}: {where}. Nothing was sent. "
            "Choose a model of an allowed region, or another residency=... ('germany', 'eu' or None)."
        )
        self.model, self.region, self.residency = model, region, residency


class CacheError(AIFSError):
    """A cache that cannot be used; whatever is wrong with its file, the file was left as it is."""

    @classmethod
    def foreign(cls, path: str, what: str) -> Self:
        """A file that is something else than a cache of this project, or a later version's."""
        return cls(f"cache={path!r}: {what}. It was left as it is; name another file.")

    @classmethod
    def failed(cls, name: str, reason: str) -> Self:
        """A cache that could not be read or written."""
        return cls(f"The cache {name!r} failed ({reason}). Mend it, or go on without cache=.")


# -- Images ------------------------------------------------------------------------------------------------


class ImageError(AIFSError):
    """This picture cannot be read or sent. `source` is what the user gave, `page` counts from 1."""

    def __init__(self, source: str, what: str, *, page: int | None = None) -> None:
        place = source if page is None else f"{source} (page {page})"
        super().__init__(f"{place}: {what}")
        self.source, self.page = source, page


class ImageNotFoundError(ImageError):
    """Nothing is there: no such file or folder, or a folder without images."""

    def __init__(self, source: str, what: str = "no such file or folder. Check the path.") -> None:
        super().__init__(source, what)


class ImageAccessError(ImageError):
    """It is there, but may not or cannot be read."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, f"cannot be read ({reason}). Check its permissions and that it is whole.")


class ImageFormatError(ImageError):
    """Its bytes are not a picture of a known format, whatever its name says."""

    def __init__(self, source: str, found: str, *, remedy: str = "") -> None:
        known = "it reads JPEG, PNG, GIF, WebP, BMP, TIFF, JPEG 2000, PPM, ICO, AVIF, HEIC, PDF and videos"
        known = f"{known}, told by their first bytes"
        super().__init__(source, f"{found} is not a picture this project reads ({remedy or known}).")

    @classmethod
    def needs(cls, source: str, found: str, extra: str) -> Self:
        """A format whose decoder comes with an extra that is not installed."""
        error = cls(source, found)
        error.args = (f"{source}: reading {found} needs the extra {extra!r}: pip install 'aifs-vision[{extra}]'",)
        return error


class ImageBrokenError(ImageError):
    """A known format, but the decoder gives up: cut off, damaged or not what its header says."""

    def __init__(self, source: str, kind: str, reason: str, *, page: int | None = None) -> None:
        super().__init__(source, f"this {kind} is damaged or cut off ({reason}). Get the whole file again.", page=page)


class ImageEncryptedError(ImageError):
    """A PDF that opens with a password only."""

    def __init__(self, source: str) -> None:
        super().__init__(source, "this PDF is protected with a password. Save a copy without it, and read that.")


class ImageTooSmallError(ImageError):
    """Too few pixels to show anything."""

    def __init__(self, source: str, width: int, height: int, least: int, *, page: int | None = None) -> None:
        what = f"{width} x {height} px is too small to show anything; both sides need {least} px."
        super().__init__(source, what, page=page)
        self.width, self.height = width, height


class ImageTooLargeError(ImageError):
    """More than `ImageLimits` lets through: a mistake, a bomb, or a file whose owner knows better.

    `limit` names the bound, for example "max_pixels".
    """

    def __init__(self, source: str, what: str, limit: str, most: float, *, page: int | None = None) -> None:
        remedy = "Shrink or cut it first, or, where the file can be trusted, raise the bound"
        super().__init__(
            source, f"{what}; {limit} is {most:,}. {remedy}: image_limits=ImageLimits({limit}=...).", page=page
        )
        self.limit = limit


class SeveralPagesError(ImageError):
    """One reading was asked for, but the source has several pages: none of them is dropped silently."""

    def __init__(self, source: str, total_pages: int) -> None:
        remedy = "Use read_many([...]), which gives one for each page."
        super().__init__(source, f"has {total_pages} pages, and read() gives one reading. {remedy}")
        self.total_pages = total_pages
