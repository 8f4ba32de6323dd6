"""How Python itself runs while trials train."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def low_latency_gc() -> Iterator[None]:
    """Keep trials from waiting for Python.

    The garbage collector leaves out the millions of objects that libraries brought: each full pass
    over them stops a trial for .3 s. A thread whose epoch is done gets the interpreter after half a
    millisecond; by default it would wait for 5, many times a trial.
    """
    before, patience = gc.get_threshold(), sys.getswitchinterval()
    gc.freeze()
    gc.set_threshold(20_000, *before[1:])
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(patience)
        gc.set_threshold(*before)
        gc.unfreeze()
