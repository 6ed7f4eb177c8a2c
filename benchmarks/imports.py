"""How long an import takes, beside what its users import anyway: python benchmarks/imports.py.

Each import runs in fresh interpreters, in turns with the others; the median time above that of an empty interpreter
counts, and the ratios are what to compare. Goals: aifs_vision at most 0.1 s, langchain_aifs at most 1.05 times
langchain_openai, llama_index_aifs at most 0.15 s.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

ROUNDS = 9
STATEMENTS = {
    "nothing": "pass",
    "aifs_vision": "import aifs_vision",
    "aifs_vision.Vision": "from aifs_vision import Vision",
    "langchain_openai": "import langchain_openai",
    "langchain_aifs": "import langchain_aifs",
    "langchain_openai.ChatOpenAI": "from langchain_openai import ChatOpenAI",
    "langchain_aifs.ChatAIFS": "from langchain_aifs import ChatAIFS",
    "llama_index_aifs": "import llama_index_aifs",
    "llama_index.llms.openai_like": "from llama_index.llms.openai_like import OpenAILike",
    "llama_index_aifs.AIFS": "from llama_index_aifs import AIFS",
}
RATIOS = [
    ("langchain_aifs", "langchain_openai"),
    ("langchain_aifs.ChatAIFS", "langchain_openai.ChatOpenAI"),
    ("llama_index_aifs.AIFS", "llama_index.llms.openai_like"),
]


def seconds(statement: str) -> float:
    """The time a new interpreter takes for a statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measures all imports and prints them."""
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    empty = median(times["nothing"])
    taken = {name: median(each) - empty for name, each in times.items()}
    for name, value in taken.items():
        print(f"{name:<30} {value * 1000:8.0f} ms")
    for ours, theirs in RATIOS:
        print(f"{ours} / {theirs}: {taken[ours] / taken[theirs]:.2f}")


if __name__ == "__main__":
    main()
