"""The documentation builds as a site, in which no link is broken and no key is left out."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowersweep.config.keys import is_group, known_paths

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None,
    reason="needs '.[docs]'",
)
def test_the_site_builds_without_a_warning_and_has_every_key(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    keys = (tmp_path / "site" / "keys.html").read_text()
    assert not [
        path for path in known_paths() if not is_group(path) and f"<code>{path}</code>" not in keys
    ]
    api = (tmp_path / "site" / "api.html").read_text()
    assert 'id="flowersweep.api.search"' in api
    assert "<blockquote>" not in api  # examples are code
