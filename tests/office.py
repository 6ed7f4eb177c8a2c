"""Office files and web pages with known text, made in the test that needs them."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["docx", "html", "pptx", "zipped"]

_NAMESPACES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
)


def zipped(parts: Mapping[str, str]) -> bytes:
    """A ZIP archive of texts by their names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def docx(*pages: str) -> bytes:
    """A Word file; each page is a paragraph, and the breaks are those that Word leaves where it broke the page."""
    broken = "<w:r><w:lastRenderedPageBreak/></w:r>"
    paragraphs = "".join(
        f"<w:p>{broken if number else ''}<w:r><w:t>{escape(page)}</w:t></w:r></w:p>"
        for number, page in enumerate(pages)
    )
    return zipped({"word/document.xml": f"<w:document {_NAMESPACES}><w:body>{paragraphs}</w:body></w:document>"})


def pptx(*slides: str) -> bytes:
    """A presentation whose slides are stored in the opposite order to that in which they are shown."""
    parts, links, order = {}, [], []
    for number, text in enumerate(slides, start=1):
        name = f"slides/slide{len(slides) - number + 1}.xml"
        run = f"<a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p>"
        parts[f"ppt/{name}"] = f"<p:sld {_NAMESPACES}><p:txBody>{run}</p:txBody></p:sld>"
        links.append(f'<Relationship Id="rId{number}" Target="{name}"/>')
        order.append(f'<p:sldId id="{255 + number}" r:id="rId{number}"/>')
    parts["ppt/presentation.xml"] = (
        f"<p:presentation {_NAMESPACES}><p:sldIdLst>{''.join(order)}</p:sldIdLst></p:presentation>"
    )
    parts["ppt/_rels/presentation.xml.rels"] = f"<Relationships>{''.join(links)}</Relationships>"
    return zipped(parts)


def html(text: str, *, charset: str = "utf-8") -> bytes:
    """A web page with a script and a style that nobody reads."""
    hidden = "<style>p { color: rebeccapurple }</style><script>let submarine = 'yellow';</script>"
    page = (
        f'<!DOCTYPE html><html><head><meta charset="{charset}">{hidden}</head><body><p>{escape(text)}</p></body></html>'
    )
    return page.encode(charset)
