"""Journals that were written by a real program, one of each format there ever was; they must open
for ever.

When ``flowersweep.study.events`` gets a new format number, write one more::

    python -m tests.study.journals
"""

from __future__ import annotations

from pathlib import Path

from tests.conftest import TINY

FOLDER = Path(__file__).parent
WORDS = (
    "+sweep=smoothing",
    "study=old",
    "sampler.n_startup_trials=3",
    "tracking.enabled=false",
    *TINY,
)
TRIALS = 5
