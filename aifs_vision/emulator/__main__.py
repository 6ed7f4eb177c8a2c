"""`python -m aifs_vision.emulator`: the emulator for other programs, until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from aifs_vision.emulator import Emulator

_RUNNING = """\
The emulator of AI Foundation Services is running; nothing leaves this machine.
export AIFS_BASE_URL={base_url}
export AIFS_API_KEY={api_key}
"""


def main() -> None:
    """Runs the emulator and says how to reach it."""
    parser = argparse.ArgumentParser(prog="python -m aifs_vision.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8085, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--api-key", default="emulator-key", help="the only key it accepts")
    parser.add_argument("--no-ocr", action="store_true", help="fixed answers, for load tests")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds an answer takes at least")
    given = parser.parse_args()
    stopped = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.set())
    with Emulator(api_key=given.api_key, port=given.port, ocr=not given.no_ocr, latency=given.latency) as server:
        sys.stdout.write(_RUNNING.format(base_url=server.base_url, api_key=server.api_key))
        sys.stdout.flush()
        stopped.wait()


if __name__ == "__main__":
    main()
