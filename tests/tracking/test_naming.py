"""Names and tags of the user's stand beside ours, and replace none."""

from __future__ import annotations

import pytest

from flowersweep.config.compose import compose
from flowersweep.errors import ConfigError
from flowersweep.tracking.followers.naming import require_run_name, run_name
from flowersweep.tracking.shipper import run_ids, sync
from flowersweep.tracking.store import client
from tests.events import append, event, fold
from tests.tracking.stored import LOCAL


@pytest.mark.parametrize(
    ("template", "names"),
    [
        (None, ("flowers", "flowers-0003")),
        ("night", ("night", "night-0003")),
        ("{study}/{trial}", ("flowers", "flowers/3")),
        ("{trial:02d} g={gamma:.1f} lr={rate}", ("flowers", "03 g=0.5 lr=0.001235")),
        ("{loss:.2f} {absent}", ("flowers", "focal -")),
        ("{study.__class__} {api_key}", ("flowers", "- ***")),
    ],
)
def test_a_run_has_the_name_that_its_template_gives(
    template: str | None, names: tuple[str, str]
) -> None:
    params = {"gamma": 0.5, "rate": 0.00123456, "loss": "focal", "api_key": "swordfish"}
    record = fold([])
    record.apply(event("study_started", run_name=template))
    record.trials = [None] * 3  # type: ignore[list-item]
    record.apply(event("trial_asked", trial=3, params=params))
    assert (run_name(record), run_name(record, 3)) == names


def test_tags_of_the_users_are_on_every_run_and_change_when_the_study_goes_on(study) -> None:
    study.write(
        study.begin(tags={"team": "a", "token": "swordfish"}, run_name="{study} {gamma}"),
        *study.whole(0),
        study.ask(1),
    )
    sync(study.path, LOCAL, study.dir)
    study.write(
        lambda journal: append(journal, "study_resumed", tags={"team": "b"}), *study.whole(2)
    )
    sync(study.path, LOCAL, study.dir)
    ids, store = run_ids(study.path, LOCAL, study.dir), client(LOCAL, study.dir)
    runs = {trial: store.get_run(run) for trial, run in ids.trials.items()}
    runs[-1] = store.get_run(str(ids.parent))
    assert {trial: run.data.tags["team"] for trial, run in runs.items()} == {
        -1: "b",
        0: "a",
        1: "b",
        2: "b",
    }
    assert runs[0].data.tags["token"] == "***"
    assert [runs[trial].info.run_name for trial in (-1, 0, 2)] == [
        "smoothing",
        "smoothing 0",
        "smoothing 1",
    ]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("tracking.tags={flowersweep.state: good}", "would be a tag of ours"),
        ("tracking.tags={mlflow.parentRunId: x}", "would be a tag of ours"),
        ("tracking.tags={a/b: x}", "cannot be called|not of the form"),
        ("tracking.run_name='{trial'", "expected '}'"),
        ("tracking.run_name='{trial.real}'", "is no name"),
        ("tracking.run_name=' '", "must be a text"),
    ],
)
def test_a_tag_or_name_that_cannot_be_is_refused(word: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        compose([word])


def test_the_value_of_a_tag_stays_as_it_was_typed() -> None:
    assert compose(["tracking.tags.version=1.10"]).tracking.tags == {"version": "1.10"}
    assert compose(["tracking.tags={team: a, year: 2026}"]).tracking.tags == {
        "team": "a",
        "year": "2026",
    }


def test_a_template_names_only_what_trials_have() -> None:
    require_run_name("{study} {trial} {gamma}", ["gamma"])
    with pytest.raises(ConfigError, match=r"no \{gama\}.*gamma"):
        require_run_name("{gama}", ["gamma"])
