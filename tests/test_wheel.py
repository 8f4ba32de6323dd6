"""The wheel and the source distribution work from an empty folder, without the checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build both; the wheel from the source distribution, as an installer would."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_runs_from_an_empty_folder(kind: str, built: dict[str, Path], tmp_path: Path) -> None:
    package, empty = tmp_path / "package", tmp_path / "empty"
    empty.mkdir()
    if kind == "wheel":
        zipfile.ZipFile(built[kind]).extractall(package)
    else:
        with tarfile.open(built[kind]) as archive:
            archive.extractall(tmp_path, filter="data")
        next(tmp_path.glob("flowersweep-*")).rename(package)
    # -P and PYTHONPATH: nothing but what was built can be the package
    run = subprocess.run(
        [sys.executable, "-P", "-m", "flowersweep", "config", "+sweep=smoothing"],
        cwd=empty,
        env={"PYTHONPATH": str(package), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "model.name=efficientnet_lite0" in run.stdout
    assert "sweep.space.gamma.path=loss.gamma" in run.stdout


@pytest.mark.slow
def test_an_installed_wheel_has_a_script_a_version_and_the_python_api(
    built: dict[str, Path], tmp_path: Path
) -> None:
    package, empty = tmp_path / "package", tmp_path / "empty"
    empty.mkdir()
    install = ["-m", "pip", "install", "--no-deps", "--no-index", "--target", str(package)]
    subprocess.run([sys.executable, *install, str(built["wheel"])], check=True, capture_output=True)
    calls = {
        "flowersweep": [str(package / "bin" / "flowersweep"), "--version"],
        "smoothing": [str(package / "bin" / "flowersweep"), "--complete", "1", "+sweep=smoo"],
        str(package): [
            sys.executable,
            "-P",
            "-c",
            "import flowersweep as fs; print(fs.__file__, fs.status(), fs.Float(0, 1))",
        ],
    }
    for said, call in calls.items():
        run = subprocess.run(
            call,
            cwd=empty,
            env={"PYTHONPATH": str(package), "PATH": "/usr/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert said in run.stdout


@pytest.mark.slow
def test_the_wheel_holds_configurations_and_no_data(built: dict[str, Path]) -> None:
    names = zipfile.ZipFile(built["wheel"]).namelist()
    assert {
        f"flowersweep/report/templates/{name}"
        for name in ("page.html", "parts.html", "page.css", "page.js")
    } <= set(names)
    assert {
        "flowersweep/conf/config.yaml",
        "flowersweep/sweeps/smoothing.yaml",
        "flowersweep/data/flowers104.txt",
    } <= set(names)
    assert not [
        name
        for name in names
        if name.endswith((".npz", ".tfrec", ".jpeg", ".jpg", ".png", ".pth", ".keras"))
    ]
