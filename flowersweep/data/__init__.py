"""From a folder of TFRecords to verified splits and batches of uint8 images; the only package that imports TensorFlow."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Send what native code writes to standard error to nowhere; exceptions still come through."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


# TensorFlow only reads files here. It takes all of a GPU's memory and a TPU whole on first use, and both belong to JAX;
# and what it says of accelerators while it is imported, no log level can silence.
with _silenced():
    import tensorflow as _tf

    for _kind in ("GPU", "TPU"):
        with contextlib.suppress(
            RuntimeError, ValueError, _tf.errors.OpError
        ):  # already started, or no such kind of device
            _tf.config.set_visible_devices([], _kind)
