"""A journal of every format there ever was opens, is reported on, and goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowersweep.__main__ import main
from flowersweep.config.compose import compose
from flowersweep.data.dataset import open_dataset
from flowersweep.report.status import screen, status
from flowersweep.study.events import FORMAT, to_json
from flowersweep.study.journal import read_events
from flowersweep.study.records import read_study
from tests.events import story
from tests.study.journals import FOLDER, TRIALS, WORDS

JOURNALS = sorted(FOLDER.glob("*.jsonl"))
CONF = Path(__file__).parents[2] / "conf"
THEN = {"learning_rate: 1.0e-2": "learning_rate: 3.0e-3", "interval(1e-3,": "interval(5e-4,"}
SLASHES = ("/home/", "/root/", "/tmp/", "/Users/")


@pytest.fixture(params=JOURNALS, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, project: Path) -> Path:
    """The folder of a study with an old journal, over the images of this machine."""
    folder = project / "mlruns" / "studies" / "old"
    folder.mkdir(parents=True)
    started, *others = request.param.read_text().splitlines()
    event = json.loads(started)
    images = open_dataset(compose(WORDS).data, project / "mlruns" / "cache")
    event["settings"]["data.digest"] = images.digest  # another machine draws some pixel otherwise
    (folder / "journal.jsonl").write_text("\n".join([json.dumps(event), *others, ""]))
    return folder


def test_there_is_a_journal_of_every_format() -> None:
    assert [path.stem for path in JOURNALS] == [f"format{n}" for n in range(1, FORMAT + 1)]
    assert not any(word in path.read_text() for path in JOURNALS for word in SLASHES)


def test_an_old_journal_is_read_to_the_last_event(old: Path) -> None:
    events, offset = read_events(old / "journal.jsonl")
    assert offset == (old / "journal.jsonl").stat().st_size
    lines = [json.loads(line) for line in (old / "journal.jsonl").read_text().splitlines()]
    assert [event["event"] for event in map(to_json, events)] == [line["event"] for line in lines]
    trials = read_study(old).trials
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} == {"complete", "pruned"}


def test_an_old_study_has_a_status_and_a_report(old: Path) -> None:
    assert f"{TRIALS} are wanted" in screen(status(old))
    assert main(["report", "study=old"]) == 0
    assert "Study old" in (old / "report.html").read_text()


def test_an_old_study_goes_on(old: Path) -> None:
    before = story(old)
    # a user's own file keeps what the option meant when the journal was written
    frozen = (CONF / "train" / "frozen.yaml").read_text()
    for now, then in THEN.items():
        assert now in frozen
        frozen = frozen.replace(now, then)
    own = Path("conf") / "train"
    own.mkdir()
    (own / "frozen.yaml").write_text(frozen)
    assert main([*WORDS, f"sweep.n_trials={TRIALS + 1}"]) == 0
    after = story(old)
    assert after[: len(before)] == before
    ended = [event["trial"] for event in after if event["event"] == "trial_ended"]
    assert ended == list(range(TRIALS + 1))
