"""An image classifier: preprocessing, a backbone, global average pooling and one dense head, from a
`Model` configuration.
"""

from __future__ import annotations

import hashlib
import json
import random
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from flowersweep.config import own_functions
from flowersweep.config.paths import flatten
from flowersweep.config.schema import Model
from flowersweep.config.targets import arguments, resolve
from flowersweep.errors import ConfigError
from flowersweep.models.cpu.lowering import lower_for_cpu
from flowersweep.models.drop_path import prepare_blocks
from flowersweep.models.ensemble_model import build_ensemble_model, concatenated
from flowersweep.models.hub.network import PRESET
from flowersweep.models.lora import adapt

PRETRAINED = ("imagenet", "preset")  # weights that come with a network
FEATURE_LENGTH = 20.0  # Euclidean, of an image's scaled features


@dataclass(frozen=True)
class Classifier:
    """One network, and the parts of it that are trained or run by themselves; the parts share their
    weights with `model`.
    """

    # images 0..255 (N, H, W, 3) -> float32 logits (N, classes); standard layers only: what is saved
    model: keras.Model
    # the part of `model` before dropout and heads: images 0..255 -> pooled features (N, D)
    backbone: keras.Model
    # one; of several backbones one each, on its own features: kernel (D, classes), bias; float32
    heads: tuple[layers.Dense, ...]
    # what `backbone` computes, in operations that this machine trains fast; weights in the same
    # order
    features: keras.Model
    # the same of one view, before the features are scaled: what is kept on disk
    pooled: keras.Model
    scaling: str  # of the features: unit_length or none
    views: int  # of an image, whose scaled features are averaged
    # where the backbone's weights came from (imagenet, file, none) and their digest as built; a key
    # for what it computes
    pretrained: str
    precision: str = "float32"  # of the backbone's arithmetic, or bfloat16
    # the networks that stand side by side in it, whose parts these are
    members: tuple[Classifier, ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        """How many of the features (N, D) each head sees, in their order."""
        return tuple(int(head.kernel.shape[0]) for head in self.heads)

    @property
    def heights(self) -> tuple[float, ...]:
        """Where the layer of each of the backbone's trainable variables lies: 0 is the image, 1 the
        head. Each member of several has all heights.
        """
        places = {
            id(variable): (number + 0.5) / len(rows)
            for network in self.members or (self,)
            for rows in [[*_trained_layers(network.backbone)]]
            for number, row in enumerate(rows)
            for variable in row
        }
        # a variable of a user's own model, and of none of its layers, is at no depth
        return tuple(places.get(id(each), 1.0) for each in self.backbone.trainable_variables)

    def combine(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Return what `features` makes of images whose views have these pooled features (n, D)."""
        total = sum(scaled(pooled, self.scaling) for pooled in views)
        return np.asarray(total / np.float32(len(views)))

    def set_heads(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Give the heads their part of a kernel (D, classes) and of biases (heads x classes,)."""
        kernels, biases = (
            np.split(kernel, np.cumsum(self.widths)[:-1]),
            np.split(bias, len(self.heads)),
        )
        for head, *weights in zip(self.heads, kernels, biases, strict=True):
            head.set_weights(weights)

    def calibrated(self, temperature: float) -> keras.Model:
        """Return the model with its logits over a temperature, which no layer has to divide by
        where there is one head: its weights are divided.
        """
        if len(self.heads) > 1:
            return keras.Model(self.model.input, self.model.output / temperature, name="classifier")
        (head,) = self.heads
        head.set_weights([weight / temperature for weight in head.get_weights()])
        return self.model


def build(
    config: Model,
    *,
    image_size: tuple[int, int],
    classes: int,
    lower: bool,
    finetune: bool,
    trusted: tuple[str, ...] = (),
    precision: str = "float32",
) -> Classifier:
    """Build the classifier that `config` describes, for images of (height, width) `image_size` and
    this many classes.

    `precision` is what the backbone computes in (float32, bfloat16); pooling, head and weights are
    float32 in any case. With `lower`, `features` is a copy of the backbone, weights included, that
    trains fast on a CPU (`lower_for_cpu`). `finetune` says whether the
    backbone will be trained, on which the defaults of how features are made depend. Weights that
    are not read are drawn alike in every process. Raises `ConfigError` when a target, the weights
    or the image size cannot be had.
    """
    if config.members:
        make = partial(
            build,
            image_size=image_size,
            classes=classes,
            lower=lower,
            finetune=finetune,
            trusted=trusted,
            precision=precision,
        )
        given: dict[str, Any] = {"weights": "none"} if config.weights == "none" else {}
        return side_by_side(
            {
                name: make(sized(Model(**{**member, **given}), config.image_size))
                for name, member in config.members.items()
            },
            lower=lower,
        )
    scaling = config.feature_scaling
    views = config.feature_views or (1 if finetune else 2)
    with _seeded(0), _computed_in(precision):
        pooled = _build_backbone(config, image_size, trusted)
        source = config.weights if config.weights in (*PRETRAINED, "none") else "file"
        pretrained = f"{source}-{digest(pooled, config)}"
        prepare_blocks(pooled)
        if finetune and config.lora_rank is not None:
            adapt(pooled, config.lora_rank)
        backbone = _averaged(_scaled(pooled, scaling), views)
        head = layers.Dense(classes, dtype="float32", name="head")
        dropped = layers.Dropout(config.dropout, name="dropout")(backbone.output)
        model = keras.Model(backbone.input, head(dropped), name="classifier")
    return Classifier(
        model,
        backbone,
        (head,),
        lower_for_cpu(backbone) if lower else backbone,
        pooled,
        scaling,
        views,
        pretrained,
        precision,
    )


def sized(config: Model, pixels: int | None) -> Model:
    """Return the configuration of a network that sees so many pixels of the side, if it does not
    say for itself how many.
    """
    return replace(config, image_size=config.image_size or pixels)


def _trained_layers(layer: keras.Layer) -> Iterator[list[Any]]:
    """Yield the trainable variables of each layer that has some of its own, from the images on."""
    if own := [variable for variable in layer._trainable_variables if variable.trainable]:
        yield own
    for inner in layer.layers if isinstance(layer, keras.Model) else layer._layers:
        yield from _trained_layers(inner)


def side_by_side(members: Mapping[str, Classifier], *, lower: bool) -> Classifier:
    """Join networks for the same images into one, whose logits are the logarithm of their mean
    probabilities.
    """
    for name, member in members.items():
        member.backbone.name = name  # names must differ in one model
        member.heads[0].name = f"{name}_head"
    together = tuple(members.values())
    backbone = concatenated([member.backbone for member in together])
    model = build_ensemble_model([(member.backbone, member.heads[0]) for member in together])
    features = lower_for_cpu(backbone) if lower else backbone
    heads = tuple(member.heads[0] for member in together)
    return Classifier(
        model,
        backbone,
        heads,
        features,
        features,  # never kept: each member's own are
        "none",
        1,
        " ".join(member.pretrained for member in together),
        together[0].precision,
        together,
    )


def scaled(pooled: np.ndarray, scaling: str) -> np.ndarray:
    """Return features (n, D) scaled as `_scaled` does it in a model."""
    if scaling == "none":
        return pooled
    lengths = np.sqrt(np.maximum(np.square(pooled).sum(axis=1, keepdims=True), 1e-12))
    return np.asarray(pooled * (FEATURE_LENGTH / lengths))


def _scaled(pooled: keras.Model, scaling: str) -> keras.Model:
    """Return the model with the features of each image brought to FEATURE_LENGTH.

    Heads on features of equal length generalise better from few images, and one learning rate
    suits all backbones (docs/design.md has the figures).
    """
    if scaling == "none":
        return pooled
    features = layers.UnitNormalization(dtype="float32", name="unit_length")(pooled.output)
    features = layers.Rescaling(FEATURE_LENGTH, dtype="float32", name="scale")(features)
    return keras.Model(pooled.input, features, name=pooled.name)


def _averaged(backbone: keras.Model, views: int) -> keras.Model:
    """Return the model whose features are the mean over an image and its mirror image."""
    if views == 1:
        return backbone
    images = keras.Input(backbone.input_shape[1:], name="images", dtype="float32")
    mirrored = ops.flip(images, axis=2)
    mean = layers.Average(dtype="float32", name="views")([backbone(images), backbone(mirrored)])
    return keras.Model(images, mean, name=f"{backbone.name}_of_views")


@contextmanager
def _computed_in(precision: str) -> Iterator[None]:
    """Build Keras layers that name no precision of their own in this one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def undrawn() -> Iterator[None]:
    """Let Keras layers start at zero where their first weights are not used anyway.

    JAX compiles a program for each shape of random weights: seconds for a network.
    """
    with keras.saving.custom_object_scope({"glorot_uniform": keras.initializers.Zeros}):
        yield


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python's generator, where Keras' initializers take their seeds from; afterwards it goes
    on where it was.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def digest(backbone: keras.Model, config: Model) -> str:
    """Return 16 hexadecimal digits (SHA-256) that change with the backbone's weights, its arguments
    or its preprocessing.
    """
    recipe: dict[str, Any] = {
        "backbone": _plain(config.backbone),
        "preprocess": _plain(config.preprocess),
    }
    if config.preset is not None:  # arrays alone do not say how the network was put together
        recipe["preset"] = [n for n in (e.name for e in backbone._flatten_layers()) if PRESET in n]
    if own := own_functions.sources({f"model.{key}": v for key, v in flatten(recipe)}):
        recipe["own"] = own  # a notebook may define a function anew
    total = hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode())
    for weight in backbone.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        total.update(f"{value.dtype}{value.shape}".encode())
        total.update(value.tobytes())
    return total.hexdigest()[:16]


def _build_backbone(
    config: Model, image_size: tuple[int, int], trusted: tuple[str, ...]
) -> keras.Model:
    """Join preprocessing, the network and pooling into one model from images in 0..255 to float32
    features (N, D).
    """
    images = keras.Input((*image_size, 3), name="images", dtype="float32")
    pixels = images
    if config.preprocess is not None:
        pixels = resolve(config.preprocess, "preprocess", trusted)(
            images, **arguments(config.preprocess)
        )
    features = _build_network(config, (*image_size, 3), trusted)(pixels)
    if len(features.shape) == 4:  # of a transformer they are a vector already
        features = layers.GlobalAveragePooling2D(name="pool", dtype="float32")(features)
    return keras.Model(images, features, name="backbone")


def _build_network(
    config: Model, shape: tuple[int, int, int], trusted: tuple[str, ...]
) -> keras.Model:
    make = resolve(config.backbone, "backbone", trusted)
    path = None if config.weights in (*PRETRAINED, "none") else Path(config.weights)
    if path is not None and not path.is_file():
        raise ConfigError(
            f"model.weights names {path}, and there is no such file. It can be imagenet, "
            "preset, none or a file of Keras weights."
        )
    options = {"include_top": False, **arguments(config.backbone), "input_shape": shape}
    if config.preset is not None:
        options |= {key: getattr(config, key) for key in ("preset", "pooling", "image_size")}
    weights = "imagenet" if config.weights in PRETRAINED else None
    # a function of the user's may give back the first weights although it is asked for others
    theirs = weights is not None and make.__module__.startswith(("keras.", "flowersweep.models."))
    with undrawn() if theirs or path is not None else nullcontext():
        network = _call(make, options, weights)
    if path is not None:
        _load(network, path)
    return network


def _call(make: Any, options: dict[str, Any], weights: str | None) -> keras.Model:
    name = getattr(make, "__name__", repr(make))
    try:
        return make(**options, weights=weights)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"model.backbone: {name} cannot be built with {options}: {error}"
        ) from error
    except Exception as error:  # Keras raises a bare Exception when a download fails
        if not isinstance(error, OSError) and "URL fetch failure" not in str(error):
            raise
        raise ConfigError(
            f"The ImageNet weights of {name} could not be downloaded: {error}. "
            "Use model.weights=FILE with weights saved elsewhere, or model.weights=none."
        ) from error


def _load(network: keras.Model, path: Path) -> None:
    """Load arrays, and nothing else that a file may hold: of a .keras file no layer is built."""
    try:
        with warnings.catch_warnings():
            # Keras warns of each layer that has no weights before it says what is wrong
            warnings.simplefilter("ignore")
            network.load_weights(path)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"model.weights names {path}, whose weights do not fit {network.name}: {error}"
        ) from error


def _plain(spec: Any) -> Any:
    return None if spec is None else dict(spec)
