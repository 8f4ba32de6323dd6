"""The package in Python: a dozen functions that do what the commands do, and return what they find.

    import flowersweep as fs

A positional argument is a word as on the command line, ``"+sweep=smoothing"``, or a dictionary of
settings. A keyword is a setting: ``study="mine"``, ``data={"name": "folder", "dir": "photos"}``.
The last part of a key's path is enough where it is the only one: ``n_trials=30`` is
``sweep.n_trials=30``. ``verbose=True`` shows progress and what a command prints; otherwise nothing
is printed. A mistake raises one of `flowersweep.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowersweep.config.keys import key_of, says
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError
from flowersweep.session import words as session_words
from flowersweep.session.process import compose, computing
from flowersweep.session.words import Word, to_words

if TYPE_CHECKING:
    from flowersweep.report.status import Status
    from flowersweep.session.comparison import Comparison
    from flowersweep.session.model import Model
    from flowersweep.session.study import Study
    from flowersweep.tracking.registry import ModelVersion
    from flowersweep.workflows.planning.plan import Plan
    from flowersweep.workflows.predict import Predictions


def search(*words: Word, verbose: bool = False, **settings: Any) -> Study:
    """Run a sweep, or go on with it, and return its study.

    The same call goes on after an interrupt, in this session or in another; once it has ended it
    trains nothing.

    >>> study = fs.search("+sweep=smoothing", study="first", n_trials=2)
    >>> study.best.state
    'complete'
    >>> list(study.trials.columns[:3])
    ['state', 'value', 'learning_rate']

    A space may be written in Python. A name that is a key needs no path:

    >>> space = {"learning_rate": fs.Float(1e-3, 1e-1, log=True), "dropout": fs.Float(0, 0.5)}
    >>> tiny = {"model": "tiny", "train": short, "data": few}
    >>> study = fs.search(tiny, study="second", space=space, n_trials=2)
    >>> sorted(study.best.params)
    ['dropout', 'learning_rate']

    Raises:
        ConfigError, DataError, StudyError: Before anything is trained.
        KeyboardInterrupt: After Ctrl-C or "interrupt kernel"; the same call goes on.
    """
    from flowersweep.workflows.studies import require_sweep

    asked = to_words(words, settings)
    if not any(key_of(word) == "sweep" for word in asked):
        asked = [*asked, "verb=search"]
    config = compose(asked)
    require_sweep(config)
    return _run(config, asked, None, verbose=verbose)


def train(*words: Word, verbose: bool = False, **settings: Any) -> Study:
    """Train one configuration as a study of one trial; the same training never runs twice.

    >>> fs.train(tiny, label_smoothing=0.2)
    Traceback (most recent call last):
    flowersweep.errors.ConfigError: unknown setting 'label_smoothing'. ...
    >>> single = fs.train(tiny, loss={"label_smoothing": 0.2})
    >>> len(single.trials)
    1

    Raises:
        ConfigError, DataError, StudyError: Before anything is trained.
    """
    from flowersweep.workflows.sweep import single_training

    asked = to_words(words, settings)
    config, asked_of_one, experiment = single_training(compose(asked), asked)
    return _run(config, asked_of_one, experiment, verbose=verbose)


def _run(config: Config, asked: Sequence[str], experiment: str | None, *, verbose: bool) -> Study:
    from flowersweep.session.study import Study
    from flowersweep.workflows.pages import write_page_of_sweep

    if config.distributed.coordinator is not None:
        raise ConfigError("distributed.coordinator: hosts train together by the command alone")
    with computing(verbose=verbose):
        from flowersweep.session.running import run_with_progress

        shown = _shows_progress(config, asked, verbose=verbose)
        outcome = run_with_progress(config, asked, experiment, shown=shown)
        write_page_of_sweep(config, sent=outcome.shipped and config.tracking.enabled)
    if verbose:
        print(outcome.stopped or outcome.claim)
    return Study(Path(config.dir) / "studies" / str(config.study), tuple(asked))


@dataclass(frozen=True)
class PlanText:
    """What `plan` has to say: the text of the command, and its numbers."""

    text: str
    plan: Plan

    @property
    def within_budget(self) -> bool:
        """Whether the sweep can end within ``sweep.budget``."""
        return self.plan.within_budget

    @property
    def minutes(self) -> tuple[float, float]:
        """What the trials that are left take: if the pruner ends all that it can, and none."""
        return self.plan.forecast.least, self.plan.forecast.most

    def __repr__(self) -> str:
        return self.text


def plan(*words: Word, verbose: bool = False, **settings: Any) -> PlanText:
    """Return what a sweep will do and cost; one trial is timed and nothing is kept.

    >>> cost = fs.plan("+sweep=smoothing", study="first", n_trials=8)
    >>> cost.within_budget
    True
    >>> cost.minutes[0] <= cost.minutes[1]
    True
    """
    asked = to_words(words, settings)
    config = compose(asked)
    with computing(verbose=verbose):
        from flowersweep.workflows.planning.plan import plan as run

        lines: list[str] = []
        planned = run(config, asked, lines.append)
    return PlanText("\n".join(lines), planned)


def read(study: str, **settings: Any) -> Study:
    """Return a study that is there already, running or not.

    >>> fs.read("first").objective
    'tune/calibrated_nll'

    Raises:
        ConfigError: There is no study of this name.
    """
    from flowersweep.session.study import Study

    asked, folders = _folders((study,), settings)
    return Study(folders[0], tuple(asked))


def status(study: Study | str | None = None, **settings: Any) -> Status | list[Status]:
    """Return how far a study is, or every study; printed, it is what the command shows.

    >>> fs.status("first").counts
    '2 complete'
    >>> [each.name for each in fs.status()][:2]
    ['first', 'second']
    """
    from flowersweep.report.status import status as read_status
    from flowersweep.workflows.studies import folder_of_study, study_names

    if study is not None:
        return read_status(_folders((study,), settings)[1][0])
    config = compose(to_words((), settings))
    return [read_status(folder_of_study(config, name)) for name in study_names(config)]


def compare(*studies: Study | str, **settings: Any) -> Comparison:
    """Return the best trials of studies side by side, with their paired differences.

    >>> list(fs.compare("first", study).studies["best trial"].index)
    ['first', 'second']
    """
    from flowersweep.session.comparison import compare_studies

    return compare_studies(_folders(studies, settings)[1])


def report(*studies: Study | str, **settings: Any) -> Path:
    """Write a page about a study, a comparison of several, or a run (``run=ID``); return its path.

    >>> fs.report("first").name
    'report.html'
    """
    from flowersweep.workflows.pages import write_pages

    names = _names(studies)
    asked = [*_store(studies), *to_words((), settings)]
    asked += [f"study={names[0]}"] if len(names) == 1 else [f"studies=[{','.join(names)}]"]
    return write_pages(compose(asked))


def promote(
    study: Study | str | None = None, *words: Word, verbose: bool = False, **settings: Any
) -> ModelVersion:
    """Train a study's best configurations again with fresh seeds, and ask the gate about the best.

    >>> version = fs.promote("first", promotion={"top": 1, "seeds": 2, "refit": False})
    >>> version.aliases
    ['champion']

    Returns:
        MLflow's model version. It has the alias ``champion``, or ``challenger`` if the gate
        refused; its description is the model card with the evidence.

    Raises:
        StudyError: The study has no complete trial.
    """
    named = () if study is None else (study,)
    asked = [*_store(named), *(f"study={name}" for name in _names(named))]
    asked += to_words(words, settings)
    config = compose(asked)
    with computing(verbose=verbose):
        from flowersweep.session.progress import Progress
        from flowersweep.workflows.promotion.promote import promote as run
        from flowersweep.workflows.promotion.retraining import Observer

        with Progress(_shows_progress(config, asked, verbose=verbose)) as progress:
            observer = Observer(progress.features, progress.trial)
            promoted = run(config, asked, observer, print if verbose else lambda text: None)
    return promoted.version


def predict(*words: Word, verbose: bool = False, **settings: Any) -> Predictions:
    """Write a file of predictions of a registered model; return where, and of how many images.

    >>> written = fs.predict(split="val", output="val.csv")
    >>> written.path.name, written.images
    ('val.csv', 200)

    Raises:
        TrackingError: There is no such model.
        DataError: There are no images, or their classes are not those of the model.
    """
    asked = to_words(words, settings)
    config = compose(asked)
    with computing(verbose=verbose):
        from flowersweep.session.progress import Progress
        from flowersweep.workflows.predict import predict as run

        with Progress(_shows_progress(config, asked, verbose=verbose)) as progress:
            return run(config, asked, progress.features)


def load(alias: str | None = None, *words: Word, **settings: Any) -> Model:
    """Return a registered model: the champion, or that of an ``alias``, ``version=`` or ``run=``.

    >>> model = fs.load("champion")
    >>> images = np.zeros((2, *model.image_size, 3), np.uint8)
    >>> list(model.predict(images).columns)
    ['class', 'label', 'probability']
    >>> model.probabilities(images).shape
    (2, 5)

    Raises:
        TrackingError: There is no such model.
    """
    named = {} if alias is None else {"alias": alias}
    config = compose(to_words(words, {**named, **settings}))
    with computing(verbose=False):
        from flowersweep.session.model import load_model

        return load_model(config)


def register(group: str, function: Callable[..., Any], **settings: Any) -> str:
    """Make a function of this session an option of a group; return the name to ask for it by.

    A function that is given as a value, ``loss=poly``, is registered by that. A journal holds the
    name and the function is pickled nowhere: who goes on with the study in a new session registers
    it first.

    >>> def half(done, *, at=0.5):
    ...     return jnp.where(done < at, 1.0, 0.1)
    >>> fs.register("schedule", half)
    'half'
    >>> fs.train("schedule=half", tiny).best.state
    'complete'

    Args:
        group: ``loss``, ``augment``, ``schedule``, ``optimizer``, ``sampler``, ``pruner``,
            ``oracle``, or ``model`` for a backbone. docs/extend.md says what each is called with.
        function: A function with a name. Its keyword arguments with a default are keys.
        settings: Further keys, or other defaults.

    Raises:
        ConfigError: The group takes no function, or has a file of this name.
    """
    return session_words.register(group, function, **settings)


def _shows_progress(config: Config, asked: Sequence[str], *, verbose: bool) -> bool:
    return config.progress if says(asked, "progress") else verbose


def _names(studies: Sequence[Study | str]) -> list[str]:
    return [study if isinstance(study, str) else study.name for study in studies]


def _store(studies: Sequence[Study | str]) -> list[str]:
    """Return the words that find the first study again that is not a mere name."""
    found = (study.words for study in studies if not isinstance(study, str))
    return [*next(found, ())]


def _folders(
    studies: Sequence[Study | str], settings: dict[str, Any]
) -> tuple[list[str], list[Path]]:
    """Return the words that find studies, and the folder of each."""
    from flowersweep.workflows.studies import folder_of_study

    asked = [*_store(studies), *to_words((), settings)]
    config = compose(asked)
    return asked, [
        folder_of_study(config, study) if isinstance(study, str) else study.folder
        for study in studies
    ]
