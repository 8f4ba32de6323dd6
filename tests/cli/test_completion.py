"""Tab completes verbs, groups, options, keys and values."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowersweep.__main__ import main
from flowersweep.cli.completion import candidates
from tests.conftest import environment

BASH = """
eval "$(flowersweep --completion bash)"
complete_line() {{
  COMP_LINE="$1" COMP_POINT="${{#1}}" COMP_CWORD="$2"
  _flowersweep
  printf '%s\\n' "${{COMPREPLY[@]}}"
}}
complete_line {line!r} {position}
"""


@pytest.mark.parametrize(
    ("word", "first", "offered"),
    [
        ("pr", True, ["predict", "probabilities=", "progress=", "promote", "promotion.refit="]),
        ("pred", False, []),
        ("+sweep=smoo", False, ["+sweep=smoothing"]),
        ("loss=f", False, ["loss=focal"]),
        ("train.epo", False, ["train.epochs="]),
        ("train.finetune=", False, ["train.finetune=false", "train.finetune=true"]),
        ("data.resize=c", False, ["data.resize=crop"]),
        ("train.epochs=", False, []),
    ],
)
def test_a_word_is_completed(word: str, first: bool, offered: list[str]) -> None:
    found = candidates(word, first=first)
    assert {*offered} <= {*found}
    assert found == [] or offered


def test_studies_are_offered_by_name(project: Path) -> None:
    (project / "mlruns" / "studies" / "mine").mkdir(parents=True)
    (project / "mlruns" / "studies" / "mine" / "journal.jsonl").touch()
    assert candidates("study=", first=False) == ["study=mine"]


@pytest.mark.parametrize(
    ("line", "position", "offered"),
    [("flowersweep promo", 1, "promote"), ("flowersweep train loss=foc", 4, "focal")],
)
def test_bash_completes_a_line(line: str, position: int, offered: str, tmp_path: Path) -> None:
    command = tmp_path / "flowersweep"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowersweep "$@"\n')
    command.chmod(0o755)
    run = subprocess.run(
        [shutil.which("bash") or "bash", "-c", BASH.format(line=line, position=position)],
        env={**environment(), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert offered in run.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "script", "shown"),
    [
        (
            "fish",
            'flowersweep --completion fish | source; complete -C "flowersweep train loss=foc"',
            "loss=focal",
        ),
        (
            "zsh",  # without completion set up, as with an empty .zshrc
            'eval "$(flowersweep --completion zsh)"; echo $_comps[flowersweep]; '
            "compadd() { print -l -- ${@[4,-1]} }; words=(flowersweep train loss=foc) CURRENT=3; "
            "_flowersweep",
            "_flowersweep\nloss=focal",
        ),
    ],
)
def test_zsh_and_fish_complete_a_line(shell: str, script: str, shown: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    command = tmp_path / "flowersweep"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowersweep "$@"\n')
    command.chmod(0o755)
    quiet = ["-f"] if shell == "zsh" else ["--no-config"]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        [shell, *quiet, "-c", script],
        env={**environment(), "PATH": path, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == shown


def test_another_shell_is_told_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "tcsh"]) == 1
    assert "bash or zsh or fish" in capsys.readouterr().err
