"""From texts back to the pictures they were read from: `Originals`, which the plugins of both frameworks use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aifs_vision._attaching import check_image_options, prepare_images
from aifs_vision._catalogue import model_card
from aifs_vision._errors import ImageError, SettingsError, one_line
from aifs_vision._guards import ImageLimits
from aifs_vision._roots import Roots, no_roots
from aifs_vision._sources import SourcePages
from aifs_vision._tokens import image_tokens

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from fsspec import AbstractFileSystem

    from aifs_vision._attaching import ImageSize
    from aifs_vision._catalogue import ModelCard
    from aifs_vision._frames import Frames
    from aifs_vision._images import PreparedImage

__all__ = ["Original", "Originals"]

_HIT = "image_url"  # the metadata of a Visual RAG hit that has its picture with it
_NEVER_HERE = "its bytes have never been here, so nobody knows whether it has changed"


@dataclass(frozen=True, kw_only=True)
class Original:
    """What has become of the picture that a text was read from.

    Attributes:
        image: the picture, to be shown with this text; None where it is not.
        shown_with: where not, the position (from 0) of the text that the same picture is shown with already.
        skipped: where it is shown with none, the reason, on one line: names of files in it may be anybody's.
    """

    image: PreparedImage | None = field(default=None, repr=False)
    shown_with: int | None = None
    skipped: str | None = None


class Originals:
    """The pictures that texts were read from, found again, each of them once and within a budget.

        originals = Originals(["scans/"], max_images=4)
        for document, original in zip(documents, originals.of(d.metadata for d in documents)): ...

    A text's picture is found by the metadata of its reading (`source`, `page`, `image_sha256`): of a PDF, TIFF or
    video the page or frame that was read, upright, shrunk to what the model sees, in a format it takes. The picture
    of a page that Visual RAG has found comes with its hit, as `image_url` in the metadata, and needs no file. In place
    of metadata the path of a picture may stand, which is shown as it is now; of several pages the first.

    Only files below `roots` are opened, whatever the metadata say; symbolic links are followed before that is
    decided. A picture that is outside, missing, changed since it was read, unreadable, or more than the budget allows
    is not shown. Pictures that were given as bytes or URL have no file, and are not shown, either. Safe to share
    among threads.

    Args:
        roots: the folders below which files may be opened; None where no text is of a file.
        model: the model that is to see the pictures.
        max_images: pictures at once.
        max_pixels, max_tokens: of all pictures at once, as they are sent; None for no such bound.
        size: "auto", "original", or px of the longer side.
        frames: the setting that videos and animations were read with.
        fs: the fsspec file system that the files are on; None for the local one.
        image_limits: how large files may be that are opened.

    Raises:
        SettingsError: no roots, a root that is no folder, a model that takes no images, or a bound below 1.
    """

    def __init__(
        self,
        roots: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
        *,
        model: str = "Qwen3-VL-30B-A3B-Instruct-FP8",
        max_images: int = 8,
        max_pixels: int | None = None,
        max_tokens: int | None = None,
        size: ImageSize = "auto",
        frames: Frames = "auto",
        fs: AbstractFileSystem | None = None,
        image_limits: ImageLimits | None = None,
    ) -> None:
        self._budget = {"max_images": max_images, "max_pixels": max_pixels, "max_tokens": max_tokens}
        for name, most in self._budget.items():
            if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
                raise SettingsError.bad_value(name, most, "it is a whole number of at least 1")
        self._card = model_card(model)
        self._how: dict[str, Any] = {"size": size, "frames": frames, "image_limits": image_limits}
        check_image_options(**self._how)
        if not self._card.takes_images:
            raise SettingsError.blind_model(self._card.name)
        self._roots = None if roots is None else Roots(roots, fs, image_limits or ImageLimits())

    def of(self, found: Iterable[Mapping[str, Any] | str]) -> list[Original | None]:
        """For the metadata of each text, best first, its picture; None for a text that was read from none.

        Blocks while it reads and decodes.

        Raises:
            SettingsError: a file would have to be opened, and there are no roots.
        """
        search = _Search(self._budget, self._card)
        return [self._original(position, metadata, search) for position, metadata in enumerate(found)]

    def _original(self, position: int, metadata: Mapping[str, Any] | str, search: _Search) -> Original | None:
        """The picture of one text."""
        if isinstance(metadata, str):
            path = metadata
            return search.once(position, path, path, lambda: self._page(path, 1, self._bytes(path)))
        if metadata.get("modality") == "image" and isinstance(url := metadata.get(_HIT), str):
            name, digest = str(metadata.get("filename")), hashlib.sha256(url.encode()).hexdigest()
            return search.once(position, name, digest, lambda: self._hit(name, url))
        source, page, read = metadata.get("source"), _page_of(metadata), metadata.get("image_sha256")
        if not isinstance(source, str) or page is None or "status" not in metadata:
            return None
        if not isinstance(read, str):
            return _skipped(f"{source}: {_NEVER_HERE}")
        return search.once(position, source, f"{read} {page}", lambda: self._image(source, page, read))

    def _hit(self, name: str, url: str) -> PreparedImage:
        """The picture that a hit has with it.

        Raises:
            ImageError: it is none.
        """
        if not url.startswith(("data:", "https://", "http://")):  # what is neither would be opened as a path
            raise ImageError(name, "its picture is no data URI")
        return prepare_images(url, self._card, **self._how)[0]

    def _image(self, source: str, page: int, digest: str) -> PreparedImage:
        """The page as it was read.

        Raises:
            ImageError: it is not there any more, or may not be opened.
            SettingsError: there are no roots.
        """
        data = self._bytes(source)
        if hashlib.sha256(data).hexdigest() != digest:
            raise ImageError(source, "has changed since it was read; read it again, and index what is read")
        return self._page(source, page, data)

    def _bytes(self, path: str) -> bytes:
        if self._roots is None:
            raise no_roots(None)
        return self._roots.read(path)

    def _page(self, source: str, page: int, data: bytes) -> PreparedImage:
        (image,) = prepare_images(SourcePages(source=(source, data), pages=(page,)), self._card, **self._how)
        return image


class _Search:
    """One search's pictures: what is shown with which text, and what they have taken of the budget."""

    def __init__(self, budget: Mapping[str, int | None], card: ModelCard) -> None:
        self._budget, self._card = budget, card
        self._so_far = dict.fromkeys(budget, 0)
        self._met: dict[tuple[str, ...], Original] = {}

    def once(self, position: int, name: str, picture: str, find: Callable[[], PreparedImage]) -> Original:
        """The picture, looked for once under each name, and shown once whatever its names.

        Args:
            position: of the text.
            name: where it is said to be.
            picture: what it is, equal for copies of it.
            find: opens it.
        """
        for key in ((picture,), (name, picture)):
            if key in self._met:
                return self._met[key]
        most = self._budget["max_images"]
        if most is not None and self._so_far["max_images"] >= most:  # nothing is opened that will not be shown
            return _skipped(f"{name}: the pictures before it leave too little of max_images={most}")
        try:
            image = find()
        except ImageError as error:
            original = self._met[name, picture] = _skipped(str(error))
            return original
        if (bound := self._bound_for(image)) is not None:
            original = _skipped(f"{name}: the pictures before it leave too little of {bound}")
            self._met[picture,] = original
            return original
        self._met[picture,] = Original(shown_with=position)
        return Original(image=image)

    def _bound_for(self, image: PreparedImage) -> str | None:
        """The bound that one more picture would exceed; None where it may be shown, which counts it."""
        pixels = tokens = 0  # what is at an address nobody here knows
        if image.width and image.height:
            pixels, tokens = image.width * image.height, image_tokens(self._card, image.width, image.height)
        then = {"max_images": 1, "max_pixels": pixels, "max_tokens": tokens}
        then = {name: cost + self._so_far[name] for name, cost in then.items()}
        for name, most in self._budget.items():
            if most is not None and then[name] > most:
                return f"{name}={most}"
        self._so_far = then
        return None


def _skipped(reason: str) -> Original:
    """A picture that is not shown; metadata of a foreign index may hold anything, also line breaks."""
    return Original(skipped=one_line(reason))


def _page_of(metadata: Mapping[str, Any]) -> int | None:
    """The page that metadata name, also where a store has made a float of it; None where they name none."""
    page = metadata.get("page")
    if isinstance(page, float) and page.is_integer():
        return int(page)
    return page if isinstance(page, int) else None
