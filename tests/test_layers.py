"""Imports go down only, and each big library has one door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "flowersweep"

LAYERS = [  # each room may import from itself and from the rooms below
    {"__main__"},
    {"cli"},
    {"workflows"},
    {"report", "ensemble"},
    {"search"},
    {"execution"},
    {"provenance"},
    {"training", "tracking", "machine"},
    {"models", "data", "testing"},
    {"space", "study"},
    {"evaluation"},
    {"config", "runtime"},
    {"errors", "signals", "util"},
]
DOORS = {
    "hydra": {"config", "space", "search"},  # the sweep grammar and its parsed words
    "optuna": {"search", "space", "report", "workflows", "ensemble"},  # space: distributions; report: importances and charts
    "mlflow": {"tracking"},
    "keras": {"testing", "models", "training", "tracking", "workflows"},
    "jax": {"models", "training", "runtime"},
    "tensorflow": {"data"},
    "sklearn": {"evaluation", "data"},
    "scipy": {"evaluation", "search", "space"},
    "kagglehub": {"data"},
    "keras_tuner": {"search"},
    "ray": {"execution"},
    "cmaes": {"search"},
    "plotly": {"report"},
    "jinja2": {"report"},
    "PIL": {"report"},
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
            yield from ([f"flowersweep.{alias.name}" for alias in node.names] if node.module == "flowersweep" else [node.module])


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


def test_training_knows_nothing_of_the_search_and_of_tracking() -> None:
    for path in (PACKAGE / "training").glob("*.py"):
        assert not {"optuna", "mlflow", "flowersweep.study.journal"} & {
            name.split(".")[0] if "flowersweep" not in name else name for name in imported(path)
        }
