"""What a command sets for good, a call sets for itself alone."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from flowersweep import runtime, signals
from flowersweep.errors import ConfigError
from flowersweep.session.process import compose, computing, logs
from tests.conftest import environment

JAX = ("jax_compilation_cache_dir", "jax_persistent_cache_min_entry_size_bytes")


def test_settings_of_jax_signals_and_logs_are_as_before(
    plain_signals: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    log = logging.getLogger("flowersweep")

    def state() -> tuple[object, ...]:
        settings = [getattr(jax.config, name) for name in JAX]
        return *settings, *map(signal.getsignal, plain_signals), [*log.handlers]

    before = state()
    for _ in range(2):
        with computing(verbose=True):
            runtime.start(tmp_path / "compiled")
            assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path))
            assert signal.getsignal(signal.SIGINT) not in before
        assert state() == before


def test_a_program_of_hydra_around_us_goes_on(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text("key: ${oc.env:HOME}\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose(["train.epochs=3"]).train.epochs == 3
        assert GlobalHydra.instance().is_initialized()
        assert hydra_compose("theirs").key == os.environ["HOME"]
    assert not GlobalHydra.instance().is_initialized()
    assert OmegaConf.create({"home": "${oc.env:HOME}"}).home == os.environ["HOME"]


def test_a_call_sees_files_as_they_are_now(project: Path) -> None:
    option = project / "conf" / "model" / "tiny.yaml"
    assert compose(["model=tiny"]).model.dropout == 0.2
    option.write_text(option.read_text() + "dropout: 0.4\n")
    assert compose(["model=tiny"]).model.dropout == 0.4


def test_an_interrupt_is_heeded_in_the_main_thread_and_changes_nothing_in_another() -> None:
    with pytest.raises(KeyboardInterrupt), signals.handlers():
        os.kill(os.getpid(), signal.SIGINT)
    signals.raise_if_interrupted()  # it is over
    before, within = signal.getsignal(signal.SIGINT), []

    def elsewhere() -> None:
        with signals.handlers():
            within.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert within == [before]


ENDED = """
import os, signal
from flowersweep.signals import handlers
try:
    with handlers():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            print("closed in order", flush=True)
finally:
    print("not reached")
"""


def test_a_process_that_was_asked_to_end_ends_when_all_is_closed() -> None:
    run = subprocess.run(
        [sys.executable, "-c", ENDED],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (-signal.SIGTERM, "closed in order\n")


def test_a_warning_is_shown_only_if_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    root, log = logging.getLogger(), logging.getLogger("flowersweep.anything")
    handlers, root.handlers = root.handlers, []
    try:
        with logs(verbose=False):
            log.warning("unheard")
        with logs(verbose=True):
            log.warning("heard")
    finally:
        root.handlers = handlers
    assert capsys.readouterr().err == "WARNING flowersweep.anything: heard\n"


def test_no_message_shows_a_secret() -> None:
    with pytest.raises(ConfigError) as error, computing(verbose=False):
        raise ConfigError("tracking.uri=https://ann:swordfish@example.org does not answer")
    assert "swordfish" not in str(error.value)
