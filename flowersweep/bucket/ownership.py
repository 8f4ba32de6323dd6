"""Who may write a study in a bucket: one machine at a time.

Every command that writes takes the next number by creating ``owner-NUMBER.json``, which a store
lets one of two machines do. It signs that object again and again while it runs. The highest number
owns the study, and each owner has a manifest of its own number: what an earlier owner still
writes, after it was cut off for an hour, is not read by anybody.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flowersweep import signals
from flowersweep.bucket.store import Bucket
from flowersweep.errors import StudyError
from flowersweep.util.files import write_bytes

log = logging.getLogger(__name__)

SIGN_S = 15.0  # seconds between two signs of life
SILENT_S = 60.0  # seconds without a sign after which an owner counts as dead
LOOK_S = 2.0  # seconds between two looks at an owner that may be dead
OWNER = re.compile(r"owner-(\d{6})\.json")


@dataclass(frozen=True)
class Owner:
    """A command that writes, or wrote, a study in a bucket."""

    project: str  # a random name of the folder ``dir``
    host: str
    process: int
    signs: int = 0
    ended: bool = False  # it ended in order

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Ownership:
    """The right to write a study in a bucket."""

    def __init__(self, bucket: Bucket, dir: Path) -> None:
        self._bucket = bucket
        self._owner = Owner(_project(dir), socket.gethostname(), os.getpid())
        self._signed = 0.0
        self.number = 0  # 0: not taken yet

    def take(self, *, by_force: bool) -> None:
        """Become the owner.

        Wait for up to a minute to see whether an earlier owner, which did not end in order, lives.

        Raises:
            StudyError: Another machine runs the study.
            BucketError: The bucket does not answer.
        """
        last = max(owners(self._bucket.sizes()), default=0)
        if last and not by_force:
            self._require_gone(last)
        if not self._bucket.create(_key(last + 1), self._content()):
            raise StudyError(
                "another machine has begun to run this study at the same moment. Stop one of them"
            )
        self.number, self._signed = last + 1, time.monotonic()

    def check(self, keys: Iterable[str]) -> None:
        """Raise StudyError if another machine has taken the study over."""
        if (last := max(owners(keys), default=0)) > self.number:
            raise StudyError(
                f"{_owner(self._bucket, last)} has taken the study over. This command goes on, and "
                "what it does stays on this machine"
            )

    def sign(self) -> None:
        """Show that this owner lives, unless it has just done so."""
        if self.number and time.monotonic() - self._signed > SIGN_S:
            self._owner = replace(self._owner, signs=self._owner.signs + 1)
            self._bucket.write(_key(self.number), self._content())
            self._signed = time.monotonic()

    def end(self) -> None:
        """Let the next command take the study without a wait."""
        number, self.number = self.number, 0
        if number:
            self._owner = replace(self._owner, ended=True)
            self._bucket.write(_key(number), self._content())

    def _content(self) -> bytes:
        return json.dumps(asdict(self._owner)).encode()

    def _require_gone(self, number: int) -> None:
        first = owner = _owner(self._bucket, number)
        if (owner.project, owner.host) == (self._owner.project, self._owner.host):
            return  # the lock of the study's folder says that it is gone
        while not owner.ended and (silent := self._silence(number)) < SILENT_S:
            if owner.signs != first.signs:
                raise StudyError(
                    f"the study is being run by {owner}. Stop it, or choose another name "
                    "(study=NAME). If it must not go on: sync.take_over=true"
                )
            if owner is first:
                log.warning(
                    "%s ran this study and did not end in order; waiting up to %d s for a sign "
                    "that it lives. At once: sync.take_over=true",
                    owner,
                    SILENT_S - silent,
                )
            signals.raise_if_interrupted()
            time.sleep(LOOK_S)
            owner = _owner(self._bucket, number)

    def _silence(self, number: int) -> float:
        """Return the seconds since an owner's last sign, by the clock of the bucket."""
        self._bucket.write("clock", b"")
        return self._bucket.modified("clock") - self._bucket.modified(_key(number))


def owners(keys: Iterable[str]) -> list[int]:
    """Return the numbers of the owners among these keys."""
    return [int(match[1]) for key in keys if (match := OWNER.fullmatch(key))]


def _key(number: int) -> str:
    return f"owner-{number:06d}.json"


def _owner(bucket: Bucket, number: int) -> Owner:
    try:
        return Owner(**json.loads(bucket.read(_key(number))))
    except (ValueError, TypeError):  # its machine died while it wrote this
        return Owner("", "an unknown machine", 0)


def _project(dir: Path) -> str:
    """Return the random name of ``dir``; give it one if it has none.

    It tells apart projects on machines of one name.
    """
    path = dir / "project"
    try:
        return path.read_text()
    except FileNotFoundError:
        name = uuid.uuid4().hex
        write_bytes(path, name.encode())
        return name
