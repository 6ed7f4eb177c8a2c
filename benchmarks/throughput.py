"""How many images a second, beside the ideal and a hand-written loop: python benchmarks/throughput.py.

300 small images, answers that take 0.3 s, 32 in flight. The ideal is nothing but waiting: 10 rounds of 0.3 s. The
hand-written loop sends the same bytes with httpx, without preparing, judging or naming anything. Both sides run in
turns in processes of their own, against one emulator in a third.
"""

from __future__ import annotations

import os
import subprocess
import sys
from math import ceil
from statistics import median

from aifs_vision.emulator import Emulator

IMAGES, LATENCY, IN_FLIGHT, ROUNDS = 300, 0.3, 32, 3

COMMON = f"""
import asyncio, base64, io, os, resource, time
from PIL import Image

def picture(number):
    buffer = io.BytesIO()
    Image.new("RGB", (64 + number % 50, 64), (number % 256, 90, 120)).save(buffer, "PNG")
    return buffer.getvalue()

pictures = [(f"{{number}}.png", picture(number)) for number in range({IMAGES})]
"""
OURS = f"""
from aifs_vision import Limits, Vision
vision = Vision("Qwen3-VL-30B-A3B-Instruct-FP8", limits=Limits(in_flight={IN_FLIGHT}))
vision.read(pictures[0][1])
before, start = time.process_time(), time.perf_counter()
assert sum(reading.ok for reading in vision.read_many(pictures)) == {IMAGES}
print(time.perf_counter() - start, time.process_time() - before)
"""
BY_HAND = f"""
import httpx
async def read(client, slots, data):
    async with slots:
        url = "data:image/png;base64," + base64.b64encode(data).decode()
        content = [{{"type": "image_url", "image_url": {{"url": url}}}}, {{"type": "text", "text": "Describe."}}]
        body = {{"model": "Qwen3-VL-30B-A3B-Instruct-FP8", "messages": [{{"role": "user", "content": content}}]}}
        answer = await client.post("/chat/completions", json=body)
        return answer.json()["choices"][0]["message"]["content"]

async def main():
    headers = {{"Authorization": "Bearer " + os.environ["AIFS_API_KEY"]}}
    slots = asyncio.Semaphore({IN_FLIGHT})
    limits = httpx.Limits(max_connections={IN_FLIGHT})
    async with httpx.AsyncClient(
        base_url=os.environ["AIFS_BASE_URL"], headers=headers, timeout=60, limits=limits
    ) as client:
        await read(client, slots, pictures[0][1])
        before, start = time.process_time(), time.perf_counter()
        texts = await asyncio.gather(*(read(client, slots, data) for _, data in pictures))
        assert all(texts)
        print(time.perf_counter() - start, time.process_time() - before)

asyncio.run(main())
"""


def run(program: str, server: str, key: str) -> tuple[float, float]:
    """Wall and CPU seconds of a program's images."""
    environment = {**os.environ, "AIFS_BASE_URL": server, "AIFS_API_KEY": key}
    done = subprocess.run(
        [sys.executable, "-c", COMMON + program], check=True, capture_output=True, text=True, env=environment
    )
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


def main() -> None:
    """Measures both sides and prints them."""
    sides: dict[str, list[tuple[float, float]]] = {"aifs_vision": [], "hand-written": []}
    with Emulator(ocr=False, latency=LATENCY) as server:
        for _ in range(ROUNDS):
            for name, program in (("aifs_vision", OURS), ("hand-written", BY_HAND)):
                sides[name].append(run(program, server.base_url, server.api_key))
    ideal = ceil(IMAGES / IN_FLIGHT) * LATENCY
    walls = {}
    for name, taken in sides.items():
        walls[name], cpu = (median(column) for column in zip(*taken, strict=True))
        share, each = ideal / walls[name], 1000 * cpu / IMAGES
        print(f"{name:<14} {walls[name]:5.2f} s = {share:.0%} of the ideal ({ideal:.1f} s); {each:.1f} ms CPU an image")
    print(f"aifs_vision / hand-written: {walls['aifs_vision'] / walls['hand-written']:.2f} times as long")


if __name__ == "__main__":
    main()
