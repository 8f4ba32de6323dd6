"""Words of the command line: text stays as typed; what means nothing is refused in a sentence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flowersweep.config.compose import compose
from flowersweep.config.schema import Data
from flowersweep.config.words import parse, settings_of
from flowersweep.errors import ConfigError


@pytest.mark.parametrize(
    "text", ["1.10", "1e3", "1_000", "20240501", "true", "nan", "007", "2024-05-01"]
)
def test_a_name_that_looks_like_a_number_stays_as_typed(text: str, project: Path) -> None:
    config = compose([f"study={text}", f"dir={text}", f"alias={text}", f"studies=[{text}, 2.50]"])
    assert (config.study, config.dir, config.alias) == (text, text, text)
    assert config.studies == [text, "2.50"]


def test_an_option_or_a_sweep_may_be_named_like_a_number(project: Path) -> None:
    (project / "conf" / "model" / "50.yaml").write_text("name: '50'\nweights: none\n")
    (project / "sweeps").mkdir()
    (project / "sweeps" / "20240501.yaml").write_text(
        "sweep: {space: {x: {path: train.epochs, values: 'int(interval(1, 3))'}}}\n"
    )
    config = compose(["model=50", "+sweep=20240501"])
    assert (config.model.name, config.study) == ("50", "20240501")


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("data.dir=/a [v1]/b (2)", "data.dir", "/a [v1]/b (2)"),
        (r"data.dir=C:\flowers\new", "data.dir", r"C:\flowers\new"),
        ("reason=half of it = noise", "reason", "half of it = noise"),
        ("reason=faster, smaller", "reason", "faster, smaller"),
        ("study=null", "study", None),
        ("train.epochs=3", "train.epochs", 3),
    ],
)
def test_text_may_have_what_the_grammar_uses(word: str, key: str, value: object) -> None:
    assert settings_of(parse([word])) == {key: value}


def test_a_mapping_sets_each_of_its_keys() -> None:
    words = parse(["train={learning_rate: .01, epochs: 3}", "data={fetch: {folder: x}}", "seed=1"])
    assert settings_of(words) == {
        "train.learning_rate": 0.01,
        "train.epochs": 3,
        "data.fetch.folder": "x",
        "seed": 1,
    }
    assert isinstance(compose(["data={cache_bytes: 5}"]).data, Data)


REFUSED = {
    "hydra.run.dir=elsewhere": "Hydra only composes.*dir=PATH",
    "+hydra.job.chdir=true": "Hydra only composes",
    "hydra/launcher=joblib": "Hydra only composes",
    "hydra={run: {dir: x}}": "Hydra only composes",
    "model=50": "no model '50'. Model options: .*densenet201",
    "loss=true": "no loss 'true'",
    "verb=nan": "no verb 'nan'",
    "recipe=null": "recipe is one option, recipe=NAME",
    "~loss": "loss is one option",
    "model=[resnet50, densenet201]": "model is one option",
    "model@x=resnet50": "model is one option",
    "+=1": "is not of the form key=value",
    "": "is not of the form key=value",
    "~loss._target_": "must have _target_",
    "loss.name=5": "loss.name=5: .*must have name, a text",
    "train.learning_rate=inf": "must be a finite number",
    "train.learning_rate=" + "9" * 400: "too large",
    "train.epochs=" + "9" * 20: "must be at most 9007199254740992",
    "seed=" + "1" * 5000: "has 5005 characters",
    "seed=" + "1" * 4500: "is not of the form key=value: Exceeds the limit",
    "x=" + "{a:" * 300: "300 brackets in brackets",
    "x=" + "[" * 2000 + "]" * 2000: "2000 brackets in brackets",
    "train.epochs=" + "int(" * 50 + "1" + ")" * 50: "50 brackets in brackets",
}


@pytest.mark.parametrize(("word", "told"), REFUSED.items(), ids=[word[:30] for word in REFUSED])
def test_an_odd_word_is_refused_in_one_short_sentence(word: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        compose([word])
    assert len(str(error.value)) < 800
    assert "\n" not in str(error.value)


def test_a_long_word_is_read_in_bounded_time() -> None:
    """The parser is quadratic; a list of 100,000 characters took minutes."""
    began = time.process_time()
    with pytest.raises(ConfigError, match="characters"):
        parse(["studies=[" + "1," * 50_000 + "1]"])
    assert time.process_time() - began < 1


def test_text_where_a_callable_takes_a_switch_or_a_number_is_refused() -> None:
    from flowersweep.config.targets import resolve

    for word, told in (
        ("optimizer.nesterov=no", "optimizer.nesterov='no': must be true or false"),
        ("optimizer.momentum='0.9'", "optimizer.momentum='0.9': must be a number"),
    ):
        with pytest.raises(ConfigError, match=told):
            resolve(compose(["optimizer=sgd", word]).optimizer, "optimizer")
