"""Would the service take this request? Strict, so that a wrong client fails here and not at a customer."""

from __future__ import annotations

import base64
import binascii
import io
import re
import urllib.request
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aifs_vision._catalogue import model_card

if TYPE_CHECKING:
    from PIL import Image

    from aifs_vision._catalogue import ModelCard

__all__ = [
    "ChatRequest",
    "Refused",
    "SentImage",
    "check_chat",
    "check_embeddings",
    "check_image",
    "decode_images",
    "known_model",
    "schema_of",
    "shortened",
]

_LABELS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/gif": "GIF"}
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_FIELDS = frozenset(
    re.findall(
        r"\w+",
        """
    frequency_penalty logit_bias logprobs max_completion_tokens max_tokens messages metadata modalities
    model n parallel_tool_calls prediction presence_penalty reasoning_effort response_format seed
    service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user
    verbosity
    """,
    )
)
_LARGEST_FETCH = 32 * 2**20  # bytes
_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)


class Refused(Exception):  # noqa: N818 - an answer of the emulator, never seen outside of it
    """An answer other than 200, with the words that go into its body."""

    def __init__(self, status: int, words: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(words)
        self.status, self.words, self.headers = status, words, headers


@dataclass(kw_only=True)
class SentImage:
    """One picture of a request: its label and bytes (or its URL), `detail`, decoded where it was sent inline."""

    label: str | None = None
    data: bytes = field(default=b"", repr=False)
    url: str | None = None
    detail: str | None = None
    picture: Image.Image | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A chat request that has passed the checks; what a `reply=` callable gets to see.

    Attributes:
        model: the model's name, as asked for.
        card: what the catalogue knows of it.
        body: the whole JSON, pictures included; of a request to /responses, as a chat would ask the same.
        prompt: the text of the last user message.
        texts: the text of every message, in order.
        images: the pictures of all user messages, in order; each `picture` is a PIL image.
        schema: the JSON schema of `response_format`, {} for JSON mode, None for plain text.
    """

    model: str
    card: ModelCard
    body: dict[str, Any] = field(repr=False)
    prompt: str
    texts: tuple[str, ...] = field(repr=False)
    images: tuple[SentImage, ...]
    schema: dict[str, Any] | None

    @property
    def stream(self) -> bool:
        """Whether the answer is to be streamed."""
        return self.body.get("stream") is True

    @property
    def max_tokens(self) -> int | None:
        """The room for the answer, in whichever field it came."""
        return self.body.get("max_completion_tokens") or self.body.get("max_tokens")


def known_model(name: object, kind: str) -> ModelCard:
    """The card of a model that this endpoint serves."""
    if not isinstance(name, str) or not name:
        raise Refused(400, "body.model: Field required")
    card = model_card(name)
    if not card.known or card.kind != kind:
        raise Refused(404, f"The model `{name}` does not exist.")
    return card


def check_chat(body: Any) -> ChatRequest:
    """The request, all but its pictures checked.

    Raises:
        Refused: it is not one the service would take.
    """
    if not isinstance(body, dict):
        raise Refused(400, "body: Input should be a valid dictionary")
    card = known_model(body.get("model"), "chat")
    if strange := sorted(set(body) - _FIELDS):
        raise Refused(400, f"Unrecognized request argument supplied: {', '.join(strange)}")
    _check_room(body, card)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "body.messages: List should have at least 1 item")
    texts: list[str] = []
    images: list[SentImage] = []
    prompt = ""
    for index, message in enumerate(messages):
        text, found = _check_message(message, f"messages[{index}]", card)
        texts.append(text)
        images += found
        prompt = text if message["role"] == "user" else prompt
    return ChatRequest(
        model=body["model"],
        card=card,
        body=body,
        prompt=prompt,
        texts=tuple(texts),
        images=tuple(images),
        schema=schema_of(body.get("response_format")),
    )


def check_embeddings(body: Any) -> tuple[ModelCard, list[str]]:
    """The model and the texts of a request for embeddings.

    Raises:
        Refused: it is not one the service would take, such as one with token ids instead of text.
    """
    if not isinstance(body, dict):
        raise Refused(400, "body: Input should be a valid dictionary")
    card = known_model(body.get("model"), "embedding")
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Refused(400, "body.input: Input should be a valid string or a list of strings")
    if body.get("encoding_format", "float") not in ["float", "base64"]:
        raise Refused(400, "body.encoding_format: Input should be 'float' or 'base64'")
    return card, texts


def decode_images(request: ChatRequest) -> None:
    """Decodes the pictures that came inline, each by the label it has and wholly; blocks, it is real work.

    Raises:
        Refused: a label that does not fit, or bytes that do not decode.
    """
    from PIL import Image, UnidentifiedImageError

    for image in request.images:
        if image.url is not None:
            image.data = _fetched(image.url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            try:
                picture = Image.open(io.BytesIO(image.data))
                picture.load()
            except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
                raise Refused(400, f"cannot identify or decode the image: {error}") from error
        if image.label is not None and picture.format != _LABELS[image.label]:
            raise Refused(400, f"the image is labelled {image.label} but is {picture.format}")
        if getattr(picture, "is_animated", False):
            raise Refused(400, f"the image is an animated {picture.format}")
        image.picture = picture


def _fetched(url: str) -> bytes:
    """The bytes behind an address on this machine; the emulator has no network."""
    if urlsplit(url).hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise Refused(400, f"the emulator fetches pictures from this machine only: {url[:80]!r}")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=10) as answer:
            data: bytes = answer.read(_LARGEST_FETCH)
    except OSError as error:
        raise Refused(400, f"cannot fetch {url[:80]!r}: {error}") from error
    return data


def _check_room(body: dict[str, Any], card: ModelCard) -> None:
    given = [name for name in ("max_tokens", "max_completion_tokens") if body.get(name) is not None]
    if len(given) > 1:
        raise Refused(400, "max_tokens and max_completion_tokens must not both be set")
    for name in given:
        if not isinstance(body[name], int) or body[name] < 1:
            raise Refused(400, f"body.{name}: Input should be greater than or equal to 1")
        if name == "max_tokens" and card.max_tokens_field != name:
            raise Refused(
                400,
                f"Unsupported parameter: '{name}' is not supported with this model. "
                "Use 'max_completion_tokens' instead.",
            )
    if not card.takes_temperature and body.get("temperature") not in [None, 1]:
        raise Refused(400, "Unsupported value: 'temperature' does not support other values than 1 with this model.")


def _check_message(message: Any, place: str, card: ModelCard) -> tuple[str, list[SentImage]]:
    """The text and the pictures of one message."""
    if not isinstance(message, dict) or message.get("role") not in [*_ROLES]:
        raise Refused(400, f"{place}.role: Input should be one of {', '.join(sorted(_ROLES))}")
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        return "", []
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise Refused(400, f"{place}.content: Input should be a valid string or list")
    texts, images = [], []
    for index, part in enumerate(content):
        where = f"{place}.content[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            if message["role"] != "user":
                raise Refused(400, "Image URLs are only allowed for messages with role 'user'")
            if not card.takes_images:
                raise Refused(400, f"{card.name} is not a multimodal model")
            images.append(check_image(part.get("image_url"), where))
        else:
            raise Refused(400, f"{where}: unknown part type {kind!r}")
    return "\n".join(texts), images


def check_image(given: Any, where: str) -> SentImage:
    """The picture of a content part that stands there, all but its bytes checked."""
    if not isinstance(given, dict) or not isinstance(given.get("url"), str):
        raise Refused(400, f"{where}.image_url: Input should be a dictionary with a url")
    if strange := sorted(set(given) - {"url", "detail"}):
        raise Refused(400, f"{where}.image_url: Extra inputs are not permitted: {', '.join(strange)}")
    if given.get("detail", "auto") not in ["auto", "low", "high", "original"]:
        raise Refused(400, f"{where}.image_url.detail: Input should be 'auto', 'low', 'high' or 'original'")
    url = given["url"]
    if urlsplit(url[:100]).scheme in {"http", "https"}:
        return SentImage(url=url, detail=given.get("detail"))
    found = _DATA_URI.fullmatch(url)
    if found is None:
        raise Refused(400, f"{where}.image_url.url: not an http(s) address or data URI: {url[:40]!r}")
    if found[1] not in _LABELS:
        raise Refused(400, f"{where}.image_url.url: unsupported image type {found[1]!r}")
    try:
        data = base64.b64decode(found[2], validate=True)
    except binascii.Error as error:
        raise Refused(400, f"{where}.image_url.url: invalid base64 ({error})") from error
    return SentImage(label=found[1], data=data, detail=given.get("detail"))


def schema_of(given: Any) -> dict[str, Any] | None:
    """The schema of a `response_format`: {} for JSON of any kind, None for text."""
    if given is None or given == {"type": "text"}:
        return None
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "json_object":
        return {}
    schema = given.get("json_schema") if kind == "json_schema" else None
    if not isinstance(schema, dict) or not isinstance(schema.get("name"), str):
        raise Refused(400, f"body.response_format: unknown or incomplete: {kind!r}")
    inner = schema.get("schema")
    if not isinstance(inner, dict):
        raise Refused(400, "body.response_format.json_schema.schema: Field required")
    return inner


def shortened(body: dict[str, Any]) -> dict[str, Any]:
    """The request with its data URIs cut to their labels, for the log."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [cut(inner) for inner in value]
        if isinstance(value, str) and value.startswith("data:"):
            return value.partition(",")[0] + ",..."
        return value

    short: dict[str, Any] = cut(body)
    return short
