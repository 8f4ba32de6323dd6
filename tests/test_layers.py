"""Imports go down only, and each big library has one door."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "flowersweep"

LAYERS = [  # each room may import from itself and from the rooms below
    {"__main__"},
    {"cli"},
    {"api"},
    {"session", "dashboard"},
    {"workflows", "serving"},
    {"report", "ensemble"},
    {"provenance"},
    {"search", "training"},
    {"execution", "tracking", "machine", "bucket"},
    {"models", "data", "testing"},
    {"space", "study"},
    {"evaluation"},
    {"config", "runtime"},
    {"util"},
    {"errors", "signals"},
]
# rooms that know a training only through execution.protocol, and work for any
GENERAL = ("search", "study", "tracking", "space", "bucket")
DOORS = {
    "hydra": {"config", "space", "search"},  # the sweep grammar and its parsed words
    # space, dashboard: distributions; report: importances and charts
    "optuna": {"dashboard", "search", "space", "report", "workflows", "ensemble"},
    "mlflow": {"tracking"},
    "keras": {"testing", "models", "training", "tracking", "workflows", "serving"},
    "keras_hub": {"models"},
    "jax": {"models", "training", "runtime"},
    "openvino": {"models"},
    "tensorflow": {"data"},
    "sklearn": {"evaluation", "data"},
    "scipy": {"evaluation", "search", "space"},
    "kagglehub": {"data"},
    "datasets": {"data"},
    "tensorflow_datasets": {"data"},
    "tensorboard": {"tracking"},
    "wandb": {"tracking"},
    "keras_tuner": {"search"},
    "ray": {"execution"},
    "fsspec": {"bucket"},
    "cmaes": {"search"},
    "plotly": {"report"},
    "jinja2": {"report"},
    "flask": {"dashboard"},
    "werkzeug": {"dashboard"},
    "PIL": {"data", "report"},
}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def room(path: Path) -> str:
    """The folder of the package that a file lies in, or the file itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                [f"flowersweep.{alias.name}" for alias in node.names]
                if node.module == "flowersweep"
                else [node.module]
            )


def layer(name: str) -> int:
    return next(n for n, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_below(path: Path) -> None:
    own = room(path)
    for name in imported(path):
        if name.startswith("flowersweep."):
            other = name.split(".")[1]
            assert other == own or layer(other) > layer(own), f"{own} may not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_big_library_is_imported_only_through_its_door(path: Path) -> None:
    for name in imported(path):
        library = name.split(".")[0]
        assert room(path) in DOORS.get(library, {room(path)}), f"{library} is not for {room(path)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_search_knows_no_images(path: Path) -> None:
    if room(path) in GENERAL:
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("flowersweep.")}
        assert not rooms & {"training", "models", "data"}


def test_no_folder_has_more_than_fifteen_files_and_no_package_more_than_a_sixth_of_the_lines() -> (
    None
):
    lines: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        lines[room(path)] += len(path.read_text().splitlines())
    for folder in {path.parent for path in FILES}:
        assert len([path for path in FILES if path.parent == folder]) <= 15, folder
    assert max(lines.values()) <= sum(lines.values()) / 6, lines.most_common(3)


def test_training_knows_nothing_of_the_search_and_of_tracking() -> None:
    for path in (PACKAGE / "training").rglob("*.py"):
        names = {
            name if name.startswith("flowersweep") else name.split(".")[0]
            for name in imported(path)
        }
        assert not {"optuna", "mlflow", "flowersweep.study.journal"} & names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_one_file_gives_files_their_names(path: Path) -> None:
    if path == PACKAGE / "util" / "files.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_os = isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "shutil")
            moves = node.func.attr == "rename" or (
                of_os and node.func.attr in ("replace", "move", "renames", "link")
            )
            # of a Path
            alone = (
                node.func.attr == "replace"
                and len(node.args) == 1
                and not node.keywords
                and not of_os
            )
            assert not moves, f"{path}:{node.lineno} moves a file: use util.files"
            assert not alone, f"{path}:{node.lineno} moves a file: use util.files"
