"""A command works wherever it is started: without a reader, a terminal, UTF-8, a name or a home."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment

NOBODY = "import pwd\ndef missing(number):\n    raise KeyError(number)\npwd.getpwuid = missing\n"


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script in which ``$fs`` is the command."""
    command = f"{sys.executable} -m flowersweep"
    return subprocess.run(
        ["bash", "-c", f"fs='{command}'; {script}"],
        cwd=folder,
        env={**environment(), **variables},
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_a_reader_that_goes_ends_no_command(project: Path) -> None:
    run = shell("$fs --help | head -1 > line; echo ${PIPESTATUS[0]}", project)
    assert run.stdout == b"0\n"
    assert run.stderr == b""
    # a reader that is gone before the first line
    run = shell("{ sleep 1; $fs config > report.txt; $fs config; echo $? >&2; } | true", project)
    assert run.stderr == b"0\n"
    assert (project / "report.txt").stat().st_size > 1000


def test_output_that_is_lost_on_a_full_disk_is_an_error(project: Path) -> None:
    run = shell("$fs config > /dev/full", project)
    assert run.returncode == 1
    assert run.stderr == b"standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error_and_no_file_takes_its_place(
    closed: str, project: Path
) -> None:
    assert shell(f"$fs config {closed}", project).returncode == 0
    assert shell(f"$fs status study=nothing {closed}", project).returncode == 1
    code = (
        "import sys; from flowersweep.util.environment import open_streams; open_streams(); "
        "file = open('file', 'w'); file.write(str(file.fileno() > 2)); print(1)"
    )
    shell(f'{sys.executable} -c "{code}" {closed}', project)
    assert (project / "file").read_text() == "True"


def test_text_is_utf8_in_every_locale(project: Path) -> None:
    (project / "sweeps").mkdir()
    (project / "sweeps" / "größe.yaml").write_text("# Wie groß? Ja.\nsweep: {}\n", "utf-8")
    variables = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    run = shell("$fs --help", project, **variables)
    assert "+sweep=größe: Wie groß?" in run.stdout.decode("utf-8")
    run = shell("$fs --help", project, **variables, PYTHONIOENCODING="ascii")
    assert b"+sweep=gr\\xf6\\xdfe" in run.stdout
    assert run.stderr == b""


def test_a_user_without_a_name_and_a_home_gets_both(project: Path) -> None:
    (project / "sitecustomize.py").write_text(NOBODY)
    script = (
        "import getpass; from pathlib import Path; "
        "from flowersweep.util.environment import name_user; name_user(); "
        "print(getpass.getuser(), Path.home() if Path.home().is_dir() else None)"
    )
    names = "-u HOME -u USER -u LOGNAME -u LNAME -u USERNAME"
    path = f"{project}:{environment()['PYTHONPATH']}"
    run = shell(f"env {names} {sys.executable} -c '{script}'", project, PYTHONPATH=path)
    name, home = run.stdout.decode().split()
    assert name == f"uid-{os.getuid()}"
    assert not Path(home).exists()  # any more
    run = shell("HOME=/root USER=me LOGNAME= $fs config", project, PYTHONPATH=path)
    assert run.returncode == 0


def test_python_without_assertions_is_refused_in_one_line(project: Path) -> None:
    run = shell("$fs config", project, PYTHONOPTIMIZE="1")
    assert run.returncode == 1
    assert run.stderr.startswith(b"ConfigError: Python runs without assertions")


def test_the_version_is_said(project: Path) -> None:
    run = shell("$fs --version", project)
    assert run.stdout.startswith(b"flowersweep ")
    assert run.returncode == 0


def test_a_signal_after_output_does_not_repeat_it() -> None:
    program = (
        "import signal, time\n"
        "from flowersweep.util import environment\n"
        "environment.open_streams()\n"
        "def interrupt(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, interrupt)\n"
        "count = 0\n"
        "while count < 400:\n"
        "    try:\n"
        "        signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + count % 50))\n"
        "        print(f'<{count}>', flush=True)\n"
        "        time.sleep(0.001)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
        "    count += 1\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    written = re.findall(r"<\d+>", done.stdout)
    assert len(written) == len({*written}) > 100
