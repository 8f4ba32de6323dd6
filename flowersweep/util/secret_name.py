"""A name that nobody else can guess, for what is only safe to use if this user wrote it."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

LENGTH = 32


@cache
def secret_name() -> str:
    """Return 32 hex digits that stay the same for this user on this machine.

    They lie in the user's state folder. Where none can be written, they are made of the machine's
    own numbers: strangers elsewhere do not know these either.
    """
    with suppress(OSError, RuntimeError, UnicodeDecodeError):
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
    draft = path.with_name(f"{secrets.token_hex(8)}.partial")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(LENGTH // 2))
    try:
        os.link(draft, path)  # of two processes the first wins
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text().strip()
