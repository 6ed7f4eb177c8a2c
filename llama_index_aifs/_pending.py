"""The mark of nodes whose picture is still to be read: what it says, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HELD", "MARK", "OTHERS", "PLACED", "TWIN", "TWIN_PLACED", "Pending", "page_of"]

MARK = "aifs_pending"
"""The metadata key that this package alone writes, hidden from what is embedded and from LLMs.

Metadata such as `status` and `source` are everybody's: by them nobody's node is taken for one of ours.
"""

PLACED = "path"  # `source` is where the picture is
HELD = "bytes"  # the picture is in the node, and nowhere else
TWIN = "bytes of a name used twice"  # the same, of which the id of its readings tells, too
TWIN_PLACED = "path of a name used twice"  # and that of bytes before it
OTHERS = "node"  # the picture of a node that others have made, and whose reading failed


@dataclass(frozen=True, kw_only=True)
class Pending:
    """What a mark says.

    Attributes:
        kind: one of the above.
        page: the page that a node stands for; None for all there are.
        node_id: of a node that others have made, the id it had.
    """

    kind: str
    page: int | None = None
    node_id: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Pending | None:
        """What metadata say; None where there is no mark in them."""
        mark = metadata.get(MARK)
        if not isinstance(mark, str):
            return None
        if mark in {PLACED, HELD, TWIN, TWIN_PLACED}:
            return cls(kind=mark, page=page_of(metadata))
        kind, _, rest = mark.partition(" ")
        page, _, node_id = rest.partition(" ")
        return cls(kind=OTHERS, page=int(page), node_id=node_id) if kind == OTHERS and page.isdecimal() else None

    @property
    def is_placed(self) -> bool:
        """Whether the source is where the picture is."""
        return self.kind in {PLACED, TWIN_PLACED}

    @property
    def is_twin(self) -> bool:
        """Whether another picture has the name of this one."""
        return self.kind in {TWIN, TWIN_PLACED}

    @property
    def mark(self) -> str:
        """The mark that says the same."""
        return f"{OTHERS} {self.page} {self.node_id}" if self.kind == OTHERS else self.kind


def page_of(metadata: Mapping[str, Any]) -> int | None:
    """The page that metadata name, also where a store has made a float of it; None where they name none."""
    page = metadata.get("page")
    if isinstance(page, float) and page.is_integer():
        return int(page)
    return page if isinstance(page, int) else None
