"""Wait for something, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def wait_for(
    condition: Callable[[], Answer], seconds: float = 60, *, every: float = 0.05
) -> Answer:
    """Ask until the answer is true; return it.

    Args:
        condition: What is asked; it should be quick.
        every: Seconds between two questions.

    Raises:
        TimeoutError: The answer was never true.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {condition}")
        time.sleep(every)
    return answer
