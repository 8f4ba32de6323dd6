"""What a training or a sweep is, as frozen dataclasses: the types that every composed configuration must have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Data:
    """Which TFRecords to read. ``fetch`` names a callable that returns their folder when ``dir`` is not given."""

    name: str = "???"
    dir: str | None = None  # holds train/, val/ and (optionally) test/, each with *.tfrec
    fetch: Any = None  # {_target_: callable, ...}
    classes: str | None = None  # a file with one class name a line, in index order
    image_size: int | None = None  # pixels of the side that images are resized to; None: as stored
    split_seed: int = 0  # halves val into tune and holdout
    allow_missing_classes: bool = False  # accept a class that no training image has
    cache_bytes: int = 2 * 2**30  # of memory, for decoded images that are kept for the next epoch; a split that does not fit is not kept
    disk_cache_bytes: int = 0  # of disk under dir/cache, for decoded images of the splits that memory does not hold


@dataclass(frozen=True)
class Model:
    """A backbone, its preprocessing and its weights; the head is one dense layer on pooled features."""

    name: str = "???"
    backbone: Any = None  # {_target_: callable(input_shape=, include_top=False, weights=) -> keras.Model, ...}
    preprocess: Any = None  # {_target_: callable(images in 0..255) -> tensor}, or None when the backbone does it
    weights: str = "imagenet"  # imagenet, none, or a file of Keras weights
    dropout: float = 0.2  # of the pooled features, while training
    members: Any = None  # name -> model: several backbones side by side, each with a head, in place of one
    ensemble_loss: float | None = None  # how much the loss of their mean probabilities counts beside the loss of each


@dataclass(frozen=True)
class Train:
    """The stages of a training: an optional frozen stage at a constant rate, then the main stage, which the schedule spans."""

    name: str = "???"
    finetune: bool = False  # whether the main stage trains the backbone too
    head_epochs: int = 0  # of the frozen stage before fine-tuning
    head_learning_rate: float = 1e-3
    epochs: int = 10  # of the main stage
    steps_per_epoch: int | None = None  # of the main stage; None: as many as the images fill
    batch_per_replica: int = 128
    learning_rate: float = 1e-3  # the schedule's maximum
    rate_scaling: str = "none"  # with the number of replicas: none, sqrt or linear
    learning_rates: str = ""  # the range worth searching, in the grammar of sweeps
    batch_statistics: bool = False  # fine-tuning normalises with the statistics of each batch, not with those of the pretrained network
    backbone_rate: float = 1.0  # the backbone's learning rate as a fraction of the head's
    weight_decay: float = 0.0  # decoupled, of matrices and kernels only
    clip_norm: float | None = None  # bound of the gradient's norm
    ema_half_life: float = 0.0  # of the average of the weights, as a fraction of the run; 0: none is kept
    accumulate: int = 1  # parts that a batch is cut into, when it does not fit
    checkpoint_seconds: float = 20.0  # a checkpoint is written when this much training would be lost

    @property
    def all_epochs(self) -> int:
        """The epochs of all stages together."""
        return self.epochs + (self.head_epochs if self.finetune else 0)


@dataclass(frozen=True)
class Budget:
    """What a study may use of the machine, over all the commands that go on with it; None: no bound."""

    minutes: float | None = None  # of running; then the trial that runs is left to go on from its checkpoint
    bytes: int | None = None  # that the study's folder may hold


@dataclass(frozen=True)
class Sweep:
    """What is searched: short names over paths of the configuration, each with its values."""

    n_trials: int = 20
    objective: str = "tune/calibrated_nll"  # a metric of the tune half; likelihoods are minimised, the others maximised
    objectives: list[str] = field(default_factory=list)  # several instead of one: metrics of the tune half, or time
    segment_epochs: int = 2  # the pruner decides after every so many epochs
    workers: int = 1  # trials at a time, each in a process of its own; 1: one after the other in this process
    repeats: str = "replicate"  # the same training again: replicate trains it with another seed, reuse takes the earlier result
    keep: int = 20  # of so many trials, the best, the logits are kept
    budget: Budget = field(default_factory=Budget)
    space: dict[str, Any] = field(default_factory=dict)  # name -> {path, values, when}
    constraints: list[str] = field(default_factory=list)  # what every trial must meet: "warmup <= 0.2 or learning_rate < 0.01"
    import_from: list[str] = field(default_factory=list)  # studies whose trials a new study learns from
    mirror: str | None = None  # an Optuna storage to keep up to date for optuna-dashboard: sqlite:///FILE, postgresql://...


@dataclass(frozen=True)
class Ensemble:
    """Which trained trials a sweep pools instead of training; what it searches is their weights."""

    members: list[str] = field(default_factory=list)  # STUDY:TRIAL, or STUDY for its best trials
    top: int = 5  # how many trials a study gives
    pooling: str = "linear"  # of probabilities, or geometric: of logits
    weights: dict[str, float] = field(default_factory=dict)  # of each member, relative; the sweep sets them


@dataclass(frozen=True)
class Promotion:
    """How much is trained anew before a model may become the champion."""

    top: int = 3  # of the study's best trials, beside the default configuration
    seeds: int = 3  # that each is trained with; of one nothing would be known of what others give


@dataclass(frozen=True)
class Tracking:
    """Where MLflow keeps the view of the journal."""

    enabled: bool = True
    uri: str | None = None  # None: sqlite under dir
    registered_model: str = "flowersweep"


@dataclass(frozen=True)
class Cluster:
    """The hosts that train together, a process on each; all are given the same words but for ``host``."""

    coordinator: str | None = None  # address of host 0 and a free port there, HOST:PORT; auto: a TPU pod knows its hosts; None: one host
    hosts: int = 1
    host: int = 0  # which of them this process is; host 0 keeps the study


@dataclass(frozen=True)
class Config:
    """Everything a command needs; ``verb`` says which command."""

    verb: Any = None
    study: str | None = None
    studies: list[str] = field(default_factory=list)  # that `report` compares
    run: str | None = None
    alias: str | None = None
    version: int | None = None  # of the registered model, that `predict` takes, or `promote` goes back to
    split: str = "test"
    output: str | None = None
    views: int = 1  # of each image, over which `predict` averages
    port: int = 5000
    topology: str | None = None  # the slice of TPU chips that `check` compiles for, such as v5e:2x4
    recipe: str | None = None  # the published recipe that the groups were set to
    seed: int = 0
    dir: str = "mlruns"
    progress: bool = True
    trusted_modules: list[str] = field(default_factory=list)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    train: Train = field(default_factory=Train)
    cluster: Cluster = field(default_factory=Cluster)
    engine: str = "optuna"  # what suggests: a sampler of Optuna's, or an oracle of KerasTuner's
    sampler: dict[str, Any] = field(default_factory=dict)
    oracle: dict[str, Any] = field(default_factory=dict)
    pruner: dict[str, Any] = field(default_factory=dict)
    executor: dict[str, Any] = field(default_factory=dict)
    sweep: Sweep = field(default_factory=Sweep)
    ensemble: Ensemble = field(default_factory=Ensemble)
    promotion: Promotion = field(default_factory=Promotion)
    force: bool = False  # promote without asking the gate; wants a reason
    reason: str | None = None
    tracking: Tracking = field(default_factory=Tracking)


SCALING = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}  # the power of the number of replicas that a rate is multiplied by
