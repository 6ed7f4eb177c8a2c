"""Builds the wheel and tries it where nothing else is installed: the core alone, with each extra, and with all.

    python tests/check_wheel.py [EXTRA ...]

Each environment reads an image from an emulator that runs outside of it, and uses what its extra brings.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aifs_vision.emulator import Emulator

ROOT = Path(__file__).parent.parent

CORE = """
import importlib.util, io, sys
from PIL import Image
from aifs_vision import Vision, OCR, TextEmbedder
buffer = io.BytesIO()
Image.new("RGB", (40, 30), "white").save(buffer, "PNG")
reading = Vision().read(buffer.getvalue(), OCR)
assert reading.ok and reading.width == 40, reading
assert len(TextEmbedder().embed(["Rechnung"])[0]) == 1024
for module in sys.argv[1].split():
    assert importlib.util.find_spec(module) is None, f"{module} came along"
"""
LANGCHAIN = """
from langchain_aifs import AIFSEmbeddings, AIFSImageLoader, ChatAIFS
(document,) = AIFSImageLoader([buffer.getvalue()], task="ocr").load()
assert document.id == reading.id and document.metadata == reading.metadata()
assert ChatAIFS().invoke("Hello").text
from langchain_core.vectorstores import InMemoryVectorStore
store = InMemoryVectorStore(AIFSEmbeddings())
store.add_documents([document])
assert store.similarity_search("Rechnung", k=1)[0].id == document.id
"""
LLAMA_INDEX = """
from llama_index_aifs import AIFS, AIFSEmbedding, AIFSImageReader
(document,) = AIFSImageReader(task="ocr").load_data(buffer.getvalue())
assert document.id_ == reading.id and document.metadata == reading.metadata()
assert AIFS().complete("Hello").text
assert AIFSEmbedding().get_query_embedding("Rechnung")
"""
EMULATOR = """
from aifs_vision.emulator import Emulator
with Emulator() as server:
    own = Vision(base_url=server.base_url, api_key=server.api_key).read(buffer.getvalue(), OCR)
assert own.status == "empty", own
"""
WITHOUT_EMULATOR = """
from aifs_vision.emulator import Emulator
try:
    Emulator().start()
except ImportError as error:
    assert "aifs-vision[emulator]" in str(error)
else:
    raise AssertionError("the emulator started without its extra")
"""
MISSING = """
from aifs_vision import ImageFormatError
starts = {"heic": b"\\0\\0\\0\\x18ftypheic", "pdf": b"%PDF-1.7", "video": b"\\x1aE\\xdf\\xa3"}
for extra, start in starts.items():
    try:
        Vision().read(start + bytes(40))
    except ImageFormatError as error:
        assert f"aifs-vision[{extra}]" in str(error), error
    else:
        raise AssertionError(extra)
"""
HEIC = """
import pillow_heif
photo = io.BytesIO()
pillow_heif.from_pillow(Image.new("RGB", (60, 40), "white")).save(photo)
assert Vision().read(photo.getvalue()).mime_type == "image/heic"
"""
PDF = """
page = io.BytesIO()
Image.new("RGB", (60, 40), "white").save(page, "PDF")
assert Vision().read(page.getvalue()).mime_type == "application/pdf"
"""
VIDEO = """
import av
film = io.BytesIO()
with av.open(film, "w", format="mp4") as container:
    stream = container.add_stream("mpeg4", rate=5)
    stream.width, stream.height = 64, 48
    for _ in range(3):
        container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48), "white"))))
    container.mux(stream.encode())
assert [frame.time for frame in Vision().read_many([film.getvalue()])] == [0.0, 0.2, 0.4]
"""
FAST = """
large = io.BytesIO()
Image.radial_gradient("L").resize((1800, 1200)).convert("RGB").save(large, "PNG")
assert Vision().read(large.getvalue(), "caption").ok
assert "pyvips" in sys.modules
"""
FRAMEWORKS = "langchain_core llama_index"
TRIALS = {
    "": (
        CORE + WITHOUT_EMULATOR + MISSING,
        f"{FRAMEWORKS} openai starlette numpy rich av pypdfium2 pillow_heif pyvips",
    ),
    "langchain": (CORE + LANGCHAIN, "llama_index starlette"),
    "llama-index": (CORE + LLAMA_INDEX, "langchain_core starlette"),
    "emulator": (CORE + EMULATOR, f"{FRAMEWORKS} openai"),
    "cli": (CORE + "import rich\n", f"{FRAMEWORKS} starlette"),
    "telemetry": (CORE + "import opentelemetry.trace\n", f"{FRAMEWORKS} starlette"),
    "mcp": (CORE + "import mcp, aifs_vision.mcp_server\n", FRAMEWORKS),
    "heic": (CORE + HEIC, FRAMEWORKS),
    "pdf": (CORE + PDF, FRAMEWORKS),
    "video": (CORE + VIDEO, f"{FRAMEWORKS} numpy"),
    "fast": (CORE + FAST, FRAMEWORKS),
    "all": (CORE + LANGCHAIN + LLAMA_INDEX + EMULATOR + HEIC + PDF + VIDEO + FAST + "import rich\n", ""),
}
EXPECTED = {
    *("aifs_vision/py.typed", "langchain_aifs/py.typed", "llama_index_aifs/py.typed"),
    *("aifs_vision/catalogue.json", "aifs_vision/emulator/__main__.py"),
}


def build(where: Path) -> Path:
    """The wheel, with everything in it that has to be, and nothing of the tests."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(where), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = where.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = EXPECTED - names
    stray = {name for name in names if name.split("/")[0] in {"tests", "examples", "benchmarks"}}
    if missing or stray:
        raise SystemExit(f"the wheel lacks {sorted(missing)} or should not have {sorted(stray)}")
    return wheel


def try_out(wheel: Path, extra: str, where: Path, environment: dict[str, str]) -> str:
    """Installs the wheel with an extra in a clean environment and runs its trial; what went wrong, or ''."""
    place = where / (extra or "core")
    venv.create(place, with_pip=True)
    python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    script, absent = TRIALS[extra]
    steps = [
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted],
        [str(python), "-W", "error::ResourceWarning", "-c", script, absent],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False, cwd=where, env=environment)
        if done.returncode:
            return done.stderr or done.stdout
    return ""


def main(extras: list[str]) -> None:
    """Tries the named extras, or all of them, two at a time."""
    chosen = extras or list(TRIALS)
    with tempfile.TemporaryDirectory() as folder, Emulator(ocr=False) as server:
        where = Path(folder)
        wheel = build(where)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("AIFS_", "PYTHONPATH"))}
        environment |= {"AIFS_BASE_URL": server.base_url, "AIFS_API_KEY": server.api_key}
        with ThreadPoolExecutor(2) as pool:
            outcomes = pool.map(lambda extra: try_out(wheel, extra, where, environment), chosen)
            failed = False
            for extra, trouble in zip(chosen, outcomes, strict=True):
                print(
                    f"wheel{f'[{extra}]' if extra else ', core alone'}: {'FAILED' if trouble else 'works'}", flush=True
                )
                failed |= bool(trouble)
                if trouble:
                    print(trouble, file=sys.stderr)
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])
