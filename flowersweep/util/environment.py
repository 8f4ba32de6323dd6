"""What a process must have wherever it is started: streams, UTF-8, a user with a name."""

from __future__ import annotations

import atexit
import errno
import getpass
import io
import locale
import os
import shutil
import sys
import tempfile
from pathlib import Path

from flowersweep.errors import ConfigError


class StandardStream(io.TextIOWrapper):
    """Standard output or error that no reader, terminal or full disk can make fail.

    Once a write fails, this and the rest go to the null device, so that the command does its work
    to the end.
    """

    failure: OSError | None = None

    # Not at the level of bytes: a signal after a write of ours would have it written once more.
    def write(self, text: str) -> int:
        """Write text; return how many characters."""
        try:
            return super().write(text)
        except BlockingIOError:
            raise
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Write out what is buffered."""
        try:
            super().flush()
        except BlockingIOError:
            raise
        except OSError as error:
            self._give_up(error)
            super().flush()

    def _give_up(self, error: OSError) -> None:
        self.failure = error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


def open_streams() -> None:
    """Give the process standard streams that do not fail, also where some of them are closed.

    A file of ours would otherwise get the number of a closed stream, and be written over by
    libraries.
    """
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(null)
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        raw = io.FileIO(number, "w", closefd=False)
        stream = StandardStream(
            io.BufferedWriter(raw),
            encoding=before.encoding if before else "utf-8",
            errors="backslashreplace",
            line_buffering=number == 2 or raw.isatty(),
        )
        setattr(sys, name, stream)


def close_streams(code: int) -> int:
    """Write out what is left, and return the exit code: 1 if output was lost.

    A reader that has gone loses nothing: it wanted no more.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is None or failure.errno in (errno.EPIPE, errno.EIO):
        return code
    print(f"standard output cannot be written: {failure.strerror}", file=sys.stderr)
    return code or 1


def use_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if the locale has another encoding.

    Files are then UTF-8, and names of files are read as they are, in every library. The process
    keeps its number, streams and arguments.
    """
    if locale.getencoding().lower().replace("-", "") == "utf8" or sys.flags.utf8_mode:
        return
    if os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def require_assertions() -> None:
    """Raise ConfigError if Python runs without assertions."""
    if sys.flags.optimize:
        raise ConfigError(
            "Python runs without assertions (-O or PYTHONOPTIMIZE), and Hydra does not work "
            "without: leave it out"
        )


def name_user() -> None:
    """Give a user without a name or a home, as containers have, both: libraries ask for them.

    The home lasts as long as the command.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"uid-{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = home = tempfile.mkdtemp(prefix="flowersweep-home-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)
