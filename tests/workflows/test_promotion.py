"""From a study to a champion through the real registry: fresh seeds, the gate, its exit codes, and
a kill in the middle.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowersweep.config.schema import Tracking
from flowersweep.tracking import registry
from tests.conftest import TINY, Command, environment
from tests.events import story
from tests.kills import DIE_AT_WRITE

FEW = ["promotion.top=1", "promotion.seeds=2", "progress=false"]


@pytest.mark.slow
def test_a_study_is_trained_anew_and_only_what_the_evidence_carries_becomes_champion(
    project: Path, command: Command
) -> None:
    good = ["+sweep=quick", "sweep.n_trials=2", "study=good", *TINY, "train.min_head_steps=200"]
    bad = [
        "+sweep=quick",
        "sweep.n_trials=2",
        "study=bad",
        "sweep.space.learning_rate.values='interval(1e-7, 1e-6)'",
        *TINY,
    ]
    assert command(*good).returncode == 0
    assert command(*bad).returncode == 0

    whole = project / "mlruns" / "studies"
    line = [sys.executable, str(DIE_AT_WRITE), "event", "9", "0.5", "promote", "study=good", *FEW]
    killed = subprocess.run(
        line,
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first = command("promote", "study=good", *FEW)
    assert first.returncode == 0, first.stderr
    assert "There was no champion to compare with." in first.stdout
    assert "flowersweep version 1 is now champion" in first.stdout
    asked = [
        event
        for event in story(next(whole.glob("good-promotion-*")))
        if event["event"] == "trial_asked"
    ]
    names = [event["params"]["candidate"] for event in asked]
    assert len(names) == 2 * len({*names})
    assert "default" in names
    seeds = [event["settings"]["seed"] for event in asked]
    assert len({*seeds}) > len(seeds) / 2
    assert 0 not in seeds  # the seed of the sweep
    # the sweep itself is as it was
    assert len([event for event in story(whole / "good") if event["event"] == "trial_ended"]) == 2

    refused = command("promote", "study=bad", *FEW)
    assert refused.returncode == 3, refused.stderr
    assert "Against the champion on 15 held-out images: " in refused.stdout
    assert "This held-out half has been asked twice" in refused.stdout
    assert "flowersweep version 2 is now challenger" in refused.stdout
    holder = registry.holder(Tracking(), project / "mlruns")
    assert holder is not None
    assert holder.version == 1
    found = project.glob("mlruns/artifacts/*/*/artifacts/promotion/*")
    assert sorted(path.name for path in found) == [
        "evidence.html",
        "evidence.html",
        "evidence.json",
        "evidence.json",
    ]
    told = json.loads(
        next(project.glob("mlruns/artifacts/bad/*/artifacts/promotion/evidence.json")).read_text()
    )
    assert told["champion"]["version"] == 1
    against = told["against_champion"]
    assert (against["comparison"], round(against["confidence"], 4)) == (2, 0.9833)
    assert told["picked_from"] == 2
    low, high = told["promoted"]["interval"]
    assert low < told["promoted"]["holdout/accuracy"] < high
    test = told["promoted"]["mcnemar"]
    images = "image" if test["only_first"] == 1 else "images"
    alone = (
        f"right on {test['only_first']} {images}, the champion alone on {test['only_second']} "
        f"(McNemar's p {test['mid_p']:.3f})"
    )
    assert alone in refused.stdout
    assert "| candidate |" in str(holder.description)

    unreasoned = command("promote", "study=bad", "force=true")
    assert unreasoned.returncode == 1
    assert 'reason="..."' in unreasoned.stderr
    forced = command("promote", "study=bad", "force=true", "reason='for a demonstration'")
    assert forced.returncode == 0, forced.stderr
    assert "flowersweep version 3 is now champion" in forced.stdout
    holder = registry.holder(Tracking(), project / "mlruns")
    assert holder is not None
    assert holder.tags["flowersweep.forced"] == "for a demonstration"
    single = command("promote", f"run={holder.run_id}")
    assert single.returncode == 0, single.stderr
