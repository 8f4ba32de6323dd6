"""Make the pictures of the documentation: the report, MLflow and a terminal, of drawn flowers.

python docs/site/pictures.py [FOLDER]     # in whose mlruns the study is, or is trained first

It needs Chromium, and takes the minutes of the sweep. Look at the pictures before you commit them.
"""

from __future__ import annotations

import html
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

DOCS = Path(__file__).parents[1]
FLOWERSWEEP = [sys.executable, "-m", "flowersweep"]
STUDY = "smoothing"
COLUMNS = 112  # of the terminal
LONGEST_START = 120.0  # seconds that MLflow's server may take
TERMINAL = """<body style="margin:0;background:#1d2027"><pre style="margin:0;padding:24px;
color:#e6e6e6;font:15px/1.45 'DejaVu Sans Mono',monospace">{}</pre></body>"""


def picture(address: str, name: str, width: int, height: int) -> None:
    """Draw a page, once its scripts have run, into ``docs/NAME``."""
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    )
    with tempfile.TemporaryDirectory() as profile:
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            "--virtual-time-budget=30000",
            f"--screenshot={DOCS / name}",
            address,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    print(DOCS / name)


def terminal(folder: Path) -> None:
    """Draw what two commands print."""
    text = ""
    for words in (f"status study={STUDY}", f"trials study={STUDY} | cut -c-{COLUMNS}"):
        text += f"$ python -m flowersweep {words}\n"
        run = subprocess.run(
            f"{sys.executable} -m flowersweep {words}",
            shell=True,
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        text += run.stdout
    text = "\n".join(line[:COLUMNS] for line in text.splitlines())
    page = folder / "terminal.html"
    page.write_text(TERMINAL.format(html.escape(text)))
    lines = text.splitlines()
    width, height = 9.05 * max(map(len, lines)) + 48, 21.75 * len(lines) + 48
    picture(page.as_uri(), "terminal.png", round(width), round(height))
    page.unlink()


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Serve MLflow's pages of a folder; yield their address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*FLOWERSWEEP, "ui", f"port={port}"], cwd=folder, stdout=subprocess.DEVNULL
    )
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + LONGEST_START
        while True:
            try:
                urlopen(f"{address}/health", timeout=5).close()
                break
            except (URLError, OSError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def mlflow(folder: Path) -> None:
    """Draw how MLflow compares the complete trials of the study."""
    with server(folder) as address:
        api = f"{address}/api/2.0/mlflow"
        with urlopen(f"{api}/experiments/get-by-name?experiment_name={STUDY}") as answer:
            number = json.load(answer)["experiment"]["experiment_id"]
        wanted = {
            "experiment_ids": [number],
            "filter": "tags.`flowersweep.state` = 'complete'",
            "max_results": 20,
        }
        headers = {"Content-Type": "application/json"}
        search = Request(f"{api}/runs/search", json.dumps(wanted).encode(), headers)
        with urlopen(search) as answer:
            runs = [run["info"]["run_id"] for run in json.load(answer)["runs"]]
        query = urlencode({"runs": json.dumps(runs), "experiments": json.dumps([number])})
        picture(f"{address}/#/compare-runs?{query}", "mlflow.png", 1700, 1000)


def main(folder: Path) -> None:
    """Train the study if it is not there, and draw."""
    report = folder / "mlruns" / "studies" / STUDY / "report.html"
    if not report.exists():
        subprocess.run([*FLOWERSWEEP, f"+sweep={STUDY}"], cwd=folder, check=True)
    picture(report.as_uri(), "report.png", 1000, 2170)
    terminal(folder)
    mlflow(folder)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
