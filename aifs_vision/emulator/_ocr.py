"""The text of a picture: RapidOCR with the models of its wheel, whichever way up the picture lies.

A page costs about two CPU-seconds, hence: the engine is made once per process; equal pictures are read once,
also by threads that come at the same moment; lines are looked for in a smaller copy of the picture, and read,
one by one and each as wide as it is, from the picture itself.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from aifs_vision.emulator._layout import rows_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Corners = NDArray[np.float64]
    Text = tuple[str, float]

__all__ = ["Engine", "Line", "Memory", "Page", "TextReader", "on_white"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A piece of text that stands in one line; px, in the upright picture with its skew taken out."""

    text: str
    score: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Px from left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Px from top to bottom; a little more than the height of the letters."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """The y of its middle."""
        return (self.top + self.bottom) / 2


@dataclass(frozen=True, kw_only=True)
class Page:
    r"""What was read in a picture.

    Attributes:
        text: in reading order; "\n" ends a row, two blanks part the cells of a row; "" where there is no text.
        lines: in the same order.
        turned: degrees clockwise (0, 90, 180, 270) that set the picture upright.
        width, height: px, upright.
    """

    text: str
    lines: tuple[Line, ...]
    turned: int
    width: int
    height: int


class Engine(Protocol):
    """Finds lines in a picture and reads them; called from several threads at once."""

    def find(self, picture: Image.Image) -> list[Corners]:
        """The four corners (x, y) of each line: top left, top right, bottom right, bottom left."""

    def recognise(self, line: Image.Image) -> tuple[str, float]:
        """The text of a picture of one line, and how sure it is, from 0 to 1."""


class Memory:
    """Pages by picture, the last used ones; safe for threads."""

    def __init__(self, size: int = 512) -> None:
        self._size = size
        self._pages: OrderedDict[bytes, Future[Page]] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, key: bytes) -> tuple[Future[Page], bool]:
        """The page to come or already there, and whether the caller is the one who has to read it."""
        with self._lock:
            known = self._pages.get(key)
            if known is not None:
                self._pages.move_to_end(key)
                return known, False
            claimed = self._pages[key] = Future()
            if len(self._pages) > self._size:
                self._pages.popitem(last=False)
            return claimed, True

    def forget(self, key: bytes) -> None:
        """The next one who asks for it reads it again."""
        with self._lock:
            self._pages.pop(key, None)


_MEMORY = Memory()


class TextReader:
    """Reads pictures; calls block, and may come from several threads.

    Args:
        engine: another one than RapidOCR, which all readers share.
        memory: another one than that which all readers share.
    """

    def __init__(self, *, engine: Engine | None = None, memory: Memory | None = None) -> None:
        self._engine = engine
        self._memory = memory if memory is not None else (_MEMORY if engine is None else Memory())

    def read(self, image: Image.Image) -> Page:
        """The text of a picture in any mode, with any turn by a multiple of 90 degrees.

        Raises:
            ImportError: RapidOCR is not installed.
        """
        picture = on_white(image)
        key = hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).digest()
        future, mine = self._memory.claim(key)
        if not mine:
            return future.result()
        try:
            page = _read(picture, self._engine or _rapidocr())
        except BaseException as error:
            self._memory.forget(key)
            future.set_exception(error)
            raise
        future.set_result(page)
        return page


def on_white(image: Image.Image) -> Image.Image:
    """The picture as RGB, what is transparent as white; the picture itself where it is that already."""
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


# -- RapidOCR ------------------------------------------------------------------------------------------------


class _RapidOCR:
    """Two engines of RapidOCR: one finds lines, the other reads them.

    The one that does both reads six lines at once, each as wide as the widest of them: 1.7 times the work.
    One thread each, since the threads of ONNX Runtime spin while they wait, for a third more CPU time.
    """

    def __init__(self) -> None:
        from rapidocr import RapidOCR

        common = {
            "Global.log_level": "critical",
            # Its classifier of lines that stand on their head turns good lines over; see _upright().
            "Global.use_cls": False,
            "Global.use_preprocess_img": False,
            "Global.use_vertical_padding": False,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
        find = {"Global.use_rec": False, "Det.limit_type": "max", "Det.limit_side_len": _NO_LIMIT}
        read = {"Global.use_det": False, "Rec.rec_img_shape": [3, _LINE_HEIGHT, _NARROWEST]}
        self._finder = RapidOCR(params={**common, **find})
        self._reader = RapidOCR(params={**common, **read})

    def find(self, picture: Image.Image) -> list[Corners]:
        found: Any = self._finder(_bgr(picture))
        return [] if found.boxes is None else [np.asarray(corners, np.float64) for corners in found.boxes]

    def recognise(self, line: Image.Image) -> tuple[str, float]:
        read: Any = self._reader(_bgr(line))
        return (read.txts[0].strip(), float(read.scores[0])) if read.txts else ("", 0.0)


_NO_LIMIT = 1_000_000  # px; pictures come small enough, see _found()
_LINE_HEIGHT = 48  # px, what the model reads
_NARROWEST = 64  # px; the model's own 320 would be filled up for every short word


def _bgr(picture: Image.Image) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(picture)[..., ::-1])


_MAKING = threading.Lock()


def _rapidocr() -> Engine:
    with _MAKING:
        return _made()


@cache
def _made() -> Engine:
    return _RapidOCR()


# -- A page --------------------------------------------------------------------------------------------------

_TURNS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
_FIND_AREA = 940_000  # px of the copy that lines are looked for in; enough for letters 14 px high on a page
_FIND_SIDE = 64  # px; a narrower picture gets a margin, as it would be all text
_LINES_AT_ONCE = 2
_SAMPLE = 4  # lines that are read to see which way up a page is
_UPRIGHT = 0.85  # their mean score: 0.95 and more on a clean page that is upright, ...
_NOT_UPRIGHT = 0.8  # ... and up to this on one that is not
_TALL = 1.5  # times as high as wide: runs up or down, or is a single digit
_LONG = 5.0  # times as wide as high: a line whose slope can be measured
_LEAST_SKEW = math.radians(0.15)  # less comes from corners being whole pixels
_SURE = 0.6  # the score of a line that is kept
_FEW_LETTERS, _SURER = 5, 0.95  # so little is found on photos without any text, with lower scores


def _read(picture: Image.Image, engine: Engine) -> Page:
    found = _found(picture, engine)
    with ThreadPoolExecutor(_LINES_AT_ONCE, thread_name_prefix="aifs-emulator-ocr") as pool:

        def read(lines: Sequence[Corners], turned: int = 0) -> list[Text]:
            return list(pool.map(lambda corners: _recognised(picture, _rolled(corners, turned), engine), lines))

        turned, texts = _upright(found[:_SAMPLE], read)
        if turned:
            picture, texts = picture.transpose(_TURNS[turned]), []
            found = _found(picture, engine)  # again, since the engine sees level lines better
        texts += read(found[len(texts) :])
    rows = rows_of(_without_strays(_lines(found, texts)))
    lines = tuple(line for row in rows for line in row)
    return Page(text=text_of(rows), lines=lines, turned=turned, width=picture.width, height=picture.height)


def _found(picture: Image.Image, engine: Engine) -> list[Corners]:
    """The corners of the lines, the longest line first; they are looked for in a copy of a bounded size."""
    scale = min(1.0, math.sqrt(_FIND_AREA / (picture.width * picture.height)))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    copy = picture.resize(size, Image.Resampling.BILINEAR) if scale < 1 else picture
    margins = [max(0, _FIND_SIDE - side) // 2 for side in size]
    if any(margins):
        padding = ((margins[1],) * 2, (margins[0],) * 2, (0, 0))
        copy = Image.fromarray(np.pad(np.asarray(copy), padding, mode="edge"))
    found = (np.clip((corners - margins) / scale, 0, picture.size) for corners in engine.find(copy))
    return sorted(found, key=lambda corners: max(_size(corners)), reverse=True)


def _upright(sample: Sequence[Corners], read: Callable[[Sequence[Corners], int], list[Text]]) -> tuple[int, list[Text]]:
    """The turn at which the sample reads well, and what it says; 0 where it reads well at none."""
    heights = sum(max(_size(corners)) for corners in sample if _is_tall(corners))
    lengths = sum(max(_size(corners)) for corners in sample)
    said: dict[int, list[Text]] = {}
    for turned in (90, 270, 0, 180) if 2 * heights > lengths else (0, 180, 90, 270):
        said[turned] = read(sample, turned)
        if _score(said[turned]) >= _UPRIGHT:
            return turned, said[turned]
    best = max(said, key=lambda turned: _score(said[turned]))
    best = best if _score(said[best]) >= _NOT_UPRIGHT else 0
    return best, said[best]


def _score(texts: Sequence[Text]) -> float:
    """How well texts read together: 0 for so few letters that they say nothing."""
    letters = sum(_letters(text) for text, _ in texts)
    return sum(score for _, score in texts) / len(texts) if letters >= _FEW_LETTERS else 0.0


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)


def _recognised(picture: Image.Image, corners: Corners, engine: Engine) -> Text:
    """The text of one line; what is higher than wide is tried in each way it may be meant."""
    ways = (0, 90, 270) if _is_tall(corners) else (0,)
    texts = (engine.recognise(_cut(picture, _rolled(corners, way))) for way in ways)
    return max(texts, key=lambda text: text[1])


def _cut(picture: Image.Image, corners: Corners) -> Image.Image:
    """A line as a picture of its own, level, in the height that it is read in."""
    width, height = (max(1, round(side)) for side in _size(corners))
    top_left, top_right, bottom_right, bottom_left = corners
    order = (*top_left, *bottom_left, *bottom_right, *top_right)  # as Pillow wants it
    cut = picture.transform((width, height), Image.Transform.QUAD, order, Image.Resampling.BICUBIC)
    wide = max(1, round(width * _LINE_HEIGHT / height))
    return cut.resize((wide, _LINE_HEIGHT), Image.Resampling.BILINEAR)


def _lines(found: Sequence[Corners], texts: Sequence[Text]) -> list[Line]:
    """The lines as level boxes: turned about the origin by the skew that most long lines have."""
    slopes = [math.atan2(*(corners[1] - corners[0])[::-1]) for corners in found if _is_long(corners)]
    skew = median(slopes) if slopes else 0.0
    skew = skew if abs(skew) > _LEAST_SKEW else 0.0
    lines = []
    for (text, score), corners in zip(texts, found, strict=True):
        x, y = corners.mean(axis=0)
        x, y = x * math.cos(skew) + y * math.sin(skew), y * math.cos(skew) - x * math.sin(skew)
        width, height = _size(corners)
        box = {"left": x - width / 2, "top": y - height / 2, "right": x + width / 2, "bottom": y + height / 2}
        if text and score >= _SURE:
            lines.append(Line(text=text, score=score, **box))
    return lines


def _without_strays(lines: list[Line]) -> list[Line]:
    if sum(_letters(line.text) for line in lines) >= _FEW_LETTERS:
        return lines
    return [line for line in lines if line.score >= _SURER and _letters(line.text)]


def _size(corners: Corners) -> tuple[float, float]:
    """The width and height of a line."""
    top_left, top_right, bottom_right, bottom_left = corners
    width = max(math.dist(top_left, top_right), math.dist(bottom_left, bottom_right))
    return width, max(math.dist(top_left, bottom_left), math.dist(top_right, bottom_right))


def _is_tall(corners: Corners) -> bool:
    width, height = _size(corners)
    return height >= _TALL * width


def _is_long(corners: Corners) -> bool:
    width, height = _size(corners)
    return width >= _LONG * height


def _rolled(corners: Corners, turned: int) -> Corners:
    """The corners as they are named after a clockwise turn, the bottom left one becoming the top left one."""
    return np.roll(corners, turned // 90, axis=0)
