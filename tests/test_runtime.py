"""What a process computes on is decided once."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowersweep.errors import ConfigError
from flowersweep.runtime import start


def test_a_second_start_gives_what_is_running_or_says_why_not(tmp_path: Path) -> None:
    running = start()
    assert start(tmp_path) is running
    assert start(platform=running.platform) is running
    with pytest.raises(
        ConfigError,
        match=rf"computes on {running.platform} already, "
        r"and now other is asked for. Start the command",
    ):
        start(platform="other")
    with pytest.raises(
        ConfigError, match=r"is host 0 of 1 already, and now host 1 of 2 is asked for"
    ):
        start(coordinator="localhost:1", hosts=2, host=1)
