"""Studies that live in a bucket (`sync.to`): go on from there, keep it up to date, read from it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flowersweep.bucket.mirror import Mirror
from flowersweep.bucket.ownership import Ownership
from flowersweep.bucket.restore import restore
from flowersweep.bucket.store import Bucket, open_bucket
from flowersweep.config.schema import Config
from flowersweep.config.validation import STUDY_NAME
from flowersweep.errors import BucketError, ConfigError
from flowersweep.search.compatibility import study_folder
from flowersweep.study.journal import Journal, lock_holder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyBucket:
    """The bucket of a study that this command runs."""

    url: str
    bucket: Bucket
    ownership: Ownership

    def mirror(self, journal: Journal) -> Mirror:
        """Return what copies the study into the bucket."""
        return Mirror(journal, self.bucket, self.ownership, self.url)


def begin_from_bucket(config: Config, open_: contextlib.ExitStack) -> StudyBucket | None:
    """Own the study in its bucket until ``open_`` is closed, and take over what is further there.

    A bucket that does not answer is tried again later if the study is on this machine. Otherwise
    nobody knows how far the study is.

    Raises:
        BucketError: The bucket does not answer, and this machine has no such study.
        StudyError: Another machine runs the study.
    """
    folder = study_folder(config)
    if config.sync.to is None or lock_holder(folder) is not None:
        return None  # who opens the journal says who holds the lock
    bucket = _bucket(config, folder.name)
    ownership = Ownership(bucket, Path(config.dir))
    study = StudyBucket(config.sync.to, bucket, ownership)
    open_.callback(_end, ownership)
    try:
        ownership.take(by_force=config.sync.take_over)
        restore(bucket, folder)
    except BucketError as error:
        if not (folder / "journal.jsonl").exists():
            raise BucketError(
                f"{error}. Nothing was done, because the study may be in the bucket already. Make "
                "the bucket answer, or leave out sync.to"
            ) from error
        log.warning("%s. The study goes on here; the bucket is tried again meanwhile", error)
    return study


def fetch_studies(config: Config, names: Iterable[str]) -> None:
    """Bring studies that are only read up to what the bucket holds; who runs them is not disturbed.

    Raises:
        ConfigError: A name is none of a study.
        BucketError: The bucket does not answer.
        StudyError: This machine and the bucket have studies that went different ways.
    """
    if config.sync.to is not None:
        for name in names:
            if not STUDY_NAME.fullmatch(name):
                raise ConfigError(f"{name!r} is no name of a study, whose folder is named after it")
            restore(_bucket(config, name), Path(config.dir) / "studies" / name)


def send_study(config: Config, name: str) -> bool:
    """Send what the bucket lacks of a study that nobody runs; return whether it lacked anything.

    Raises:
        BucketError: The bucket does not answer.
        StudyError: The study is being run, here or by another machine.
    """
    folder, sent = Path(config.dir) / "studies" / name, False
    with Journal(folder / "journal.jsonl") as journal:
        bucket = _bucket(config, name)
        ownership = Ownership(bucket, Path(config.dir))
        ownership.take(by_force=config.sync.take_over)
        try:
            mirror = Mirror(journal, bucket, ownership, str(config.sync.to))
            while mirror.step():
                sent = True
        finally:
            _end(ownership)
    return sent


def _end(ownership: Ownership) -> None:
    with contextlib.suppress(BucketError):  # the next machine waits until its last sign is old
        ownership.end()


def _bucket(config: Config, name: str) -> Bucket:
    url = str(config.sync.to)
    path, studies = Path(url.partition("://")[2]).resolve(), Path(config.dir).resolve() / "studies"
    if url.startswith("file:") and (path.is_relative_to(studies) or path == studies):
        raise ConfigError(f"sync.to={url}: must not lie in {studies}, which it is to be a copy of")
    return open_bucket(url, name)
