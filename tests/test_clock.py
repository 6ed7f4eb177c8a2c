"""`virtual_time()`: when its clock goes on, and when it stands still."""

from __future__ import annotations

import math

from aifs_vision import Limits, Vision
from aifs_vision.testing import virtual_time
from tests.pictures import corners, saved
from tests.service import Service
from tests.waiting import until

PNG = saved(corners())


def client(in_flight: int) -> Vision:
    """A client of the service in memory."""
    return Vision(base_url="http://service.example/v2", api_key="k", limits=Limits(in_flight=in_flight))


def test_what_a_caller_does_between_two_readings_takes_no_time() -> None:
    """The clock stands still while nobody waits, so that slow callers see what quick ones do; but not for ever."""
    with virtual_time(Service(latency=100.0)) as clock:
        run = client(1).read_many([PNG] * 3, "caption", ordered=False)  # whichever is prepared first is asked first
        for number in (1, 2):
            next(run)
            assert clock.now == 100.0 * number
        until(lambda: clock.now >= 300.0)
        assert [reading.status for reading in run] == ["ok"]


def test_real_work_takes_no_time() -> None:
    """Pictures are decoded in real time, and the clock does not see it."""
    with virtual_time(Service(latency=1.0)) as clock:
        large = saved(corners(3000, 3000))
        assert client(4).read(large, "caption").ok
        assert math.isclose(clock.now, 1.0, abs_tol=0.01)
