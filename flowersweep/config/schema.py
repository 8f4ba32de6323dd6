"""The keys of a configuration: what a training, a study and a command are, as frozen dataclasses.

A key is one line here: its default, its range, its role, and in the comment its unit. Identity,
resume, replay, MLflow's columns and the report read them through ``config.keys``: nobody else keeps
a list of keys.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from flowersweep.config.setting import (
    BUDGET,
    COMMAND,
    LABEL,
    PLACE,
    SEARCH,
    TRAINED,
    Range,
    setting,
)

# the power of the number of replicas that a rate is multiplied by
SCALING = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}
PRECISIONS = ("auto", "float32", "bfloat16")
POOLINGS = ("auto", "class_token", "mean", "both")
DATA_FORMATS = ("tfrecords", "folder", "csv", "huggingface")


@dataclass(frozen=True)
class Data:
    """Which images to read.

    ``fetch`` names a callable that returns their folder when ``dir`` is not given.
    """

    name: str = setting("???", role=LABEL)
    # how images and labels are stored
    format: str = setting("tfrecords", choices=DATA_FORMATS, role=TRAINED, comparable=False)
    # the folder of the images, or an address such as gs://BUCKET/PATH; None: what fetch returns
    dir: str | None = setting(None, role=PLACE)
    # a local folder like dir, or the name that fetch downloads from a library's catalogue
    path: str | None = setting(None, role=PLACE)
    # the table of format=csv: a path, or a name in dir
    file: str | None = setting(None, role=PLACE)
    fetch: Any = setting(None, role=TRAINED, comparable=False)  # {_target_: callable, ...}
    # a file with one class name a line, in index order
    classes: str | None = setting(None, role=TRAINED, comparable=False)
    # image, label, id, split -> the column or feature that holds it; null: by its usual names
    columns: dict[str, Any] = setting(dict, role=TRAINED, comparable=False)
    # train, val, test -> what it is called; null: by its usual names
    splits: dict[str, Any] = setting(dict, role=TRAINED, comparable=False)
    # more training images: folders, tables or TFRecords with classes of the same names
    extra: list[str] = setting(list, role=TRAINED, comparable=False)
    # labels of the images of test by a model, a file of `predict format=pseudo_labels`; they train
    pseudo_labels: str | None = setting(None, role=TRAINED, comparable=False)
    # of the training images of each class, that become val where there is none
    val_fraction: float = setting(0.2, low=0.01, high=0.9, role=TRAINED, comparable=False)
    # likewise test
    test_fraction: float = setting(0.0, low=0, high=0.9, role=TRAINED, comparable=False)
    # leave out image files that cannot be read, and list them
    skip_unreadable: bool = setting(False, role=TRAINED, comparable=False)
    # pixels of the side that images are resized to; None: the size of most training images
    image_size: int | None = setting(None, low=8, high=4096, role=TRAINED)
    # what is done to an image of another shape
    resize: str = setting("stretch", choices=("stretch", "crop", "pad"), role=TRAINED)
    # halves val into tune and holdout, and cuts val and test from train where there are none
    split_seed: int = setting(0, low=0, high=2**31 - 1, role=TRAINED, comparable=False)
    # frozen heads are judged by so many folds of train and tune; 1: by tune alone; None: by folds
    # where tune is small
    folds: int | None = setting(None, low=1, high=50, role=TRAINED, comparable=False)
    # all: train on val too, as a chosen configuration is refit; its scores are then no evidence
    train_on: str = setting("train", choices=("train", "all"), role=TRAINED, comparable=False)
    # accept a class that no training image has
    allow_missing_classes: bool = setting(False, role=TRAINED, comparable=False)
    # memory for decoded images, auto: a share of what is free; a split that does not fit is decoded
    # every epoch
    cache_bytes: int | str = setting("auto", low=0, role=PLACE)
    # disk under dir/cache, for features of frozen backbones: those used longest ago make room
    features_bytes: int = setting(20 * 2**30, low=0, role=PLACE)
    # disk under dir/cache, for decoded images of the splits that memory does not hold
    disk_cache_bytes: int = setting(0, low=0, role=PLACE)


@dataclass(frozen=True)
class Model:
    """A backbone, its preprocessing and its weights; the head is one dense layer on pooled
    features.
    """

    name: str = setting("???", role=LABEL)
    # {_target_: callable(input_shape=, include_top=False, weights=) -> keras.Model, ...}
    backbone: Any = setting(None, role=TRAINED)
    # {_target_: callable(images in 0..255) -> tensor}; None: the backbone does it
    preprocess: Any = setting(None, role=TRAINED)
    # imagenet or preset: the pretrained ones; none; or a file of Keras weights
    weights: str = setting("imagenet", role=TRAINED)
    # of keras-hub: a name, a folder, hf://OWNER/NAME or kaggle://...; see docs/models.md
    preset: str | None = setting(None, role=TRAINED)
    # what becomes of a preset's tokens; auto: the class token where there is one, else their mean
    pooling: str = setting("auto", choices=POOLINGS, role=TRAINED)
    # pixels of the side that a preset's network sees, whatever size the images have; None:
    # data.image_size, or what the network was made for
    image_size: int | None = setting(None, low=8, high=4096, role=TRAINED)
    # the length that the pooled features of an image are brought to, or none
    feature_scaling: str = setting("unit_length", choices=("none", "unit_length"), role=TRAINED)
    # whose features are averaged: 1 the image, 2 its mirror image too; None: 2 over a frozen
    # backbone, 1 when it is trained too
    feature_views: int | None = setting(None, low=1, high=2, role=TRAINED)
    # the rank of the matrices that fine-tuning trains in place of a transformer's weights; None: it
    # trains the weights
    lora_rank: int | None = setting(None, low=1, high=1024, role=TRAINED)
    # of the images, that skip the last block of a transformer in fine-tuning; earlier ones fewer
    drop_path: float = setting(0.0, low=0, high=0.9, role=TRAINED)
    # of the pooled features, while training
    dropout: float = setting(0.2, low=0, high=0.95, role=TRAINED)
    # name -> model: several backbones side by side, each with a head, in place of one
    members: Any = setting(None, role=TRAINED)
    # the weight of the loss of the members' mean probabilities, next to each member's loss
    ensemble_loss: float | None = setting(None, low=0, high=10, role=TRAINED)


@dataclass(frozen=True)
class Train:
    """The stages of a training: an optional frozen stage at a constant rate, then the main stage,
    which the schedule spans.
    """

    name: str = setting("???", role=LABEL)
    finetune: bool = setting(False, role=TRAINED)  # whether the main stage trains the backbone too
    head_epochs: int = setting(0, low=0, role=TRAINED)  # of the frozen stage before fine-tuning
    # constant, of the frozen stage before fine-tuning
    head_learning_rate: float = setting(1e-3, low=0, role=TRAINED)
    epochs: int = setting(10, low=1, role=TRAINED)  # of the main stage
    # of the main stage; None: as many as the images fill
    steps_per_epoch: int | None = setting(None, low=1, role=TRAINED)
    # of the frozen stages together: an epoch goes over few images more than once
    min_head_steps: int = setting(400, low=0, role=TRAINED)
    # images; fewer where there are fewer
    batch_per_replica: int = setting(128, low=1, role=TRAINED)
    learning_rate: float = setting(1e-3, low=0, role=TRAINED)  # the schedule's maximum
    # of the rates, with the number of replicas
    lr_scaling: str = setting("none", choices=(*SCALING,), role=TRAINED)
    # the range worth searching, in the grammar of sweeps
    learning_rate_range: str = setting("", role=LABEL)
    # fine-tuning normalises with the statistics of each batch, not with the pretrained ones
    batch_statistics: bool = setting(False, role=TRAINED)
    # the backbone's learning rate as a fraction of the head's
    backbone_lr_multiplier: float = setting(1.0, low=0, role=TRAINED)
    # the first layer's rate as a fraction of the last one's, geometric in between; 1: all alike
    layer_decay: float = setting(1.0, low=1e-6, high=1, role=TRAINED)
    # of the backbone's layers, from the first on, that stay as they are
    frozen_share: float = setting(0.0, low=0, high=1, role=TRAINED)
    # decoupled, of matrices and kernels only
    weight_decay: float = setting(0.0, low=0, role=TRAINED)
    # bound of the gradient's norm
    gradient_clip_norm: float | None = setting(None, low=1e-9, role=TRAINED)
    # of the weights' average, as a fraction of the run; 0: no average
    ema_half_life: float = setting(0.0, low=0, high=10, role=TRAINED)
    # parts that a batch is cut into, when it does not fit
    gradient_accumulation_steps: int = setting(1, low=1, role=TRAINED)
    # epochs at the beginning of the main stage whose images are not augmented
    epochs_before_augment: int = setting(0, low=0, role=TRAINED)
    # likewise at its end
    epochs_after_augment: int = setting(0, low=0, role=TRAINED)
    # images of every class in an epoch, in the place of others; at most an even share; 0: as many
    # as there are
    min_class_images: int = setting(0, low=0, role=TRAINED)
    # of data.pseudo_labels: how much an image counts beside a labelled one, and the probability of
    # its label from which on it counts at all
    pseudo_weight: float = setting(1.0, low=0, high=10, role=TRAINED)
    pseudo_threshold: float = setting(0.9, low=0, high=1, role=TRAINED)
    # give back the weights of the epoch of the main stage with the best tune/calibrated_nll
    restore_best: bool = setting(False, role=TRAINED)
    # end the main stage after so many epochs without a better one; None: never
    patience: int | None = setting(None, low=1, role=TRAINED)
    # a checkpoint is written when this much training would be lost
    checkpoint_interval_s: float = setting(20.0, low=0, role=PLACE)

    @property
    def all_epochs(self) -> int:
        """The epochs of all stages together."""
        return self.epochs + (self.head_epochs if self.finetune else 0)


@dataclass(frozen=True)
class Arithmetic:
    """How backbones compute. Weights, optimizer, batch statistics, head and loss are float32."""

    # auto: bfloat16 on a TPU and on a GPU that has it, else float32
    precision: str = setting("auto", choices=PRECISIONS, role=TRAINED)
    # fine-tuning computes maps anew in the backward pass, and keeps a few of them: less memory,
    # about a third more time
    remat: bool = setting(False, role=TRAINED)


@dataclass(frozen=True)
class Budget:
    """What a study may use of the machine, over all the commands that go on with it; None: no
    bound.
    """

    # of running; then the trial that runs is left to go on from its checkpoint
    minutes: float | None = setting(None, low=0, role=BUDGET)
    bytes: int | None = setting(None, low=1, role=BUDGET)  # that the study's folder may hold


# never of holdout: it is held out
OBJECTIVES = ("tune/calibrated_nll", "tune/nll", "tune/macro_f1", "tune/accuracy")
# of a training and its network: seconds, images/s through the backbone on this device, weights
COSTS = ("time", "images_per_s", "parameters")


@dataclass(frozen=True)
class Sweep:
    """What is searched: short names over paths of the configuration, each with its values."""

    # of the study, over all its commands
    n_trials: int = setting(20, low=1, role=BUDGET)
    # a metric of the tune half; likelihoods are minimised, the others maximised
    objective: str = setting("tune/calibrated_nll", choices=OBJECTIVES, role=SEARCH)
    # several instead of one: metrics of the tune half, or costs
    objectives: list[str] = setting(list, role=SEARCH)
    # the pruner decides after every so many epochs
    report_interval_epochs: int = setting(2, low=1, role=SEARCH)
    # trials at a time, each in a process of its own; 1: one after the other in this process
    workers: int = setting(1, low=1, role=BUDGET)
    # the same training again: new_seed trains it with another seed, reuse takes the earlier result
    on_duplicate: str = setting("new_seed", choices=("new_seed", "reuse"), role=SEARCH)
    # of so many trials, the best, the logits are kept
    save_predictions_of_best: int = setting(20, low=1, role=BUDGET)
    # and of so many of these the weights, which soups are made of
    save_weights_of_best: int = setting(1, low=1, role=BUDGET)
    budget: Budget = setting(Budget, role=BUDGET)
    space: dict[str, Any] = setting(dict, role=SEARCH)  # name -> {path, values, when}
    # what every trial must meet: "warmup <= 0.2 or learning_rate < 0.01"
    constraints: list[str] = setting(list, role=SEARCH)
    # studies whose trials a new study learns from
    import_from: list[str] = setting(list, role=SEARCH)
    # an Optuna storage to keep up to date: sqlite:///FILE, postgresql://...
    optuna_storage: str | None = setting(None, role=BUDGET)


@dataclass(frozen=True)
class Ensemble:
    """Which trained trials a sweep pools instead of training; what it searches is their weights."""

    # STUDY:TRIAL, STUDY for its best trials, STUDY:soup for the average of its fine-tuned networks,
    # STUDY:TRIAL:TRIAL for that of these
    members: list[str] = setting(list, role=TRAINED, comparable=False)
    top: int = setting(5, low=1, role=TRAINED, comparable=False)  # how many trials a study gives
    # of probabilities, or geometric: of logits
    pooling: str = setting("linear", choices=("linear", "geometric"), role=TRAINED)
    # of each member, relative; the sweep sets them
    weights: dict[str, float] = setting(dict, role=TRAINED)


@dataclass(frozen=True)
class Promotion:
    """How much is trained anew before a model may become the champion."""

    # of the study's best trials, in addition to the default configuration
    top: int = setting(3, low=0, role=COMMAND)
    # that each is trained with; a single seed says nothing of what others give
    seeds: int = setting(3, low=2, role=COMMAND)
    # whether the model that is registered is trained once more, on train and val together
    refit: bool = setting(True, role=COMMAND)


@dataclass(frozen=True)
class Tracking:
    """Where MLflow keeps the view of the journal."""

    # false: nothing goes to MLflow; `sync` may send it later
    enabled: bool = setting(True, role=PLACE)
    uri: str | None = setting(None, role=PLACE)  # None: sqlite under dir
    # its name in the registry
    registered_model: str = setting("flowersweep", role=PLACE)
    tags: dict[str, str] = setting(dict, role=PLACE)  # of every run of the study, next to ours
    # of the runs: a name, or a template of {study}, {trial} and parameters; None: STUDY-0003
    run_name: str | None = setting(None, role=PLACE)
    tensorboard: bool = setting(False, role=PLACE)  # event files under dir/tensorboard too
    # runs of Weights & Biases under dir/wandb too; offline, unless WANDB_MODE says otherwise
    wandb: bool = setting(False, role=PLACE)


@dataclass(frozen=True)
class Sync:
    """A bucket that holds a copy of the study while it runs, for another machine to go on from."""

    to: str | None = setting(None, role=PLACE)  # gs://..., s3://... or file://...; None: no copy
    interval_s: float = setting(10.0, low=0, high=3600, role=PLACE)  # seconds between two copies
    # own the study in the bucket although another machine seems to run it
    take_over: bool = setting(False, role=COMMAND)


@dataclass(frozen=True)
class Distributed:
    """The hosts that train together, a process on each; all get the same words but for ``host``."""

    # address of host 0 and a free port there, HOST:PORT; auto: a TPU pod knows its hosts; None: one
    # host
    coordinator: str | None = setting(None, role=COMMAND)
    # how many there are
    hosts: int = setting(1, low=1, role=COMMAND)
    # which of them this process is; host 0 keeps the study
    host: int = setting(0, low=0, role=COMMAND)


LOSS_RANGES: dict[str, Range] = {
    "label_smoothing": (0, 0.9),
    "gamma": (0, 20),
    "beta": (0, 0.999999),  # float32 has no room above it
    "tau": (0, 10),
}
AUGMENT_RANGES: dict[str, Range] = {  # shares of an image or probabilities; rotation in degrees
    "flip": (0, 1),
    "crop": (0, 0.95),
    "aspect": (0, 4),
    "zoom": (0, 0.9),
    "shift": (0, 0.5),
    "rotation": (0, 45),
    "hue": (0, 0.5),
    "saturation": (0, 1),
    "contrast": (0, 1),
    "brightness": (0, 1),
    "cutout": (0, 1),
    "mix_probability": (0, 1),
    "mixup_alpha": (0, 10),
    "cutmix_alpha": (0.01, 10),
    "cutmix_share": (0, 1),
    "vertical_flip": (0, 1),
    "quarter_turns": (0, 1),
    "randaugment": (0, 1),  # of the paper's most
    "erasing": (0, 0.9),
    "grid_mask": (0, 0.9),
}
MIXING_SHAPES = ("mixup_alpha", "cutmix_alpha", "cutmix_share")  # every other key is a strength
SCHEDULE_RANGES: dict[str, Range] = {  # shares of the run or of the largest rate
    "warmup": (0, 1),
    "warmup_start_factor": (0, 1),
    "final_factor": (0, 1),
    "hold_fraction": (0, 1),
    "half_life": (1e-4, 1e4),
}


@dataclass(frozen=True)
class Experiment:
    """What a training or a study is: what a journal holds, and what is hashed or compared."""

    # the published recipe that the groups were set to
    recipe: str | None = setting(None, role=LABEL)
    # of trainings and of what is suggested; equal seeds give equal digits
    seed: int = setting(0, low=0, high=2**31 - 1, role=TRAINED)
    data: Data = setting(Data, role=TRAINED)
    model: Model = setting(Model, role=TRAINED)
    # the keys of an option's file: arguments of its callable
    loss: dict[str, Any] = setting(dict, ranges=LOSS_RANGES, role=TRAINED)
    augment: dict[str, Any] = setting(dict, ranges=AUGMENT_RANGES, role=TRAINED)
    schedule: dict[str, Any] = setting(dict, ranges=SCHEDULE_RANGES, role=TRAINED)
    optimizer: dict[str, Any] = setting(dict, role=TRAINED)
    train: Train = setting(Train, role=TRAINED)
    runtime: Arithmetic = setting(Arithmetic, role=TRAINED)
    ensemble: Ensemble = setting(Ensemble, role=TRAINED)
    # what suggests: a sampler of Optuna's, or an oracle of KerasTuner's
    engine: str = setting("optuna", choices=("optuna", "keras_tuner"), role=SEARCH)
    sampler: dict[str, Any] = setting(dict, role=SEARCH)
    oracle: dict[str, Any] = setting(dict, role=SEARCH)
    pruner: dict[str, Any] = setting(dict, role=SEARCH)
    executor: dict[str, Any] = setting(dict, role=BUDGET)
    sweep: Sweep = setting(Sweep, role=SEARCH)


@dataclass(frozen=True)
class Command:
    """What one command does: which verb, on what, and where things are. No journal holds it."""

    verb: Any = setting(None, role=COMMAND)  # the first word of a command
    # its name, and that of its folder; None: that of the sweep
    study: str | None = setting(None, role=COMMAND)
    studies: list[str] = setting(list, role=COMMAND)  # that `report` compares
    run: str | None = setting(None, role=COMMAND)  # an MLflow run
    # of the registered model, such as champion
    alias: str | None = setting(None, role=COMMAND)
    # of the registered model, that `predict` takes, or `promote` goes back to
    version: int | None = setting(None, role=COMMAND)
    # that `predict` labels
    split: str = setting("test", choices=("val", "test"), role=COMMAND)
    # of no data set, for `predict`: a file, a folder, a glob, a table of paths or TFRecords
    images: str | None = setting(None, role=COMMAND)
    output: str | None = setting(None, role=COMMAND)  # a file; the folder of an export
    # of what `predict` and `export` write; None: the usual one
    format: str | None = setting(None, role=COMMAND)
    # best classes of each image that `predict` writes
    top: int = setting(1, low=1, role=COMMAND)
    probabilities: bool = setting(False, role=COMMAND)  # of every class, that `predict` writes
    # an image that `predict` cannot read: the exit code is 0 (continue) or 1 (fail)
    on_error: str = setting("continue", choices=("continue", "fail"), role=COMMAND)
    # of each image, over which `predict` averages
    tta_views: int = setting(1, low=1, high=6, role=COMMAND)
    # of this machine, that `serve` listens at
    host: str = setting("127.0.0.1", role=COMMAND)
    # of this machine, that `ui` and `serve` serve at; `serve` without it: 5002
    port: int = setting(5000, low=1, high=65535, role=COMMAND)
    # the slice of TPU chips that `check` compiles for, such as v5e:2x4
    topology: str | None = setting(None, role=COMMAND)
    force: bool = setting(False, role=COMMAND)  # promote without asking the gate; needs a reason
    reason: str | None = setting(None, role=COMMAND)
    # show a bar, or a line every so often in a log
    progress: bool = setting(True, role=COMMAND)
    promotion: Promotion = setting(Promotion, role=COMMAND)
    # the folder of studies, caches, MLflow's database and artifacts
    dir: str = setting("mlruns", role=PLACE)
    tracking: Tracking = setting(Tracking, role=PLACE)
    sync: Sync = setting(Sync, role=PLACE)
    distributed: Distributed = setting(Distributed, role=COMMAND)
    # for the command to say, never for what it reads
    trusted_modules: list[str] = setting(list, role=COMMAND)


@dataclass(frozen=True)
class Config(Command, Experiment):
    """What a command line composes to: an experiment, and what this command does with it.

    Code that needs no command takes an ``Experiment``.
    """

    @property
    def experiment(self) -> Experiment:
        """The experiment alone, as a journal holds it."""
        return Experiment(**{key.name: getattr(self, key.name) for key in fields(Experiment)})

    def with_experiment(self, experiment: Experiment) -> Config:
        """Return this command on another experiment."""
        return replace(
            self, **{key.name: getattr(experiment, key.name) for key in fields(Experiment)}
        )
