"""What a chat model costs beside LangChain's own: python benchmarks/chat.py.

CPU milliseconds of the whole process for a call of `ChatAIFS`, and of LangChain's `ChatOpenAI` on the same emulator,
which runs in a process of its own; the sides take turns. Asked are a text, one after the other and eight at a time,
and photos of twelve megapixels, each another one: ours are given to `image_block`, theirs are read and turned into a
data URI by hand, and sent as large as they are. A call with a photo that is in the message already, as at every turn
of a conversation, has a goal; beside it stands what it takes from the file to the answer, where decoding twelve
megapixels, for a ninth of the bytes and a seventh of the tokens, costs more CPU than not to care. What making a model
takes stands there, too. Streams of some hundred small pieces are read as fast as they come, and from a server that
lets a millisecond pass after each, as models do: then every piece wakes the reader.

The goals: at most 1.05 times theirs for texts and streams, and less than theirs for photos.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage
from PIL import Image, ImageChops

from aifs_vision.emulator import Emulator
from benchmarks.rivals import MODEL, aside, goal
from tests.pictures import saved
from tests.scenes import lake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aifs_vision.emulator import ChatRequest

TEXTS, PHOTOS, MADE, IN_FLIGHT, ROUNDS = 200, 12, 50, 8, 5
MOST = 1.05  # times the CPU of the other side
ASKED = "What is shown?"
LONG = " ".join(f"word{number}" for number in range(1_200))  # three words a piece
STREAMS, PAUSE = 10, 0.001  # seconds after each piece


def ours() -> Any:
    """This project's chat model."""
    from aifs_vision import Limits
    from langchain_aifs import ChatAIFS

    return ChatAIFS(model=MODEL, limits=Limits(in_flight=IN_FLIGHT))


def theirs() -> Any:
    """LangChain's, told where to ask."""
    from langchain_openai import ChatOpenAI

    options: dict[str, Any] = {"base_url": os.environ["AIFS_BASE_URL"], "api_key": os.environ["AIFS_API_KEY"]}
    return ChatOpenAI(model=MODEL, **options)


def block_of_ours(path: Path) -> dict[str, Any]:
    """The picture of a file, as this project has it."""
    from langchain_aifs import image_block

    return image_block(path)


def block_of_theirs(path: Path) -> dict[str, Any]:
    """The picture of a file, as everybody writes it."""
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


SIDES: dict[str, tuple[Callable[[], Any], Callable[[Path], dict[str, Any]]]] = {
    "ChatAIFS": (ours, block_of_ours),
    "ChatOpenAI": (theirs, block_of_theirs),
}


def side(name: str, folder: str) -> None:
    """Runs one side in this process, and prints its CPU milliseconds for each kind of call."""
    make, block = SIDES[name]
    chat, (warm_up, *paths) = make(), sorted(Path(folder).iterdir())

    def asked(path: Path) -> list[HumanMessage]:
        return [HumanMessage([{"type": "text", "text": ASKED}, block(path)])]

    def ask_from_files() -> None:
        for path in paths:
            messages.append(asked(path))
            chat.invoke(messages[-1])

    def ask_texts() -> None:
        for _ in range(TEXTS):
            chat.invoke("Hello")

    async def ask_side_by_side() -> None:
        await chat.abatch(["Hello"] * TEXTS, {"max_concurrency": IN_FLIGHT})

    def ask_photos() -> None:
        for message in messages:
            chat.invoke(message)

    messages: list[list[HumanMessage]] = []
    chat.invoke(asked(warm_up))
    for _ in range(20):
        chat.invoke("Hello")
    asyncio.run(chat.ainvoke("Hello"))
    taken = {
        "text": _cost(ask_texts, TEXTS),
        f"text, {IN_FLIGHT} at a time": _cost(lambda: asyncio.run(ask_side_by_side()), TEXTS),
        "photo, from its file": _cost(ask_from_files, len(paths)),
        "photo, a call": _cost(ask_photos, len(paths)),
        "making one": _cost(lambda: [make() for _ in range(MADE)], MADE),
    }
    print(json.dumps(taken))


def streams(name: str, kind: str) -> None:
    """Reads streams on one side in this process, and prints its CPU milliseconds for one."""
    chat = SIDES[name][0]()

    def read() -> None:
        for _ in range(STREAMS):
            assert sum(len(chunk.text) for chunk in chat.stream("Hello")) == len(LONG)

    async def read_awaited() -> None:
        for _ in range(STREAMS):
            assert sum([len(chunk.text) async for chunk in chat.astream("Hello")]) == len(LONG)

    read()
    asyncio.run(read_awaited())
    taken = {kind: _cost(read, STREAMS), f"{kind}, async": _cost(lambda: asyncio.run(read_awaited()), STREAMS)}
    print(json.dumps(taken))


def _cost(work: Callable[[], Any], times: int) -> float:
    """CPU milliseconds of this process for one of so many."""
    before = time.process_time()
    work()
    return 1000 * (time.process_time() - before) / times


def _ratio(rounds: Sequence[dict[str, dict[str, float]]], what: str) -> float:
    """The middle one of the rounds' ratios, so that what disturbs the machine for a while disturbs no figure."""
    return median(each["ChatAIFS"][what] / each["ChatOpenAI"][what] for each in rounds)


def photos(count: int) -> list[bytes]:
    """So many photos of twelve megapixels with the grain of a camera, each another one."""
    base = lake(width=1344, height=1008).resize((4032, 3024), Image.Resampling.BICUBIC)
    grain = Image.effect_noise(base.size, 12)
    base = ImageChops.add(base, Image.merge("RGB", [grain] * 3), 1, -128)
    return [saved(ImageChops.offset(base, number * 199, 0), "JPEG", quality=90) for number in range(count)]


def _of_side(name: str, folder: str, server: Emulator) -> dict[str, float]:
    """What one side takes for each kind of call."""
    calls = aside(__file__, name, folder, server=server)
    fast = aside(__file__, name, "streams", "stream", server=server)
    server.fail("drip", times=10 * STREAMS, seconds=PAUSE)
    slow = aside(__file__, name, "streams", "slow stream", server=server)
    server.clear()
    return {**calls, **fast, **slow}


def _long(asked: ChatRequest) -> str | None:
    """The emulator's answer: long in streams, else the usual one."""
    return LONG if asked.stream else None


def main() -> None:
    """Measures both sides and prints them."""
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder, Emulator(ocr=False, reply=_long) as server:
        for number, data in enumerate(photos(PHOTOS + 1)):
            (Path(folder) / f"{number:02}.jpg").write_bytes(data)
        rounds += [{name: _of_side(name, folder, server) for name in SIDES} for _ in range(ROUNDS)]
    kinds = list(rounds[0]["ChatAIFS"])
    for what in kinds:
        costs = {name: median(each[name][what] for each in rounds) for name in SIDES}
        shown = ", ".join(f"{name} {cost:.2f} ms" for name, cost in costs.items())
        print(f"{what:22} {shown} CPU")
    for what in [*kinds[:2], *(kind for kind in kinds if "stream" in kind)]:
        ratio = _ratio(rounds, what)
        goal(f"{what}, ChatAIFS / ChatOpenAI", f"{ratio:.2f}", f"at most {MOST}", met=ratio <= MOST)
    ratio = _ratio(rounds, "photo, a call")
    goal("photo, a call, ChatAIFS / ChatOpenAI by hand", f"{ratio:.2f}", "below 1", met=ratio < 1)


if __name__ == "__main__":
    if "streams" in sys.argv:
        streams(sys.argv[1], sys.argv[3])
    elif sys.argv[1:]:
        side(*sys.argv[1:])
    else:
        main()
