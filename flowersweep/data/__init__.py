"""From a folder of TFRecords to verified splits and batches of uint8 images; the only package that imports TensorFlow."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator

# what TensorFlow says of accelerators and instruction sets; no log level silences all of it
_NOISE = re.compile(rb"WARNING: All log messages before absl::|[IWE]\d{4} [\d:.]+ +\d+ |To enable the following instructions: ")


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Hold back what is written to standard error, and pass on what is not TensorFlow's noise."""
    before = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            held.seek(0)
            for line in held:
                if not _NOISE.match(line):
                    os.write(2, line)


# TensorFlow only reads files here. It takes all of a GPU's memory and a TPU whole on first use, and both belong to JAX.
with _without_noise():
    import tensorflow as _tf

    for _kind in ("GPU", "TPU"):
        with contextlib.suppress(RuntimeError, ValueError, _tf.errors.OpError):  # already started, or no such kind of device
            _tf.config.set_visible_devices([], _kind)
