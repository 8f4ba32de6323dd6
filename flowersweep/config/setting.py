"""What a key of the configuration says of itself where it stands: its default, role and range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from typing import Any

Range = tuple[float, float]  # smallest and largest value that makes sense


class Role(Enum):
    """What a key says, and with it who compares it."""

    TRAINED = "trained"  # changes what a trial is: hashed into its identity, compared on resume
    SEARCH = "search"  # what a study searches, and how: compared on resume
    LABEL = "label"  # the name of its group's settings: compared on resume, never hashed
    PLACE = "place"  # where the things of a training lie, and how often they are kept: free
    BUDGET = "budget"  # how much a study does, and who does it: free
    COMMAND = "command"  # an argument of one command: free, and never in a journal


TRAINED, SEARCH, LABEL, PLACE, BUDGET, COMMAND = Role


def setting(
    default: Any,
    *,
    role: Role,
    low: float = -math.inf,
    high: float = math.inf,
    choices: tuple[str, ...] = (),
    ranges: Mapping[str, Range] | None = None,
    comparable: bool = True,
) -> Any:
    """Return a field of a configuration. ``default`` may be a type, which is then called.

    ``low`` and ``high`` bound a number, ``choices`` a word, and ``ranges`` the keys of an option's
    file, whose names are not fixed. ``comparable`` is False where two trials with different values
    are not judged by the same images, so that no space may search it.
    """
    bounds = None if (low, high) == (-math.inf, math.inf) else (low, high)
    metadata = {
        "role": role,
        "range": bounds,
        "choices": choices,
        "ranges": ranges or {},
        "comparable": comparable,
    }
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)
