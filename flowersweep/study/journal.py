"""The truth of a study: an append-only file of events, one JSON object a line, with one writer at a time.

Everything else (the Optuna study, the MLflow runs) is a view that can be rebuilt from it. An event is on disk before
anything acts on it; a line torn by a kill or a full disk is cut off when the journal is next opened for writing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from flowersweep.errors import StudyError

Event = dict[str, Any]


def read_events(path: Path, offset: int = 0, most: int | None = None) -> tuple[list[Event], int]:
    """Return the whole events of ``path`` from byte ``offset`` on, and the offset just behind the last of them.

    ``most``: only as many as fit into so many bytes, but one at least. A torn last line is left for later.
    Raises StudyError for a broken line in the middle, which no kill can make.
    """
    if not path.exists():
        return [], 0
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(-1 if most is None else most)
        if len(data) == most and b"\n" not in data:
            data += file.readline()
    whole = data[: data.rfind(b"\n") + 1]
    try:
        return [json.loads(line) for line in whole.splitlines()], offset + len(whole)
    except ValueError as error:
        raise StudyError(f"{path} is damaged ({error}): restore it from a copy, or begin a study of another name") from error


def lock_holder(folder: Path) -> str | None:
    """Return who holds the lock of the study in ``folder``, as the lock says; None if nobody does.

    To find out, the lock is taken for an instant together with other readers; a sweep that begins in that instant is refused.
    """
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
    """The one writer of a study's events; a context manager that holds the study's lock.

    Raises StudyError if another process holds it, naming that process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = (path.parent / "lock").open("a+")
        except OSError as error:
            raise StudyError(f"cannot write into {path.parent}: {error.strerror}. Choose another folder: dir=PATH") from error
        self._claim()
        self.events, self._end = read_events(path)
        self._file: int | None = None  # made by the first event

    def _claim(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            self._lock.close()
            raise StudyError(
                f'study "{self.path.parent.name}" is being run by {holder}. Wait for it, stop it, or choose another name: study=NAME'
            ) from None
        self._lock.truncate(0)
        holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        with contextlib.suppress(OSError):  # on a full disk the lock holds, and says nothing of its holder
            os.write(self._lock.fileno(), holder.encode())

    def append(self, event: str, **content: Any) -> Event:
        """Write one event durably and return it; ``time`` (seconds since the epoch) is added.

        Raises StudyError when the disk is full, with the journal left whole.
        """
        record = {"event": event, "time": time.time(), **content}
        line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        try:
            self._write(line)
        except OSError as error:
            raise StudyError(f"cannot write {self.path}: {error.strerror}. Make room and run the same command again") from error
        self._end += len(line)
        self.events.append(record)
        return record

    def _write(self, line: bytes) -> None:
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        # cuts off what a kill or a full disk left half-written, now or in an earlier life
        os.ftruncate(self._file, self._end)
        done = 0
        while done < len(line):
            done += os.pwrite(self._file, line[done:], self._end + done)
        os.fsync(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)
        self._lock.close()
