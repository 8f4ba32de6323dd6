"""How a door is tried: what comes in is taken or refused, and never a traceback."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

from flowersweep.errors import FlowersweepError

INPUTS = int(os.environ.get("FLOWERSWEEP_FUZZ", "25"))
SECONDS = 10.0  # of processor for one input, at most
LONGEST = 1500  # characters of a message

fuzz = settings(
    max_examples=INPUTS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def attempt(door: Callable[[], Any]) -> Any:
    """Return what a door gives for an input; None if it refuses it, as a door should."""
    began = time.process_time()
    try:
        return door()
    except FlowersweepError as error:
        message = str(error)
        assert message, "a refusal says why"
        assert len(message) <= LONGEST, message
        return None
    finally:
        assert time.process_time() - began < SECONDS
