"""What can go wrong that a user can mend: each message says what was asked, what exists and what to
do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FlowersweepError(Exception):
    """A mistake the user can mend; the command prints it without a traceback and exits with 1."""


class ConfigError(FlowersweepError):
    """The configuration asks for something that does not exist or cannot be."""


class DataError(FlowersweepError):
    """The images, labels or files are not what they must be; the message names file and record."""


class StudyError(FlowersweepError):
    """A study does not exist, is held by another process, or was started with other settings."""


class TrackingError(FlowersweepError):
    """The MLflow store or registry does not hold what was asked for."""


class ModelGone(TrackingError):
    """MLflow knows a model whose files are not there any more."""


class BucketError(FlowersweepError):
    """The bucket of a study does not answer, refuses, or holds what no study is made of."""


class TrialFailed(FlowersweepError):
    """This one configuration cannot be trained (loss not finite, out of memory): data for the
    study, not a bug.
    """


def did_you_mean(asked: str, options: Iterable[str], what: str) -> str:
    """Name the options there are, and the closest one if it is close: ``'Sweeps: a, b.

    Did you mean "a"?'``
    """
    known = sorted(options)
    close = get_close_matches(asked, known, n=1)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    return f"{what}: {', '.join(known) or '(none)'}.{hint}"
