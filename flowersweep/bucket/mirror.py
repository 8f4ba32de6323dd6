"""Keep a bucket up to date with a study that is being written.

What is in the bucket is always a state that the study was in. A snapshot is taken while the journal
stands still: its length, and the files as they are then. Their content goes first, then the
manifest that names it, then what no manifest names is removed.

How often is ``sync.interval_s``, which the thread of ``tracking/shipper.py`` keeps.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO

from flowersweep.bucket.manifest import (
    KEY,
    MANIFEST,
    TRAVELS,
    Content,
    Manifest,
    content_of,
    newest,
    part_name,
)
from flowersweep.bucket.ownership import OWNER, Ownership
from flowersweep.bucket.restore import is_behind, read_journal
from flowersweep.bucket.store import Bucket
from flowersweep.errors import StudyError
from flowersweep.study.journal import Journal

PART = 1 << 20  # bytes of a part of the journal; only the last part is ever replaced
MOST_OPEN = 100  # files that a snapshot holds open

Version = tuple[int, int, int]  # inode, time and size: another one is another content


@dataclass
class Snapshot:
    """A study at one moment: bytes of the journal, and what has changed since the last moment."""

    end: int = 0
    files: dict[str, Version] = field(default_factory=dict)
    changed: dict[str, IO[bytes]] = field(default_factory=dict)


class Mirror:
    """Copies a study into a bucket, step by step; a failed step can be repeated."""

    def __init__(self, journal: Journal, bucket: Bucket, ownership: Ownership, url: str) -> None:
        self.into, self.journal = url, journal.path
        self._journal, self._bucket, self._ownership = journal, bucket, ownership
        self._folder = journal.path.parent
        self._contents: dict[str, tuple[Version, Content]] = {}
        self._parts: list[Content] = []
        self._manifest = Manifest()  # that the bucket has, as far as is known
        self._joined = False

    @property
    def later(self) -> str:
        """What the bucket lacks, and the command that sends it."""
        events = self._journal.end - sum(part.bytes for part in self._manifest.journal)
        files = [
            name
            for name, version in _versions(self._folder).items()
            if name not in self._manifest.files or self._contents.get(name, (None,))[0] != version
        ]
        return (
            f"{events} bytes of the journal and {len(files)} files are missing there. Send them: "
            f"python -m flowersweep sync study={self._folder.name} sync.to={self.into}"
        )

    def step(self) -> int:
        """Bring the bucket up to date; return 1 if something was to be sent, else 0.

        Raises:
            BucketError: The bucket does not answer; call this again later.
            StudyError: Another machine owns the study by now, or went another way.
        """
        if not self._joined:
            self._join()
        keys = self._bucket.sizes()
        self._ownership.check(keys)
        self._ownership.sign()
        snapshot = self._snapshot(keys)
        try:
            for name, file in snapshot.changed.items():
                self._send(name, file, snapshot.files[name], keys)
        finally:
            for file in snapshot.changed.values():
                file.close()
        manifest = Manifest(
            self._journal_parts(snapshot.end, keys),
            {name: self._contents[name][1] for name in snapshot.files},
        )
        missing = self._missing(manifest, keys)
        if manifest == self._manifest and not missing:
            return 0
        if missing:  # files that were sent by an earlier command, and are not there any more
            for name in missing:
                self._contents.pop(name, None)
            return 1
        self._ownership.check(self._bucket.sizes())
        self._bucket.write(f"manifest-{self._ownership.number:06d}.json", manifest.to_json())
        before, self._manifest = self._manifest, manifest
        self._clean(keys, before)
        return 1

    def close(self) -> None:
        """Let the next command own the study at once; if the bucket is away it must wait."""
        with contextlib.suppress(Exception):
            self._ownership.end()

    def _join(self) -> None:
        """Take the study, if that was not possible when the command began.

        Raises StudyError if the bucket holds one that went another way.
        """
        if not self._ownership.number:
            self._ownership.take(by_force=False)
        manifest = newest(self._bucket, self._bucket.sizes())
        if manifest is not None and is_behind(self._folder, read_journal(self._bucket, manifest)):
            raise StudyError("the study in the bucket is further than this one")
        self._joined = True

    def _snapshot(self, keys: dict[str, int]) -> Snapshot:
        """Open what has changed, while no event is written."""
        while True:
            with self._journal.still:
                files = _versions(self._folder)
                changed = [name for name in files if self._version(name) != files[name]]
                if len(changed) <= MOST_OPEN:
                    return self._opened(files, changed)
            # many: send them first, whatever happens to them meanwhile
            for name in changed:
                with contextlib.suppress(FileNotFoundError), (self._folder / name).open("rb") as f:
                    self._send(name, f, files[name], keys)

    def _opened(self, files: dict[str, Version], changed: list[str]) -> Snapshot:
        opened: dict[str, IO[bytes]] = {}
        for name in changed:
            try:
                opened[name] = (self._folder / name).open("rb")
            except FileNotFoundError:  # no event needs it: those that did were written before
                del files[name]
                continue
            files[name] = _version(os.fstat(opened[name].fileno()))
        return Snapshot(self._journal.end, files, opened)

    def _version(self, name: str) -> Version | None:
        return self._contents[name][0] if name in self._contents else None

    def _send(self, name: str, file: IO[bytes], version: Version, keys: dict[str, int]) -> None:
        content = content_of(file)
        self._put(content.key(name), content, file, keys)
        self._contents[name] = version, content

    def _put(self, key: str, content: Content, file: IO[bytes], keys: dict[str, int]) -> None:
        """Send an object that the bucket lacks, or has only half of."""
        if keys.get(key) != content.bytes:
            self._bucket.upload(key, file, self._ownership.sign)
            keys[key] = content.bytes

    def _journal_parts(self, end: int, keys: dict[str, int]) -> list[Content]:
        whole = [part for part in self._parts if part.bytes == PART]
        with self.journal.open("rb") as file:
            for number in range(len(whole), -(-end // PART)):
                file.seek(number * PART)
                text = BytesIO(file.read(min(PART, end - number * PART)))
                whole.append(content_of(text))
                self._put(whole[-1].key(part_name(number)), whole[-1], text, keys)
        self._parts = whole
        return [*whole]

    def _missing(self, manifest: Manifest, keys: dict[str, int]) -> list[str]:
        missing = []
        for number, part in enumerate(manifest.journal):
            if keys.get(part.key(part_name(number))) != part.bytes:
                self._parts = self._parts[:number]
                missing.append(part_name(number))
        return missing + [
            name
            for name, content in manifest.files.items()
            if keys.get(content.key(name)) != content.bytes
        ]

    def _clean(self, keys: dict[str, int], before: Manifest) -> None:
        """Remove what no machine will read any more.

        What the manifest before names stays for those who are reading it.
        """
        needed = {*self._manifest.objects, *before.objects}
        own = f"{self._ownership.number:06d}.json"
        self._bucket.remove(
            key
            for key in keys
            if (KEY.fullmatch(key) and key not in needed)
            or ((OWNER.fullmatch(key) or MANIFEST.fullmatch(key)) and key.split("-")[1] < own)
        )


def _versions(folder: Path) -> dict[str, Version]:
    """Return the files of a study that travel, by path in its folder."""
    files = {}
    for path in (*folder.glob("*.*"), *folder.glob("checkpoints/*"), *folder.glob("trials/*/*")):
        name = path.relative_to(folder).as_posix()
        if TRAVELS.fullmatch(name):
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG((status := path.lstat()).st_mode):  # never what a link leads to
                    files[name] = _version(status)
    return files


def _version(status: os.stat_result) -> Version:
    return status.st_ino, status.st_mtime_ns, status.st_size
