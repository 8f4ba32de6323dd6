"""Words of the command line, whatever they are."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from flowersweep.__main__ import overrides
from flowersweep.config.compose import compose, compose_unchecked
from flowersweep.config.keys import is_text
from flowersweep.config.paths import flatten
from flowersweep.config.schema import Config
from flowersweep.config.words import parse, settings_of
from tests.fuzz.doors import attempt, fuzz

KEYS = [*dict(flatten(Config())), "model", "loss", "train", "sweep", "hydra.run.dir", "loss.gamma"]
PIECES = st.sampled_from(
    [*"{}[]()'\"\\,=:.$~+@ \t\n\0é-", "1.10", "1e999", "nan", "null", "true", "${", "choice(",
     "interval(", "int(", "_target_", "/", "::", "0x1", "9" * 400]
)  # fmt: skip
VALUES = st.one_of(
    st.lists(PIECES, max_size=12).map("".join),
    st.text(max_size=20),
    st.floats().map(str),
    st.integers().map(str),
)
WORDS = st.one_of(
    st.builds(
        "{}{}={}".format, st.sampled_from(["", "+", "++", "~"]), st.sampled_from(KEYS), VALUES
    ),
    st.lists(PIECES, max_size=8).map("".join),
    st.text(max_size=20),
)


@fuzz
@given(st.lists(WORDS, max_size=3))
@example(["+sweep=20240501"])
@example(["model=50"])
@example(["loss=true"])
@example(["recipe=null"])
@example(["verb=nan"])
@example(["~verb"])
@example(["+=x"])
@example(["loss._target_=null"])
@example(["train.learning_rate=" + "9" * 400])
@example(["seed=" + "1" * 5000])
@example(["seed=" + "1" * 4000])
@example(["x=" + "{a:" * 300])
@example(["x=" + "[" * 1000])
@example(["model@=resnet50"])
@example(["hydra.searchpath=[x]"])
@example([""])
def test_words_compose_or_are_refused(words: list[str]) -> None:
    config = attempt(lambda: compose(overrides(words)))
    assert config is None or isinstance(config, Config)
    compose_unchecked.cache_clear()


@fuzz
@given(st.sampled_from([key for key in KEYS if is_text(key) and "." in key]), VALUES)
@example("sweep.objective", "+,+")
@example("tracking.uri", "1.10")
@example("data.dir", "/a [v1]/b")
@example("data.classes", "it's")
def test_a_plain_text_is_read_as_typed(key: str, text: str) -> None:
    parsed = attempt(lambda: parse([f"{key}={text}"]))
    quoted = any(character in text for character in "\"'\\$")
    if parsed is not None and not quoted and text.strip().lower() != "null":
        assert str(settings_of(parsed)[key]).strip() == text.strip()
