"""One call in a process of somebody else: what a command sets for good holds for the call alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from flowersweep import signals
from flowersweep.config.compose import compose as compose_words
from flowersweep.config.compose import compose_unchecked
from flowersweep.config.schema import Config
from flowersweep.errors import FlowersweepError
from flowersweep.util import environment


def compose(words: Sequence[str]) -> Config:
    """Return the configuration of words, from files and folders as they are at this moment.

    Raises:
        ConfigError: The words name what does not exist or cannot be.
    """
    environment.require_assertions()
    compose_unchecked.cache_clear()  # the working directory, or a function, may be another one
    return compose_words(words)


@contextmanager
def computing(*, verbose: bool) -> Iterator[None]:
    """Within it the process computes as a command does; afterwards it is as it was.

    Ctrl-C, and a notebook's "interrupt kernel", raise KeyboardInterrupt where the journal can still
    be closed.

    Args:
        verbose: Show warnings on standard error.

    Raises:
        ConfigError: JAX does not start, or Keras runs on another backend.
    """
    from flowersweep import runtime

    with ExitStack() as open_:
        open_.enter_context(logs(verbose=verbose))
        environment.name_user()
        runtime.require_libraries()
        open_.enter_context(runtime.restored_settings())
        open_.enter_context(signals.handlers())
        open_.enter_context(_masked_errors())
        yield


@contextmanager
def _masked_errors() -> Iterator[None]:
    """Within it no message shows a secret: a notebook keeps what it has printed."""
    from flowersweep.tracking.masking import masked_message

    try:
        yield
    except FlowersweepError as error:
        if (masked := masked_message(str(error))) != str(error):
            raise type(error)(masked) from None
        raise


@contextmanager
def logs(*, verbose: bool) -> Iterator[None]:
    """Within it warnings go to standard error if ``verbose``; else only where the program around us
    has asked for them.
    """
    handler = logging.StreamHandler() if verbose else logging.NullHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    log = logging.getLogger("flowersweep")
    if verbose and logging.getLogger().hasHandlers():  # it shows them already
        handler = logging.NullHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
