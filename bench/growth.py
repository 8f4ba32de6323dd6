"""Whether a long sweep grows: memory, descriptors, threads and temporary files over its trials.

    python bench/growth.py [HEAD_TRIALS [FINETUNED_TRIALS]]

Runs a sweep of head trials and one of fine-tuned trials, each in a process of its own, on small
images and a small network, with MLflow on SQLite: what grows with the number of trials grows here
too, and what grows with the size of a network has tests of its own. The first trials are left out:
they compile. Memory is what the process alone holds (USS). Its growth is the slope of a line
through the samples, one after each trial. The goal: under 0.1 MB a trial, and nothing else grows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TRIALS = {"head": 300, "finetuned": 100}
WARM_UP = 20  # trials
WORDS = [
    "+sweep=smoothing",
    "pruner=none",
    "sampler=random",
    "data.fetch={_target_: synthetic, classes: 5, train: 8, val: 6, test: 2, image_size: 32}",
    "model.name=tiny",
    "model.backbone={_target_: tiny_backbone}",
    "model.preprocess=null",
    "model.weights=none",
    "train.epochs=2",
    "train.batch_per_replica=8",
    "progress=false",
]
Sample = dict[str, float]


def run(trials: int, *words: str) -> list[Sample]:
    """Run a sweep in this process; return a sample after each trial."""
    import psutil

    from flowersweep.config.compose import compose
    from flowersweep.workflows.sweep import run_sweep

    process, samples = psutil.Process(), dict[int, Sample]()
    temporary = Path(tempfile.gettempdir())

    def watch(study: object, record: object) -> None:
        if record is not None and record.ended is not None:  # type: ignore[attr-defined]
            samples[record.number] = {  # type: ignore[attr-defined]
                "megabytes": process.memory_full_info().uss / 1e6,
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
                # of other programs some go while they are counted
                "temporary files": sum(len(files) for *_, files in os.walk(temporary)),
            }

    line = [*WORDS, f"sweep.n_trials={trials}", *words]
    run_sweep(compose(line), line, watch=watch)
    return [samples[number] for number in sorted(samples)]


def growth(samples: list[Sample]) -> dict[str, float]:
    """Return what each quantity grows by in a trial, after those that warm up."""
    import numpy as np

    rest = samples[WARM_UP:]
    return {
        name: float(np.polyfit(range(len(rest)), [sample[name] for sample in rest], 1)[0])
        for name in rest[0]
    }


def measure(kind: str, trials: int) -> list[Sample]:
    """Run a sweep in a process and a folder of its own; return its samples."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tmp").mkdir()
        environment = {
            **os.environ,
            "TMPDIR": f"{folder}/tmp",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        words = ["train.finetune=true"] if kind == "finetuned" else []
        command = [sys.executable, str(Path(__file__).resolve()), "--run", str(trials), *words]
        done = subprocess.run(
            command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return list[Sample](json.loads(done.stdout.splitlines()[-1]))


def main(words: list[str]) -> None:
    """Measure both kinds of trials and print a table."""
    for (kind, trials), word in zip(TRIALS.items(), [*words, "", ""], strict=False):
        samples = measure(kind, int(word or trials))
        slopes = growth(samples)
        print(f"{len(samples)} {kind} trials, without the first {WARM_UP}")
        for name, slope in slopes.items():
            first, last = samples[WARM_UP][name], samples[-1][name]
            print(f"  {name}: {first:.0f} to {last:.0f}, {slope:+.3f} a trial", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(run(int(sys.argv[2]), *sys.argv[3:])))
    else:
        main(sys.argv[1:])
