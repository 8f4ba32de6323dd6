"""The documentation is true: links lead somewhere, commands compose, nothing is left out, and the
worked example runs.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from flowersweep.__main__ import overrides
from flowersweep.config.compose import compose, compose_unchecked
from tests.conftest import Command
from tests.test_layers import LAYERS

ROOT = Path(__file__).parents[1]
PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bench" / "README.md")
    if path.exists()
]
PAGES += sorted((ROOT / "docs").glob("*.md"))

OWN = re.compile(r"<!-- own -->\n```.*?```", re.DOTALL)  # commands for files that the reader writes
EXAMPLE = re.compile(r"<!-- example -->\n```bash\n(.*?)\n```", re.DOTALL)
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)")
CODE_FILE = re.compile(r"(?<![\w/.])\w+/[\w/]+\.py\b")
NAME_IN_FILE = re.compile(r"`(\w+)`(?:,| in| of)\s`([\w/]+\.py)`")
FILE_WITH_NAME = re.compile(r"`([\w/]+\.py)`,\s`(\w+)`")
COMMAND = re.compile(r"python -m flowersweep([^`\n]*)")


def commands(page: Path) -> list[str]:
    """Return what stands behind ``python -m flowersweep`` on a page, but for the reader's own
    examples.
    """
    text = EXAMPLE.sub("", OWN.sub("", page.read_text())).replace("\\\n", " ")
    return list(dict.fromkeys(found.strip() for found in COMMAND.findall(text)))


def words(command: str) -> list[str]:
    """Return the words of a command: optional ones are taken, a value in capitals stands for itself
    but for the name of a sweep.
    """
    plain = shlex.split(command.replace("+sweep=NAME", "+sweep=smoothing"), comments=True)
    return [re.sub(r"^\[(\w.*=.*)\]$", r"\1", word) for word in plain]


LINES = [
    pytest.param(line, id=f"{page.name}: {line}")
    for page in PAGES
    for line in commands(page)
    if "--help" not in line
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("line", LINES)
def test_every_command_shown_composes(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert compose(overrides(words(line)))


def test_commands_are_found() -> None:
    assert {
        "+sweep=smoothing",
        "promote study=smoothing     # fresh seeds, then champion if the evidence carries it",
    } <= set(commands(ROOT / "README.md"))
    assert words("promote study=NAME [data.classes=FILE]  # why") == [
        "promote",
        "study=NAME",
        "data.classes=FILE",
    ]


def test_every_group_and_sweep_is_written_about() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    groups = [path.name for path in (ROOT / "conf").iterdir() if path.is_dir()]
    sweeps = [path.stem for path in (ROOT / "sweeps").glob("*.yaml")]
    assert not [group for group in groups if not re.search(rf"`{group}[`=:]|\b{group}=", text)]
    assert not [sweep for sweep in sweeps if not re.search(rf"`{sweep}`|sweep={sweep}\b", text)]


def test_the_quickstart_has_a_row_for_every_verb() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|.*python -m flowersweep",
        (ROOT / "docs" / "quickstart.md").read_text(),
        re.MULTILINE,
    )
    assert sorted(rows) == sorted(path.stem for path in (ROOT / "conf" / "verb").glob("*.yaml"))


def test_the_map_of_the_house_has_a_row_for_every_room() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    rows = {
        name.strip("/").removesuffix(".py")
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in row.split("`")[1::2]
    }
    assert set().union(*LAYERS) - {"__main__"} <= rows


def code_file(name: str) -> Path | None:
    """The file of a name such as ``search/loop.py``, in the package or beside it."""
    return next(
        (path for path in (ROOT / "flowersweep" / name, ROOT / name) if path.exists()), None
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_function_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    assert not [name for name in set(CODE_FILE.findall(text)) if code_file(name) is None]
    pairs = [*NAME_IN_FILE.findall(text), *(pair[::-1] for pair in FILE_WITH_NAME.findall(text))]
    for name, file in pairs:
        path = code_file(file)
        assert path is None or re.search(rf"\b{name}\b", path.read_text()), f"{file}: {name}"


def test_files_and_functions_are_found() -> None:
    design, guide = ((ROOT / page).read_text() for page in ("docs/design.md", "CONTRIBUTING.md"))
    assert len({*CODE_FILE.findall(design)}) > 20
    assert len(NAME_IN_FILE.findall(guide)) > 5
    assert ("config/files.py", "frozen_files") in FILE_WITH_NAME.findall(design)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name == "docs"], ids=lambda page: page.name
)
def test_no_cell_of_a_table_is_a_paragraph(page: Path) -> None:
    cells = [
        cell
        for line in page.read_text().splitlines()
        if line.startswith("|")
        for cell in line.split(" | ")
    ]
    assert not [cell for cell in cells if len(cell) > 160]


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows into a folder."""
    for name, content in FILE.findall((ROOT / "docs" / page).read_text()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def test_the_sweep_that_is_written_as_an_example_composes(project: Path) -> None:
    write_files("sweeps.md", project)
    compose_unchecked.cache_clear()
    assert set(compose(["+sweep=optimizers"]).sweep.space) >= {"optimizer", "schedule", "half_life"}


@pytest.mark.slow
def test_the_worked_example_runs_in_a_folder_of_the_users_own(
    project: Path, command: Command
) -> None:
    write_files("extend.md", project)
    [line] = EXAMPLE.findall((ROOT / "docs" / "extend.md").read_text())
    tiny = "data.fetch={_target_: synthetic, classes: 5, train: 8, val: 6, test: 2, image_size: 32}"
    shown = words(line.removeprefix("python -m flowersweep"))
    run = command(*shown, tiny, "train.epochs=2", "train.batch_per_replica=8", "progress=false")
    assert run.returncode == 0, run.stderr
    assert "4 trials: 4 complete" in run.stdout
    assert "epsilon" in run.stdout
    assert re.search(r"programs compiled: \d+ in the first trial, 0 in the 3 after it", run.stdout)
