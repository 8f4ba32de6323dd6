"""A verb is checked before it begins: for the libraries it computes with, and for several hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowersweep import cli
from flowersweep.cli.inspect import print_config, status
from flowersweep.cli.models import promote
from flowersweep.cli.run import search
from flowersweep.config.compose import compose
from flowersweep.config.registry import REGISTRY
from flowersweep.config.targets import resolve
from flowersweep.errors import ConfigError


def test_the_registry_names_a_function_for_every_verb() -> None:
    assert all(callable(resolve({"_target_": name}, "verb")) for name in REGISTRY["verb"])


def test_a_verb_that_computes_needs_its_libraries_and_one_that_shows_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--nonsense")
    cli.require_libraries(status)
    with pytest.raises(ConfigError, match="Unknown flag in XLA_FLAGS"):
        cli.require_libraries(promote)


def test_several_hosts_run_what_trains_and_a_verb_of_ones_own(project: Path) -> None:
    config = compose(["distributed.coordinator=localhost:1", "distributed.hosts=2"])
    for together in (search, print_config, test_the_registry_names_a_function_for_every_verb):
        cli.require_hosts(together, config)
    with pytest.raises(ConfigError, match="leave it out for promote"):
        cli.require_hosts(promote, config)
