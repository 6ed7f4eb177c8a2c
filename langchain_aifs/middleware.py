"""`ImageBudgetMiddleware`: a model is shown the last pictures of a conversation, and captions of the others."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from aifs_vision import ImageError, SettingsError, SourcePages, Vision, model_card
from langchain_aifs._conversation import Shown, shown_in, without_pictures
from langchain_aifs._counting import message_tokens
from langchain_aifs._sendable import Eyes
from langchain_aifs.messages import DEFAULT_MODEL

try:
    from langchain.agents.middleware import AgentMiddleware
except ImportError as error:
    raise ImportError("ImageBudgetMiddleware needs LangChain's agents: pip install 'langchain>=1.0'") from error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langchain.agents.middleware import ModelRequest, ModelResponse

    from aifs_vision import Reading, Run, Source

__all__ = ["ImageBudgetMiddleware"]

_REMEMBERED = 1_000  # captions
_CAPTION = 600  # characters
_LOOKING = "ask_image"  # the tool that looks at a picture again


class ImageBudgetMiddleware(AgentMiddleware):
    """Keeps the last pictures of an agent's history, and puts captions in the place of older ones.

        vision = Vision(cache="captions.sqlite")
        agent = create_agent(ChatAIFS(), tools, middleware=[ImageBudgetMiddleware(max_images=3, vision=vision)])

    A picture that was shown is otherwise sent, and paid, at each later turn. It is the request that is changed: the
    state, and so the checkpointer, keeps every picture, and the tools of `AIFSVisionToolkit` can look at one that is
    not shown any more by the name that stands in its place, "picture 1". Pictures in results of tools count as well as
    the user's; so do documents and videos.

    The request that goes to the model, and what LangChain's tracers see of it, hold the pictures that are left. To
    keep those out of traces as well, see `langchain_aifs.redacted`; the middleware's own spans have no contents.

    Args:
        max_images: how many pictures are shown at most; None for any number. 0 suits a model that sees none.
        max_tokens: how many input tokens the pictures that are shown may have; None for any number. The last picture is
            shown however many it has, as it is what is being asked about; 0 shows none.
        model: by whose rule tokens of pictures are counted.
        vision: who writes the captions, once for each picture; without one, the place only says what was shown there.
            A picture that cannot be captioned is treated so, too, and tried again at the next turn.
        edits_state: True also takes the pictures out of the state, for good.

    Raises:
        SettingsError: neither bound is given, or one below 0.
        ImportError: LangChain's agents are not installed.
    """

    def __init__(
        self,
        *,
        max_images: int | None = 4,
        max_tokens: int | None = None,
        model: str = DEFAULT_MODEL,
        vision: Vision | None = None,
        edits_state: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("max_images", max_images), ("max_tokens", max_tokens)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise SettingsError.bad_value(name, value, "it is a whole number, 0 or more, or None")
        if max_images is None and max_tokens is None:
            raise SettingsError.bad_value("max_images", None, "one of max_images and max_tokens is given")
        if vision is not None and not isinstance(vision, Vision):
            raise TypeError(f"vision={vision!r} is not a Vision")
        self._max_images, self._max_tokens, self._edits_state = max_images, max_tokens, edits_state
        self._eyes = Eyes(card=model_card(model), size="auto", frames="auto", limits=None)
        self._vision = vision
        self._captions = _Captions()
        self.trace_policy = _without_contents()

    # -- What LangChain calls ------------------------------------------------------------------------------------

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Sends the request with the pictures that are within the budget."""
        over = self._over(request.messages)
        self._learn(over)
        return handler(self._lighter(request, over))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """The asynchronous twin of `wrap_model_call`."""
        over = await asyncio.to_thread(self._over, request.messages)
        await self._alearn(over)
        return await handler(self._lighter(request, over))

    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Takes pictures beyond the budget out of the state, where that is asked for."""
        del runtime
        over = self._over(state["messages"]) if self._edits_state else []
        self._learn(over)
        return self._update(state["messages"], over)

    async def abefore_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """The asynchronous twin of `before_model`."""
        del runtime
        over = await asyncio.to_thread(self._over, state["messages"]) if self._edits_state else []
        await self._alearn(over)
        return self._update(state["messages"], over)

    # -- The budget ----------------------------------------------------------------------------------------------

    def _over(self, messages: Sequence[BaseMessage]) -> list[Shown]:
        """The pictures that are beyond the budget, which begins with the last one and ends at the first that is."""
        shown, tokens = list(shown_in(messages)), 0
        for kept, picture in enumerate(reversed(shown)):
            if self._max_tokens is not None:
                tokens += self._tokens(picture)
            too_many = self._max_tokens is not None and tokens > self._max_tokens
            if kept == self._max_images or self._max_tokens == 0 or (too_many and kept):
                return shown[: len(shown) - kept]
        return []

    def _tokens(self, picture: Shown) -> int:
        alone, empty = HumanMessage([picture.content]), HumanMessage("")
        try:
            return message_tokens([alone], (), self._eyes) - message_tokens([empty], (), self._eyes)
        except ImageError:
            return 0  # whoever sends it says what is wrong with it

    def _learn(self, over: Sequence[Shown]) -> None:
        """Has the captions written that are missing."""
        for reading in self._missing(over) or ():
            self._captions.learn(reading)

    async def _alearn(self, over: Sequence[Shown]) -> None:
        """The asynchronous twin of `_learn`."""
        if over and (readings := await asyncio.to_thread(self._missing, over)):
            async for reading in readings:
                self._captions.learn(reading)

    def _missing(self, over: Sequence[Shown]) -> Run | None:
        """A run over the pictures whose captions are missing; what fails in it is kept, and raises nothing."""
        if self._vision is None:
            return None
        missing = self._captions.missing(over)
        return self._vision.read_many(missing, "caption", on_error="keep") if missing else None

    def _lighter(self, request: ModelRequest[Any], over: Sequence[Shown]) -> ModelRequest[Any]:
        if not over:
            return request
        looks = any(getattr(tool, "name", None) == _LOOKING for tool in request.tools)
        changed = self._without(request.messages, over, looks=looks)
        return request.override(messages=[changed.get(at, old) for at, old in enumerate(request.messages)])

    def _update(self, messages: Sequence[BaseMessage], over: Sequence[Shown]) -> dict[str, Any] | None:
        return {"messages": list(self._without(messages, over, looks=False).values())} if over else None

    def _without(self, messages: Sequence[BaseMessage], over: Sequence[Shown], *, looks: bool) -> dict[int, Any]:
        """The messages that change, by their places."""
        texts: dict[int, dict[int, tuple[int, str]]] = {}
        for picture in over:
            caption = None if self._vision is None else self._captions.of(picture)
            author = _author(messages[picture.message])
            told = f", shown earlier: {caption}" if caption else f" was shown here by {author}"
            hint = f" {_LOOKING} can look at it again by this name." if looks else ""
            texts.setdefault(picture.message, {})[picture.block] = picture.number, f"[{picture.name}{told}]{hint}"
        return {at: without_pictures(messages[at], instead) for at, instead in texts.items()}


def _author(message: BaseMessage) -> str:
    if isinstance(message, ToolMessage):
        return f"the tool {message.name!r}" if message.name else "a tool"
    return "the user" if isinstance(message, HumanMessage) else "the assistant"


class _Captions:
    """The captions of the pictures that were asked about last, by their contents; shared by all runs of an agent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, str] = OrderedDict()

    def of(self, picture: Shown) -> str | None:
        """The caption of a picture, if there is one."""
        key = picture.key
        with self._lock:
            if key in self._texts:
                self._texts.move_to_end(key)
            return self._texts.get(key)

    def missing(self, pictures: Sequence[Shown]) -> list[Source]:
        """What is to be captioned: each picture once, under its name here."""
        found = {picture.key: picture for picture in pictures}
        with self._lock:
            left = {key: picture for key, picture in found.items() if key not in self._texts}
        sources: list[Source] = []
        for key, picture in left.items():
            with suppress(ImageError):  # nobody can read it
                source = picture.source()
                sources.append(SourcePages(source=(key, source) if isinstance(source, bytes) else source, pages=(1,)))
        return sources

    def learn(self, reading: Reading) -> None:
        """Keeps a caption, and drops the one that was asked for longest ago; a failure is no caption."""
        text = " ".join(reading.text.split())
        if not reading.ok or not text:
            return
        with self._lock:
            self._texts[reading.source] = text if len(text) <= _CAPTION else f"{text[:_CAPTION]}..."
            while len(self._texts) > _REMEMBERED:
                self._texts.popitem(last=False)


def _without_contents() -> Any:
    """The trace policy of spans that hold no messages; None where LangGraph has none yet."""
    try:
        from langgraph.types import TracePolicy, omit_payload
    except ImportError:
        return None
    return TracePolicy(process_inputs=omit_payload, process_outputs=omit_payload)
