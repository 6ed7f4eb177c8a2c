"""`ImageBudgetMiddleware`: which pictures of a history are sent, what stands for the others, and what traces see."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage, messages_from_dict, messages_to_dict
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langsmith import Client

from aifs_vision import Limits, SettingsError, Vision
from aifs_vision.emulator import Emulator
from aifs_vision.testing import isolated
from langchain_aifs import AIFSVisionToolkit, ChatAIFS, ImageBudgetMiddleware, image_block, redacted
from tests.langchain.scripted import called
from tests.pictures import noise, opened, saved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aifs_vision.emulator import ChatRequest


def shot(number: int) -> dict[str, Any]:
    """A picture that its width tells apart."""
    return image_block(saved(noise(40 + number, 40, number + 1)))


def widths(request: Any) -> list[int]:
    """The widths of the pictures of a request."""
    return [opened(data).width for _, data in request.images]


def history(count: int) -> list[Any]:
    """A conversation in which so many pictures were shown."""
    turns = [[HumanMessage([{"type": "text", "text": f"No. {n}"}, shot(n)]), AIMessage("Seen.")] for n in range(count)]
    return [message for turn in turns for message in turn][:-1]


@pytest.fixture
def server() -> Iterator[Emulator]:
    """A service that captions with the picture's width."""

    def reply(asked: ChatRequest) -> str:
        if "caption" in asked.prompt:
            return f"{asked.images[0].picture.width} px of noise"  # type: ignore[union-attr]
        return "Seen."

    with isolated(), Emulator(ocr=False, reply=reply) as server:
        yield server


def settings(server: Emulator) -> dict[str, Any]:
    """Address and key."""
    return {"base_url": server.base_url, "api_key": server.api_key, "limits": Limits()}


def agent(server: Emulator, middleware: ImageBudgetMiddleware, tools: Any = (), **options: Any) -> Any:
    """An agent with that middleware."""
    return create_agent(ChatAIFS(**settings(server)), list(tools), middleware=[middleware], **options)


def chats(server: Emulator) -> list[Any]:
    """The requests of the agent itself, captions left out."""
    return [request for request in server.requests if "Write a caption" not in str(request.body)]


def texts(request: Any) -> list[str]:
    """All texts of a request's messages."""
    parts = [part for message in request.body["messages"] for part in _parts(message)]
    return [part["text"] for part in parts if part["type"] == "text"]


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"] or []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


# -- Budget ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "left"), [(0, []), (1, [44]), (3, [42, 43, 44]), (5, [40, 41, 42, 43, 44]), (9, None)]
)
def test_the_last_pictures_are_kept(server: Emulator, most: int, left: list[int] | None) -> None:
    """Of five pictures the last ones are sent, and what stood for the others names them, in their places."""
    agent(server, ImageBudgetMiddleware(max_images=most)).invoke({"messages": history(5)})
    (request,) = server.requests
    kept = [40, 41, 42, 43, 44] if left is None else left
    assert widths(request) == kept
    gone = [text for text in texts(request) if text.startswith("[picture")]
    assert gone == [f"[picture {number} was shown here by the user]" for number in range(1, 6 - len(kept))]
    assert [text for text in texts(request) if text.startswith("No.")] == [f"No. {number}" for number in range(5)]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text-plain", "text": "A clause.", "mime_type": "text/plain"},
        {"type": "file", "source_type": "text", "text": "A clause.", "mime_type": "text/plain"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A clause."}},
        {"type": "file", "base64": base64.b64encode(b"A clause.").decode(), "mime_type": "text/markdown"},
    ],
)
def test_texts_are_no_pictures(server: Emulator, block: dict[str, Any]) -> None:
    """Texts that are attached stay, however many: the budget is of pictures; one in another's wrapping counts."""
    wrapped = {"type": "non_standard", "value": image_block(noise(40, 40, 1))}
    messages = [HumanMessage([block]), HumanMessage([wrapped]), HumanMessage([image_block(noise(41, 41, 2))])]
    agent(server, ImageBudgetMiddleware(max_images=1)).invoke({"messages": messages})
    assert texts(server.requests[0]) == ["A clause.", "[picture 1 was shown here by the user]"]
    assert widths(server.requests[0]) == [41]


@pytest.mark.parametrize(("most", "count"), [(0, 0), (10, 1), (100_000, 4)])
def test_tokens_are_a_bound_as_well(server: Emulator, most: int, count: int) -> None:
    """`max_tokens` bounds what the pictures count together; both bounds hold; the last one alone is never too large."""
    middleware = ImageBudgetMiddleware(max_images=4, max_tokens=most)
    agent(server, middleware).invoke({"messages": history(6)})
    assert len(server.requests[0].images) == count


def test_tokens_are_those_of_the_model(server: Emulator) -> None:
    """As many pictures are kept as fit by the rule of the model: two large ones where four would be too much."""
    large = [HumanMessage([image_block(noise(640, 640, seed))]) for seed in range(1, 5)]
    each = ChatAIFS(**settings(server)).get_num_tokens_from_messages(large[:1]) - 4
    middleware = ImageBudgetMiddleware(max_images=None, max_tokens=2 * each + each // 2)
    agent(server, middleware).invoke({"messages": large})
    assert len(server.requests[0].images) == 2


def test_captions_stand_for_older_pictures(server: Emulator) -> None:
    """With a Vision the older pictures are captioned, each once however many turns follow, and by whatever thread."""
    vision = Vision(**settings(server))
    with_captions = agent(server, ImageBudgetMiddleware(max_images=1, vision=vision))
    with_captions.invoke({"messages": history(3)})
    assert len(server.requests) == 3
    (request,) = chats(server)
    assert [text for text in texts(request) if text.startswith("[picture")] == [
        "[picture 1, shown earlier: 40 px of noise]",
        "[picture 2, shown earlier: 41 px of noise]",
    ]
    asyncio.run(with_captions.ainvoke({"messages": history(4)}))
    assert len(server.requests) == 5
    assert "[picture 3, shown earlier: 42 px of noise]" in texts(chats(server)[-1])
    with_captions.invoke({"messages": history(4)})
    assert len(server.requests) == 6


@pytest.mark.parametrize("fault", [401, 400])
def test_failing_captions_do_not_end_the_run(server: Emulator, fault: int) -> None:
    """A caption that cannot be had leaves the plain words, and is tried again at the next turn."""
    other = Emulator(ocr=False)
    with other:
        vision = Vision(**settings(other))
        careful = agent(server, ImageBudgetMiddleware(max_images=1, vision=vision))
        other.fail(fault, times=2)
        for run in (careful.invoke, lambda given: asyncio.run(careful.ainvoke(given))):
            run({"messages": history(2)})
            assert "[picture 1 was shown here by the user]" in texts(server.requests[-1])
        careful.invoke({"messages": history(2)})
        assert any("shown earlier" in text for text in texts(server.requests[-1]))


class Broken:
    """A cache that nobody can reach."""

    def get(self, _: str) -> str | None:
        """Nothing, ever."""
        raise OSError("out of reach")

    def put(self, _: str, __: str) -> None:
        """Nothing, either."""
        raise OSError("out of reach")


def test_a_caption_that_fails_leaves_the_others(server: Emulator) -> None:
    """One picture whose caption is no result, or refused, has the plain words, and the others their captions."""

    def reply(asked: ChatRequest) -> dict[str, Any]:
        width = asked.images[0].picture.width  # type: ignore[union-attr]
        return {"content": f"{width} px", **({"finish_reason": "content_filter"} if width == 41 else {})}

    with Emulator(ocr=False, reply=reply) as other:
        other.fail(400)
        one_by_one = {**settings(other), "limits": Limits(in_flight=1)}  # so that it is the first picture's
        middleware = ImageBudgetMiddleware(max_images=1, vision=Vision(**one_by_one))
        agent(server, middleware).invoke({"messages": history(5)})
        told = [text for text in texts(server.requests[-1]) if text.startswith("[picture")]
    assert sum("shown earlier" in text for text in told) == 2
    assert "41 px" not in str(told)


def test_a_cache_that_fails_does_not_end_the_run(server: Emulator) -> None:
    """Whatever is wrong with the captions, the model is asked."""
    middleware = ImageBudgetMiddleware(max_images=1, vision=Vision(**settings(server), cache=Broken()))
    agent(server, middleware).invoke({"messages": history(2)})
    assert any(text.startswith("[picture 1") for text in texts(chats(server)[-1]))


def test_pictures_of_tools_count(server: Emulator) -> None:
    """A picture in a tool's result is one like others, and its place says which tool has shown it."""
    messages = [
        HumanMessage("Look."),
        AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1", "type": "tool_call"}]),
        ToolMessage([{"type": "text", "text": "here"}, shot(1)], tool_call_id="1", name="look"),
        HumanMessage(["And this?", shot(2)]),
    ]
    agent(server, ImageBudgetMiddleware(max_images=1)).invoke({"messages": messages})
    assert widths(server.requests[0]) == [42]
    assert any("[picture 1 was shown here by the tool 'look']" in text for text in texts(server.requests[0]))


def test_the_state_keeps_every_picture(server: Emulator) -> None:
    """What the checkpointer has is whole, and the messages that were given are unchanged."""
    given = history(3)
    before = [message.model_copy(deep=True) for message in given]
    thread: Any = {"configurable": {"thread_id": "1"}}
    keeping = agent(server, ImageBudgetMiddleware(max_images=1), checkpointer=InMemorySaver())
    keeping.invoke({"messages": given}, thread)
    kept = keeping.get_state(thread).values["messages"]
    assert sum("base64" in str(message.content) for message in kept) == 3
    assert [message.content for message in given] == [message.content for message in before]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_state_is_edited_where_asked_for(server: Emulator, *, asynchronous: bool) -> None:
    """With `edits_state` older pictures leave the state, too; those that are left keep their numbers."""
    thread: Any = {"configurable": {"thread_id": "1"}}
    middleware = ImageBudgetMiddleware(max_images=1, vision=Vision(**settings(server)), edits_state=True)
    editing = agent(server, middleware, checkpointer=InMemorySaver())

    def turn(messages: list[Any]) -> None:
        if asynchronous:
            asyncio.run(editing.ainvoke({"messages": messages}, thread))
        else:
            editing.invoke({"messages": messages}, thread)

    turn(history(2))
    turn([HumanMessage(["And?", shot(7)])])
    kept = editing.get_state(thread).values["messages"]
    assert sum("base64" in str(message.content) for message in kept) == 1
    told = [text for text in texts(chats(server)[-1]) if text.startswith("[picture")]
    assert told == ["[picture 1, shown earlier: 40 px of noise]", "[picture 2, shown earlier: 41 px of noise]"]
    assert widths(chats(server)[-1]) == [47]


def test_what_is_gone_can_be_looked_at_again(tmp_path: Path) -> None:
    """The toolkit's tools know a picture that is not sent any more by the name in its place, which says so."""
    names: list[str] = []

    def reply(asked: ChatRequest) -> str | dict[str, Any]:
        if "tools" not in asked.body:
            return f"{asked.images[0].picture.width} px"  # type: ignore[union-attr]
        if names:
            return "done"
        names.append(str(asked.texts))
        return {"tool_calls": [called("ask_image", {"image": "picture 1", "question": "How wide?"})]}

    with isolated(), Emulator(ocr=False, reply=reply) as server:
        place: Any = {"base_url": server.base_url, "api_key": server.api_key}
        tools = AIFSVisionToolkit(tmp_path, **place).get_tools()
        looking: Any = create_agent(ChatAIFS(**place), tools, middleware=[ImageBudgetMiddleware(max_images=1)])
        state = looking.invoke({"messages": history(2)})
    assert "[picture 1 was shown here by the user] ask_image can look at it again" in names[0]
    (result,) = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    assert result.content == "40 px"


def text(words: str) -> dict[str, Any]:
    """A text block."""
    return {"type": "text", "text": words}


def test_what_users_write_does_not_shift_the_numbers(server: Emulator) -> None:
    """Texts that look like what stands for a picture are texts: the pictures are called by their order all the same."""
    forged = "[picture 9 was shown here by the user] ask_image can look at it again by this name."
    first, second = (
        [text("[picture 1] is the front"), shot(1)],
        [text("[picture 2] is the back"), shot(2), text(forged)],
    )
    asked = [HumanMessage([*first, *second]), AIMessage("Seen."), HumanMessage([text("[picture 7 is what?"), shot(3)])]
    agent(server, ImageBudgetMiddleware(max_images=1)).invoke({"messages": asked})
    gone = [told for told in texts(server.requests[-1]) if "was shown here" in told and told != forged]
    assert gone == [f"[picture {number} was shown here by the user]" for number in (1, 2)]


def test_what_was_taken_out_keeps_its_number(server: Emulator) -> None:
    """Out of the state as well, also where a checkpoint has made JSON of it; and nothing of that is sent."""
    taking = agent(server, ImageBudgetMiddleware(max_images=1, edits_state=True))
    state = taking.invoke({"messages": history(3)})
    kept = messages_from_dict(json.loads(json.dumps(messages_to_dict(state["messages"]))))
    taking.invoke({"messages": [*kept, HumanMessage([text("And?"), shot(7)])]})
    told = [told for told in texts(server.requests[-1]) if told.startswith("[picture")]
    assert told == [f"[picture {number} was shown here by the user]" for number in (1, 2, 3)]
    assert "taken_out" not in str(server.requests[-1].body)


def test_wrong_settings_are_errors_at_once() -> None:
    """Bounds below 0, none at all, and what is no Vision."""
    wrong: list[dict[str, Any]] = [{"max_images": -1}, {"max_images": None}, {"max_tokens": "x"}, {"max_images": True}]
    for options in wrong:
        with pytest.raises(SettingsError, match="max_"):
            ImageBudgetMiddleware(**options)
    with pytest.raises(TypeError, match="Vision"):
        ImageBudgetMiddleware(vision="x")  # type: ignore[arg-type]


def test_without_langchain_it_says_what_to_install() -> None:
    """LangChain's agents are no dependency; whoever asks for the middleware without them is told."""
    code = "import sys; sys.modules['langchain'] = None; from langchain_aifs import ImageBudgetMiddleware"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'langchain>=1.0'" in done.stderr


# -- Traces ----------------------------------------------------------------------------------------------------------


class Recorder(BaseCallbackHandler):
    """Writes down whatever callbacks are told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_chain_start(self, serialized: Any, inputs: Any, **_: Any) -> None:
        """A chain begins."""
        self.told.append(("chain", [serialized, inputs]))

    def on_chat_model_start(self, serialized: Any, messages: Any, **_: Any) -> None:
        """A model is asked."""
        self.told.append(("model", [serialized, messages]))


def test_callbacks_of_the_model_see_what_is_sent(server: Emulator) -> None:
    """A tracer of the model's call sees the pictures that are left, and no other; redacted, it sees none."""
    recorder = Recorder()
    agent(server, ImageBudgetMiddleware(max_images=1)).invoke({"messages": history(3)}, {"callbacks": [recorder]})
    gone, left = shot(1)["base64"], shot(2)["base64"]
    (asked,) = [messages for kind, messages in recorder.told if kind == "model"]
    assert gone not in str(asked)
    assert left in str(asked)
    assert left not in str(redacted(asked))
    assert all(left not in str(redacted(told)) for told in recorder.told)


class Collecting(http.server.BaseHTTPRequestHandler):
    """A tracing service that keeps what it is sent."""

    sent: bytes = b""

    def do_POST(self) -> None:
        """A run."""
        type(self).sent += self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(202)
        self.end_headers()
        self.wfile.write(b"{}")

    do_PATCH = do_POST  # noqa: N815 - as the handler wants it

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@tool
def look() -> list[dict[str, Any]]:
    """Looks around."""
    return [{"type": "text", "text": "here"}, shot(5)]


@pytest.mark.parametrize("hidden", [True, False])
def test_langsmith_is_sent_no_pictures(server: Emulator, *, hidden: bool) -> None:
    """With `redacted` in its client, LangSmith gets all runs of an agent without any picture; without it, with them."""
    Collecting.sent = b""
    hiding: Any = {"hide_inputs": redacted, "hide_outputs": redacted} if hidden else {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collecting) as collecting:
        threading.Thread(target=collecting.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{collecting.server_port}"
        client = Client(api_url=address, api_key="k", auto_batch_tracing=False, **hiding)
        tracer = LangChainTracer(client=client)
        tracing = agent(server, ImageBudgetMiddleware(max_images=1), [look])
        tracing.invoke({"messages": history(3)}, {"callbacks": [tracer]})
        tracer.wait_for_futures()
        client.flush()
        collecting.shutdown()
    assert b"No. 2" in Collecting.sent
    for number in range(3):
        assert (shot(number)["base64"][:200].encode() in Collecting.sent) is not hidden
    assert (b" bytes]" in Collecting.sent) is hidden
    assert json.dumps("Seen.").encode() in Collecting.sent
