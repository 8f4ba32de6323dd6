"""What is noted of the code, the changes in it and the machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flowersweep import provenance
from flowersweep.machine import MachineMonitor, describe_machine


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "losses.py").write_text("SLOPE = 1\n")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "begin"],
    ):
        subprocess.run(["git", *words], check=True, capture_output=True)
    return tmp_path


def test_changes_and_new_files_can_be_applied_to_the_commit(checkout: Path) -> None:
    assert provenance.diff() is None
    (checkout / "losses.py").write_text("SLOPE = 2\n")
    (checkout / "more.yaml").write_text("name: more\n")
    text = provenance.diff()
    assert text is not None
    (checkout / "code.diff").write_text(text)
    (checkout / "more.yaml").unlink()
    subprocess.run(["git", "checkout", "-q", "losses.py"], check=True)
    subprocess.run(["git", "apply", "code.diff"], check=True)
    assert (checkout / "losses.py").read_text() == "SLOPE = 2\n"
    assert (checkout / "more.yaml").read_text() == "name: more\n"


def test_long_changes_are_cut_and_say_so(checkout: Path) -> None:
    (checkout / "losses.py").write_text("SLOPE = 2\n" * 40_000)
    text = provenance.diff()
    assert text is not None
    assert len(text) < provenance.LONGEST_DIFF + 100
    assert "# cut off after" in text


def test_outside_a_checkout_there_is_no_diff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.diff() is None
    assert provenance.commit() is None


def test_the_digest_of_the_code_covers_the_users_own_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_own_losses.py").write_text("SLOPE = 1\n")
    digests = [provenance.code(), provenance.code(["my_own_losses"])]
    (tmp_path / "my_own_losses.py").write_text("SLOPE = 2\n")
    digests += [provenance.code(["my_own_losses"]), provenance.code()]
    assert len({*digests}) == 3
    assert digests[0] == digests[-1]


def test_the_code_that_trains_is_all_that_a_trial_imports() -> None:
    import ast

    package, seen, left = Path(provenance.__file__).parent, set(), ["training"]
    while left:
        room = left.pop()
        seen.add(room)
        files = [*(package / room).rglob("*.py")] or [package / f"{room}.py"]
        named = [
            node
            for file in files
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ImportFrom)
        ]
        rooms = {
            node.module.split(".")[1]
            for node in named
            if (node.module or "").startswith("flowersweep.")
        }
        left += sorted(rooms - seen - {*left})
    # these carry messages and events; what they say decides no number
    assert seen - {"execution", "space", "study", "signals"} <= {*provenance.TRIAL}


def test_the_machine_is_described_and_sampled(tmp_path: Path) -> None:
    machine = MachineMonitor(tmp_path)
    assert not machine.due
    found = machine.sample()
    assert 0 < found["disk_usage_percentage"] < 100
    assert found["process_memory_megabytes"] > 1
    assert int(describe_machine()["cores"] or 0) >= 1


def test_git_runs_no_program_that_the_settings_of_a_folder_name(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ran = tmp_path_factory.mktemp("ran")
    evil = ran / "evil.sh"
    evil.write_text(f'#!/bin/sh\ntouch "{ran}/$(basename "$0")-$$"\ncat\n')
    evil.chmod(0o755)
    hooks = checkout / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-index-change", "fsmonitor-watchman", "reference-transaction"):
        (hooks / hook).symlink_to(evil)
    settings = {
        "core.fsmonitor": evil,
        "core.pager": evil,
        "core.editor": evil,
        "core.sshCommand": evil,
        "diff.external": evil,
        "diff.evil.command": evil,
        "diff.evil.textconv": evil,
        "filter.evil.clean": evil,
        "filter.evil.process": evil,
        "filter.evil.required": "true",
        "filter.other.clean": evil,
        "pager.diff": evil,
        "alias.status": f"!{evil}",
        "remote.origin.url": f"ext::{evil}",
        "remote.origin.promisor": "true",
        "protocol.ext.allow": "always",
    }
    for name, value in settings.items():
        subprocess.run(["git", "config", name, str(value)], check=True)
    (checkout / ".gitattributes").write_text("*.py diff=evil filter=evil\n*.yaml filter=other\n")
    (checkout / "losses.py").write_text("SLOPE = 2\n")
    (checkout / "more.yaml").write_text("name: more\n")
    text = provenance.diff()
    assert text is not None
    assert "+SLOPE = 2" in text
    assert "+name: more" in text
    assert provenance.commit() is not None
    assert [path.name for path in ran.iterdir()] == ["evil.sh"]
    subprocess.run(["git", "diff", "HEAD"], check=False, capture_output=True)
    assert len([*ran.iterdir()]) > 1, "the attack is none"
