"""Every cell of every notebook runs, and the outputs that are kept are small and of no machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import environment

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
LARGEST = 300_000  # bytes, outputs included
MINUTES = 10


def cells(path: Path) -> list[dict[str, Any]]:
    content = json.loads(path.read_text())
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def test_notebooks_are_found() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["kaggle_tpu", "own_images", "quickstart"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_its_outputs(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    assert any(cell["outputs"] for cell in cells(path))
    assert [cell["execution_count"] for cell in cells(path)] == [
        number + 1 for number in range(len(cells(path)))
    ]
    kinds = {output["output_type"] for cell in cells(path) for output in cell["outputs"]}
    assert "error" not in kinds
    text = json.dumps([cell["outputs"] for cell in cells(path)])
    assert "/tmp/" not in text


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_in_an_empty_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    for name, value in {**environment(), "PLOTLY_RENDERER": "plotly_mimetype"}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=60 * MINUTES, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    streams = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream" and output["name"] == "stderr"
    ]
    assert not streams  # nothing is printed unless it is asked for
