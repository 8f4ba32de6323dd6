"""TensorBoard and Weights & Biases hold what the journal holds: nothing is lost or double."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flowersweep.config.schema import Tracking
from flowersweep.errors import ConfigError
from flowersweep.tracking.followers.sinks import followers, send
from flowersweep.tracking.followers.tensorboard import TensorBoardSink
from flowersweep.tracking.followers.weights_and_biases import WandbSink
from tests.events import append

SPACE = {
    "gamma": {
        "path": "loss.gamma",
        "values": json.dumps(
            {"name": "FloatDistribution", "attributes": {"low": 0.0, "high": 5.0, "log": False}}
        ),
    },
    "loss": {
        "path": "loss",
        "values": json.dumps(
            {"name": "CategoricalDistribution", "attributes": {"choices": ["focal", "logit"]}}
        ),
    },
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def written(study: Any) -> Any:
    """A study with a complete, a failed, a pruned and a running trial."""
    study.write(
        study.begin(space=SPACE, tags={"team": "flowers", "api_key": "swordfish"}),
        study.ask(0, gamma=0.5, loss="focal"),
        study.report(0, 1, 2),
        study.report(0, 3),
        study.tell(0),
        study.ask(1, gamma=2.0),
        study.report(1, 1),
        study.tell(1, "failed", reason="the loss became NaN, token=swordfish"),
        study.ask(2, gamma=3.0),
        study.report(2, 1),
        study.tell(2, "pruned"),
        study.ask(3, gamma=4.0),
        study.report(3, 1, 2),
    )
    return study


@pytest.fixture
def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard reads with its own code: importing TensorFlow takes seconds."""
    pytest.importorskip("tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))


@pytest.mark.usefixtures("without_tensorflow")
class TestTensorBoard:
    @staticmethod
    def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        return {
            tag: [(point.step, round(point.value, 4)) for point in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }

    def test_every_epoch_is_a_step_and_final_scores_stand_apart(self, written: Any) -> None:
        send(TensorBoardSink(written.path, written.dir))
        folder = written.dir / "tensorboard" / "smoothing"
        assert self.scalars(folder / "0000") == {
            "train/loss": [(1, 1.0), (2, 0.5), (3, 0.3333)],
            "tune/nll": [(1, 0.9), (2, 0.45), (3, 0.3)],
            "final/tune/macro_f1": [(3, 0.5)],
            "final/holdout/macro_f1": [(3, 0.4)],
        }
        assert self.scalars(folder / "0003")["tune/nll"] == [(1, 3.9), (2, 3.45)]
        assert not any(b"swordfish" in content for content in files_of(folder).values())

    def test_the_page_of_hyperparameters_has_values_scores_and_states(self, written: Any) -> None:
        from tensorboard.backend.event_processing import data_provider
        from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
        from tensorboard.context import RequestContext
        from tensorboard.plugins import base_plugin
        from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

        send(TensorBoardSink(written.path, written.dir))
        multiplexer = EventMultiplexer()
        multiplexer.AddRunsFromDirectory(str(written.dir / "tensorboard" / "smoothing"))
        multiplexer.Reload()
        provider = data_provider.MultiplexerDataProvider(multiplexer, "")
        context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
        experiment = context.experiment_from_metadata(
            RequestContext(), "", True, context.hparams_metadata(RequestContext(), ""), []
        )
        assert {info.name for info in experiment.hparam_infos} == {"gamma", "loss"}
        request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=9)
        request.allowed_statuses.extend(
            [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE]
        )
        for info in experiment.metric_infos:
            request.col_params.add(metric=info.name)
        groups = (
            list_session_groups.Handler(RequestContext(), context, "", request).run().session_groups
        )
        rows = {
            group.hparams["gamma"].number_value: (
                group.sessions[0].status,
                {m.name.tag: round(m.value, 4) for m in group.metric_values},
            )
            for group in groups
        }
        assert rows == {
            0.5: (api_pb2.STATUS_SUCCESS, {"tune/nll": 0.3}),
            2.0: (api_pb2.STATUS_FAILURE, {"tune/nll": 1.9}),
            3.0: (api_pb2.STATUS_SUCCESS, {"tune/nll": 2.9}),
            4.0: (api_pb2.STATUS_UNKNOWN, {"tune/nll": 3.45}),  # it runs
        }

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.45, 0.8, 0.97, 1.0])
    def test_a_kill_at_any_byte_and_a_resume_give_the_same_files(
        self, written: Any, share: float
    ) -> None:
        send(TensorBoardSink(written.path, written.dir))
        for path in [*(written.dir / "tensorboard").rglob("*tfevents*")]:
            content = path.read_bytes()
            path.write_bytes(content[: round(share * len(content))])
        written.write(
            lambda journal: append(journal, "study_resumed"), written.report(3, 3), written.tell(3)
        )
        send(TensorBoardSink(written.path, written.dir))
        resumed = files_of(written.dir / "tensorboard")
        shutil.rmtree(written.dir / "tensorboard")
        send(TensorBoardSink(written.path, written.dir))
        assert resumed == files_of(written.dir / "tensorboard")
        assert len(resumed) == 5

    def test_a_disk_that_is_full_for_a_while_loses_nothing(
        self, written: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sink = TensorBoardSink(written.path, written.dir)
        with monkeypatch.context() as patch:
            patch.setattr(
                Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full"))
            )
            with pytest.raises(OSError, match="full"):
                sink.step()
        send(sink)
        assert len(self.scalars(written.dir / "tensorboard" / "smoothing" / "0000")) == 4

    def test_an_earlier_study_of_this_name_leaves_no_trial(self, written: Any) -> None:
        send(TensorBoardSink(written.path, written.dir))
        written.path.unlink()
        written.write(written.begin(space=SPACE), *written.whole(0))
        send(TensorBoardSink(written.path, written.dir))
        folder = written.dir / "tensorboard" / "smoothing"
        assert {path.name for path in folder.iterdir() if path.is_dir()} == {"0000"}

    def test_tensorflow_is_not_imported(self, written: Any) -> None:
        code = (
            "import sys; from pathlib import Path\n"
            "from flowersweep.tracking.followers.tensorboard import TensorBoardSink\n"
            "assert 'tensorboard' not in sys.modules\n"
            "TensorBoardSink(Path(sys.argv[1]), Path(sys.argv[2])).step()\n"
            "assert 'tensorflow' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code, written.path, written.dir], check=True)


class TestWandb:
    @staticmethod
    def records(path: Path) -> Iterator[Any]:
        """Yield the records of an offline run: a log in blocks of 32 KiB, as LevelDB writes it."""
        from wandb.proto.wandb_internal_pb2 import Record

        data, place, part = path.read_bytes(), 7, b""
        while place + 7 <= len(data):
            left = 32768 - place % 32768
            if left < 7:
                place += left
                continue
            size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
            part += data[place + 7 : place + 7 + size]
            place += 7 + size
            if kind in (1, 4):  # whole, or the last part
                record = Record()
                record.ParseFromString(part)
                yield record
                part = b""

    @pytest.mark.slow
    def test_each_ended_trial_is_one_offline_run_also_after_a_kill(
        self, written: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("wandb")
        for name in ("WANDB_MODE", "WANDB_PROJECT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
        send(WandbSink(written.path, written.dir))
        notes = written.dir / "wandb" / "flowersweep-smoothing.txt"
        # killed while the last run was written
        notes.write_text("".join(notes.read_text().splitlines(keepends=True)[:-1]))
        send(WandbSink(written.path, written.dir))
        files = sorted((written.dir / "wandb").glob("offline-run-*/*.wandb"))
        assert sorted(path.parent.name[-4:] for path in files) == ["0000", "0001", "0002"]
        records = [*self.records(next(path for path in files if path.stem.endswith("0000")))]
        [run] = [record.run for record in records if record.WhichOneof("record_type") == "run"][:1]
        assert (run.run_group, run.display_name, run.project) == (
            "smoothing",
            "smoothing-0000",
            "flowersweep",
        )
        steps = [
            {item.key or item.nested_key[0]: json.loads(item.value_json) for item in r.history.item}
            for r in records
            if r.WhichOneof("record_type") == "history"
        ]
        assert [(row["_step"], round(row["tune/nll"], 4)) for row in steps] == [
            (1, 0.9),
            (2, 0.45),
            (3, 0.3),
        ]
        for content in files_of(written.dir / "wandb").values():
            assert b"swordfish" not in content
            assert b"f" * 40 not in content


def test_a_package_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'flowersweep\[wandb\]'"):
        followers(tmp_path, Tracking(wandb=True), tmp_path)
