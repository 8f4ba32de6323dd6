"""A name that nobody else can guess, for what is only safe to use if this user wrote it."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

from flowersweep.errors import StudyError
from flowersweep.util.files import write_bytes

LENGTH = 32


@cache
def secret_name() -> str:
    """Return 32 hex digits that stay the same for this user on this machine.

    They lie in the user's state folder. Where none can be written, they are made of the machine's
    own numbers: strangers elsewhere do not know these either.
    """
    with suppress(OSError, StudyError, RuntimeError, UnicodeDecodeError):
        name = _stored(Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"))
        if len(name) == LENGTH and name.isalnum():
            return name
    machine = Path("/etc/machine-id")
    facts = [machine.read_text() if machine.is_file() else "", socket.gethostname(), os.getuid()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:LENGTH]


def _stored(state: Path) -> str:
    path = state / "flowersweep" / "secret_name"
    with suppress(FileNotFoundError):
        return path.read_text().strip()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(path, secrets.token_hex(LENGTH // 2).encode())
    return path.read_text().strip()  # of another process, if that was later
