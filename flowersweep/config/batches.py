"""How many images a step takes, and how many steps an epoch has."""

from __future__ import annotations

from flowersweep.config.schema import Train
from flowersweep.errors import ConfigError


def global_batch(train: Train, images: int, replicas: int = 1) -> int:
    """Return the images of a step over all replicas; fewer than asked for if there are fewer.

    Raises:
        ConfigError: Parts of a batch do not divide it, or there are fewer training images than
            replicas.
    """
    parts = train.gradient_accumulation_steps
    if train.batch_per_replica % parts:
        raise ConfigError(
            f"train.gradient_accumulation_steps={parts} does not divide "
            f"train.batch_per_replica={train.batch_per_replica}"
        )
    unit = replicas * parts  # every replica takes the same number of images of every part
    batch = min(train.batch_per_replica * replicas, images // unit * unit)
    if batch == 0:
        raise ConfigError(
            f"{images} training images are too few for {replicas} replicas and "
            f"train.gradient_accumulation_steps={parts}: lower it, or add images"
        )
    return batch


def is_main(train: Train, epoch: int) -> bool:
    """Return whether an epoch, counted from 0, belongs to the main stage."""
    return epoch >= train.all_epochs - train.epochs


def is_augmented(train: Train, epoch: int) -> bool:
    """Return whether the images of an epoch, counted from 0, are augmented."""
    done = epoch - (train.all_epochs - train.epochs)  # epochs of the main stage
    return train.epochs_before_augment <= done < train.epochs - train.epochs_after_augment


def steps_of_epoch(train: Train, epoch: int, images: int, batch: int) -> int:
    """Return the steps of an epoch, counted from 0.

    An epoch of a frozen stage goes over few images more than once, because a head needs a number of
    steps to converge, whatever the number of images.
    """
    main, full = is_main(train, epoch), images // batch
    if main and train.steps_per_epoch is not None:
        return min(full, train.steps_per_epoch)
    if main and train.finetune:
        return full
    return max(full, -(-train.min_head_steps // (train.epochs if main else train.head_epochs)))
