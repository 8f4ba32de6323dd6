"""The journal of a study: an append-only file of events, one JSON object a line.

The journal is the truth of a study. The Optuna study, the MLflow runs and the report are views that
can be rebuilt from it. One process at a time writes it. An event is on disk before anything acts on
it. If a kill, a power cut or a full disk tears the last line, the next write cuts it off.

Each line ends with ``n``, its place in the journal from 0, and ``crc``, the CRC-32 of the line
before that. A line that was changed, lost or moved is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from flowersweep.errors import StudyError
from flowersweep.study.events import Event, from_json, require_readable, to_json
from flowersweep.util.files import make_folder, require_no_links, sync_above
from flowersweep.util.locks import take_lock

CHECKSUM = b',"crc":'
LOCK_WAIT_S = 0.2  # ``lock_holder`` takes the lock for microseconds
AnyEvent = TypeVar("AnyEvent", bound=Event)


def read_events(path: Path, offset: int = 0, most: int | None = None) -> tuple[list[Event], int]:
    """Return the complete events from byte ``offset`` on, and the offset behind the last one.

    A torn last line is left for the next call.

    Args:
        most: Read at most this many bytes, but at least one event.

    Raises:
        StudyError: A line is damaged or missing, which no kill can cause, the journal has another
            format, or there is a link in its folder.
    """
    if not path.exists():
        return [], 0
    if offset == 0:
        require_no_links(path.parent)
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(-1 if most is None else most)
        if len(data) == most and b"\n" not in data:
            data += file.readline()
        whole = _without_torn_line(data, last=not file.read(1))
    lines = [*_checked(path, whole.splitlines(), offset)]
    if lines and offset == 0:
        require_readable(lines[0])
    return [from_json(line) for line in lines], offset + len(whole)


def _without_torn_line(data: bytes, *, last: bool) -> bytes:
    """Cut off a last line without its end, or, after a power cut, with pages of zeros in it."""
    whole = data[: data.rfind(b"\n") + 1]
    start = whole.rfind(b"\n", 0, -1) + 1
    return whole[:start] if last and b"\0" in whole[start:] else whole


def sealed(line: bytes) -> bytes:
    """Return a line of JSON with its checksum."""
    return b"%s%s%d}\n" % (line[:-1], CHECKSUM, zlib.crc32(line))


def _checked(path: Path, lines: list[bytes], offset: int) -> Iterator[dict[str, Any]]:
    """Parse lines, and check that each is as it was written and follows the one before.

    Lines from before there were checksums may come first.
    """
    wanted = 0 if offset == 0 else None  # the number of the next line, where it is known
    checked = False
    for index, text in enumerate(lines):
        try:
            if not isinstance(line := json.loads(text), dict):
                raise ValueError("it is no event")
            if checked := checked or "crc" in line:
                number, _ = line.pop("n"), line.pop("crc")
                if text + b"\n" != sealed(text.rpartition(CHECKSUM)[0] + b"}"):
                    raise ValueError("its checksum is another")
                if wanted is not None and number != wanted:
                    raise ValueError(f"event {wanted} is missing before it")
                wanted = number
        except (ValueError, KeyError) as error:
            place = path.read_bytes()[:offset].count(b"\n") + index + 1
            raise StudyError(
                f"{path}, line {place} is damaged ({error}). Restore the journal from a copy, or "
                "start a study of another name: study=NAME"
            ) from error
        wanted = None if wanted is None else wanted + 1
        yield line


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def lock_holder(folder: Path) -> str | None:
    """Return the holder of the lock of the study in ``folder``; None if the lock is free."""
    try:
        with (folder / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or "another process"
    except OSError:
        return None
    return None


class Journal:
    """The one writer of a study's events. A context manager that holds the study's lock.

    Raises:
        StudyError: Another process holds the lock (the message names it), or the folder cannot be
            written, or has no locks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            make_folder(path.parent, 0o700)
            require_no_links(path.parent)
            self._lock = open(path.parent / "lock", "a+", opener=_open_private)  # noqa: SIM115 - open as long as the lock is held
        except OSError as error:
            raise StudyError(
                f"cannot write into {path.parent}: {error.strerror}. Choose another folder: "
                "dir=PATH"
            ) from error
        self._take_lock()
        try:
            self.events, self._end = read_events(path)
        except BaseException:
            self._lock.close()
            raise
        self._opened = time.monotonic()
        self._file: int | None = None  # the first event creates it
        self.still = threading.Lock()  # held while an event is written

    @property
    def end(self) -> int:
        """The bytes of the whole events."""
        return self._end

    @property
    def elapsed(self) -> float:
        """Seconds since the journal was opened, without those of a suspended machine."""
        return time.monotonic() - self._opened

    def _take_lock(self) -> None:
        deadline = time.monotonic() + LOCK_WAIT_S
        while not take_lock(self._lock):
            if time.monotonic() < deadline:
                time.sleep(LOCK_WAIT_S / 20)
                continue
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            self._lock.close()
            raise StudyError(
                f'study "{self.path.parent.name}" is being run by {holder}. Wait for it, stop '
                "it, or choose another name: study=NAME"
            )
        self._lock.truncate(0)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {now}"
        with contextlib.suppress(OSError):  # on a full disk the lock still holds
            os.write(self._lock.fileno(), holder.encode())

    def append(self, event: AnyEvent) -> AnyEvent:
        """Write an event durably; return it with its time.

        Raises:
            StudyError: The disk is full. The journal stays whole.
        """
        with self.still:
            return self._append(event)

    def _append(self, event: AnyEvent) -> AnyEvent:
        event = replace(event, time=time.time(), elapsed=round(self.elapsed, 6))
        content = {**to_json(event), "n": len(self.events)}
        text = json.dumps(content, allow_nan=False, separators=(",", ":"))
        line = sealed(text.encode())
        try:
            self._write(line)
        except OSError as error:
            raise StudyError(
                f"cannot write {self.path}: {error.strerror}. Make room and run the same command "
                "again"
            ) from error
        except BaseException:
            # Ctrl-C: a reader may have seen the line, so a complete line stays
            if self._file is not None and os.fstat(self._file).st_size == self._end + len(line):
                self._accept(event, line)
            raise
        self._accept(event, line)
        return event

    def _accept(self, event: Event, line: bytes) -> None:
        self._end += len(line)
        self.events.append(event)

    def _write(self, line: bytes) -> None:
        if opened := self._file is None:
            self._file = _open_private(str(self.path), os.O_RDWR | os.O_CREAT)
        # cut off what a kill or a full disk left half-written
        os.ftruncate(self._file, self._end)
        size = 0
        while size < len(line):
            size += os.pwrite(self._file, line[size:], self._end + size)
        os.fsync(self._file)
        if opened:
            sync_above(self.path)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
        self._lock.close()
