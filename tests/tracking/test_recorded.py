"""What is read back of a run that MLflow holds."""

from __future__ import annotations

from pathlib import Path

from flowersweep.config.schema import Tracking
from flowersweep.tracking.recorded import load_run
from flowersweep.tracking.shipper import run_ids, sync


def test_a_trial_that_was_pruned_after_one_epoch_has_a_course(study, tmp_path: Path) -> None:
    study.write(
        study.begin(),
        study.ask(0),
        study.report(0, 1),
        study.tell(0, "pruned"),
        *study.whole(1),
        study.stop(best=1),
    )
    sync(study.path, Tracking(), study.dir)
    runs = run_ids(study.path, Tracking(), study.dir).trials
    found = load_run(runs[0], Tracking(), study.dir, tmp_path / "files")
    assert (found.state, found.epochs) == ("pruned", 1)
    assert found.curves["train/loss"] == {1: 1.0}
    ended = load_run(runs[1], Tracking(), study.dir, tmp_path / "files")
    assert ended.curves.keys() == {"train/loss", "tune/nll"}  # what came at the end is none
