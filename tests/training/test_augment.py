"""Augmentation against TensorFlow's and SciPy's operations of the same name, and what holds
whatever is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy
import tensorflow as tf
import yaml

from flowersweep.config.paths import with_settings
from flowersweep.config.targets import arguments
from flowersweep.data.synthetic.drawing import picture
from flowersweep.data.synthetic.species import species_of
from flowersweep.runtime import compiles
from flowersweep.training import trial
from flowersweep.training.augment import augment
from flowersweep.training.augment.colour import (
    adjust_contrast_brightness,
    adjust_hue_saturation,
    recolour,
)
from flowersweep.training.augment.geometry import (
    random_affine,
    resample,
    rotate,
    slide_by_matrices,
    slide_by_steps,
    turn_by,
)
from flowersweep.training.augment.mixing import apply_cutout, beta, box, mix
from flowersweep.training.augment.sheet import grid
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from tests.tiny import finetuning, tiny

KEY = jax.random.key(1)
CONF = Path(__file__).parents[2] / "conf" / "augment"
PRESETS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "none")
STRENGTHS = {  # each alone: what it takes to see it
    "flip": {"flip": 1.0},
    "crop": {"crop": 0.5},
    "aspect": {"aspect": 0.5},
    "zoom": {"zoom": 0.3},
    "shift": {"shift": 0.2},
    "rotation": {"rotation": 30.0},
    "hue": {"hue": 0.1},
    "saturation": {"saturation": 0.5},
    "contrast": {"contrast": 0.5},
    "brightness": {"brightness": 0.3},
    "cutout": {"cutout": 1.0},
    "vertical_flip": {"vertical_flip": 1.0},
    "quarter_turns": {"quarter_turns": 1.0},
    "randaugment": {"randaugment": 0.8},
    "erasing": {"erasing": 0.5},
    "grid_mask": {"grid_mask": 0.8},
    "mixup": {"mix_probability": 1.0, "mixup_alpha": 1.0, "cutmix_share": 0.0},
    "cutmix": {"mix_probability": 1.0, "cutmix_alpha": 1.0, "cutmix_share": 1.0},
}
STRONGEST = {
    "flip": 0.5,
    "crop": 0.9,
    "aspect": 2.0,
    "zoom": 0.5,
    "shift": 0.5,
    "rotation": 45.0,
    "hue": 0.5,
    "saturation": 1.0,
}
STRONGEST |= {"contrast": 1.0, "brightness": 0.5, "cutout": 1.0, "mix_probability": 1.0}
STRONGEST |= {"vertical_flip": 0.5, "quarter_turns": 1.0, "randaugment": 1.0}
STRONGEST |= {"erasing": 0.9, "grid_mask": 0.9}
NEWER = ("vertical_flip", "quarter_turns", "randaugment", "erasing", "grid_mask")

OFF = dict.fromkeys(augment.__kwdefaults__, np.float32(0.0)) | {
    "mixup_alpha": np.float32(1.0),
    "cutmix_alpha": np.float32(1.0),
}
_augment = jax.jit(augment)


def run(key: jax.Array, images: Any, targets: Any, **strengths: Any) -> tuple[jax.Array, jax.Array]:
    """Augment with the given strengths, all others off: one program for all of them."""
    return _augment(
        key,
        images,
        targets,
        **OFF | {name: np.float32(strength) for name, strength in strengths.items()},
    )


def flowers(n: int = 4, height: int = 24, width: int = 24) -> np.ndarray:
    """Drawn flowers (n, height, width, 3), float32 in 0..255."""
    side = max(height, width)
    drawn = [
        picture(kind, side, np.random.default_rng(seed))
        for seed, kind in enumerate(species_of(n, 0))
    ]
    return np.stack(drawn)[:, :height, :width].astype(np.float32)


def one_hot(n: int = 4) -> jax.Array:
    return jnp.eye(n)


def preset_of(name: str) -> dict[str, Any]:
    preset: dict[str, Any] = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    return preset


def strengths_of(preset: str) -> dict[str, np.float32]:
    return {key: np.float32(value) for key, value in arguments(preset_of(preset)).items()}


def worst(ours: Any, theirs: Any) -> float:
    return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())


# --- against tf.image and scipy.ndimage


def test_a_flip_is_that_of_tensorflow_exactly() -> None:
    images = flowers(width=17)
    scale = jnp.array([[1.0] * 4, [-1.0] * 4])
    assert (
        worst(resample(images, scale, jnp.zeros((2, 4))), tf.image.flip_left_right(images)) == 0.0
    )


@pytest.mark.parametrize("turns", [-0.5, -0.05, -0.01, 0.0, 0.02, 0.05, 0.3])
def test_hue_is_that_of_tensorflow(turns: float) -> None:
    images = flowers()
    theirs = tf.image.adjust_hue(images / 255.0, turns) * 255.0
    assert (
        worst(
            jax.jit(adjust_hue_saturation)(
                images, np.full(4, turns, np.float32), np.ones(4, np.float32)
            ),
            theirs,
        )
        < 5e-4
    )


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.8, 1.0, 1.3, 2.0])
def test_saturation_is_that_of_tensorflow(factor: float) -> None:
    images = flowers()
    theirs = tf.image.adjust_saturation(images / 255.0, factor) * 255.0
    assert (
        worst(
            jax.jit(adjust_hue_saturation)(
                images, np.zeros(4, np.float32), np.full(4, factor, np.float32)
            ),
            theirs,
        )
        < 5e-4
    )


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("delta", [-0.25, 0.0, 0.1])
def test_contrast_and_brightness_are_those_of_tensorflow(factor: float, delta: float) -> None:
    images = flowers()
    theirs = (
        tf.image.adjust_brightness(tf.image.adjust_contrast(images / 255.0, factor), delta) * 255.0
    )
    assert (
        worst(
            jax.jit(adjust_contrast_brightness)(
                images, np.full(4, factor, np.float32), np.full(4, 255.0 * delta, np.float32)
            ),
            theirs,
        )
        < 5e-4
    )


def test_the_published_chain_of_colours_is_that_of_tensorflow() -> None:
    images, draws = flowers(), np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype(np.float32)
    ours = adjust_contrast_brightness(
        adjust_hue_saturation(images, 0.05 * draws[0], np.ones(4, np.float32)),
        1.0 + 0.5 * draws[1],
        255.0 * 0.25 * draws[2],
    )
    for image, mine, (hue, contrast, brightness) in zip(images / 255.0, ours, draws.T, strict=True):
        theirs = tf.image.adjust_contrast(
            tf.image.adjust_hue(image, 0.05 * hue), 1.0 + 0.5 * contrast
        )
        assert worst(mine, tf.image.adjust_brightness(theirs, 0.25 * brightness) * 255.0) < 5e-4


@pytest.mark.parametrize(
    ("scale", "offset"),
    [
        ((0.5, 0.5), (0.0, 0.0)),
        ((0.8, 0.6), (0.05, -0.1)),
        ((0.7, -0.7), (-0.1, 0.1)),
        ((0.1, 0.9), (0.3, 0.0)),
    ],
    ids=["half", "anywhere", "mirrored", "flat"],
)
def test_a_window_is_the_crop_and_resize_of_tensorflow(
    scale: tuple[float, float], offset: tuple[float, float]
) -> None:
    images = flowers(height=20, width=25)
    sides, of, along = np.array([20, 25]), np.array(scale), np.array(offset)
    # centres of the outermost pixels
    first, last = (0.5 + along + of * (end - 0.5 / sides) for end in (-0.5 + 1 / sides, 0.5))
    corners = np.stack([first, last]) * sides - 0.5  # in pixels of the image
    boxes = np.tile((corners / (sides - 1)).ravel(), (4, 1))
    theirs = tf.image.crop_and_resize(images, boxes, np.arange(4), [20, 25])
    given = [np.repeat(np.float32(pair)[:, None], 4, axis=1) for pair in (scale, offset)]
    assert worst(jax.jit(resample)(images, *given), theirs) < 5e-3


def test_a_window_is_a_crop_resized_by_tensorflow_but_for_its_rim() -> None:
    images = flowers(height=24, width=32)
    # sees nothing outside of the crop, where ours sees the neighbours
    theirs = tf.image.resize(images[:, 6:18, 8:24], [24, 32])
    ours = resample(images, jnp.full((2, 4), 0.5), jnp.zeros((2, 4)))
    assert worst(ours[:, 1:-1, 1:-1], theirs[:, 1:-1, 1:-1]) < 1e-3


def smooth(side: int) -> np.ndarray:
    """A picture of slow waves: what interpolation can be held to."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(4 * x + 3 * y + phase) * np.cos(5 * y - 2 * x) for phase in (0, 1, 2)]
    return (127.5 + 120 * np.stack(waves, axis=-1)).astype(np.float32)


@pytest.mark.parametrize("degrees", [-45.0, -20.0, -3.0, 0.0, 10.0, 30.0, 45.0])
def test_a_rotation_is_that_of_scipy_within_half_a_level(degrees: float) -> None:
    image = smooth(65)
    theirs = scipy.ndimage.rotate(image, degrees, reshape=False, order=1, mode="mirror")
    ours = jax.jit(rotate)(image[None], np.float32([degrees]))[0]
    y, x = np.mgrid[:65, :65] - 32
    inner = np.hypot(x, y) < 28  # beyond, three mirrors are not one
    assert worst(ours[inner], theirs[inner]) < 0.5


@pytest.mark.parametrize(("height", "width"), [(24, 24), (9, 33), (33, 9), (2, 3)])
def test_slides_by_matrices_and_by_steps_are_the_same(height: int, width: int) -> None:
    images = flowers(height=height, width=width)
    by = np.random.default_rng(0).uniform(-7, 7, (4, height)).astype(np.float32)
    by[0, :2] = -7, 7
    assert worst(slide_by_matrices(images, by), slide_by_steps(images, by, 7)) < 5e-3


# --- whatever is drawn


@pytest.mark.parametrize(("height", "width"), [(24, 24), (17, 30)])
def test_without_strengths_nothing_changes(height: int, width: int) -> None:
    images, targets = run(KEY, flowers(height=height, width=width), one_hot())
    assert worst(images, flowers(height=height, width=width)) < 1e-3  # the way through HSV rounds
    assert worst(targets, one_hot()) == 0.0


@pytest.mark.parametrize("given", STRENGTHS.values(), ids=STRENGTHS)
def test_each_strength_alone_changes_every_image_in_its_own_way(given: dict[str, float]) -> None:
    images = np.tile(flowers(1), (4, 1, 1, 1))
    if "mix_probability" in given:
        images = images * np.float32([1.0, 0.4, 0.8, 0.1])[:, None, None, None]
    changed = np.asarray(run(KEY, images, one_hot(), **given)[0])
    differences = changed - images
    assert (np.abs(differences).reshape(4, -1).max(axis=1) > 1.0).all()
    if not {"flip", "vertical_flip", "quarter_turns"} & given.keys():
        assert all(worst(differences[a], differences[b]) > 1.0 for a in range(4) for b in range(a))


@pytest.mark.parametrize(
    "given", [STRONGEST, *map(strengths_of, PRESETS)], ids=["strongest", *PRESETS]
)
@pytest.mark.parametrize(("height", "width"), [(24, 24), (17, 30)])
def test_values_stay_in_range_and_targets_sum_to_one(
    given: dict[str, float], height: int, width: int
) -> None:
    for seed in range(3):
        images, targets = run(
            jax.random.key(seed), flowers(height=height, width=width), one_hot(), **given
        )
        assert images.shape == (4, height, width, 3)
        assert images.dtype == targets.dtype == jnp.float32
        assert 0.0 <= images.min() < images.max() <= 255.0
        np.testing.assert_allclose(targets.sum(axis=1), 1.0, rtol=1e-6)
        assert targets.min() >= 0.0


def plain(key: jax.Array, images: Any, targets: Any, **strengths: Any) -> Any:
    """The kinds of change that have always been there, one after the other."""
    moved, coloured, hidden, mixed = jax.random.split(key, 4)
    groups = [
        ("flip", "crop", "aspect", "zoom", "shift", "rotation"),
        ("hue", "saturation", "contrast", "brightness"),
        ("cutout",),
    ]
    keys, changes = (moved, coloured, hidden), (random_affine, recolour, apply_cutout)
    for own, change, names in zip(keys, changes, groups, strict=True):
        images = change(own, images, **{name: strengths[name] for name in names})  # type: ignore[operator]
    mixing = {name: strengths[name] for name in ("mixup_alpha", "cutmix_alpha", "cutmix_share")}
    images, targets = mix(
        mixed, images, targets, probability=strengths["mix_probability"], **mixing
    )
    return jnp.clip(images, 0.0, 255.0), targets


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["light", "published", "strong"])
def test_kinds_at_strength_zero_leave_every_bit_of_the_others_alone(preset: str) -> None:
    strengths = strengths_of(preset)
    assert all(strengths[name] == 0.0 for name in NEWER)
    for seed in range(3):
        given = jax.random.key(seed), flowers(8), one_hot(8)
        for ours, theirs in zip(
            _augment(*given, **strengths), jax.jit(plain)(*given, **strengths), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def branches_unless_zero(program: Any) -> list[Any]:
    """What a program computes unless a strength is 0, where it computes nothing."""
    branches = [
        equation.params["branches"]
        for equation in program.eqns
        if equation.primitive.name == "cond"
    ]
    return [changed.jaxpr for unchanged, *(changed, *_) in branches if not unchanged.jaxpr.eqns]


def test_kinds_at_strength_zero_are_not_computed() -> None:
    program = jax.make_jaxpr(lambda **given: augment(KEY, flowers(), one_hot(), **given))(
        **strengths_of("light")
    )
    (further,) = branches_unless_zero(program.jaxpr)
    kinds = branches_unless_zero(further)
    assert len(kinds) == len(NEWER) - 1  # the turns share one
    assert all(kind.eqns for kind in kinds)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("upside_down", [False, True])
def test_a_turn_by_quarters_is_that_of_numpy_exactly(quarters: int, upside_down: bool) -> None:
    images = flowers(2)
    ours = jax.jit(turn_by)(images, np.float32([quarters] * 2), np.array([upside_down] * 2))
    for image, mine in zip(images, ours, strict=True):
        theirs = np.rot90(image, quarters)
        np.testing.assert_array_equal(mine, np.flipud(theirs) if upside_down else theirs)


def test_an_oblong_image_is_stretched_after_a_quarter_turn() -> None:
    images = flowers(1, height=20, width=30)
    ours = turn_by(images, np.float32([1.0]), np.array([False]))[0]
    theirs = tf.image.resize(np.rot90(images[0]), (20, 30), antialias=True)
    assert ours.shape == (20, 30, 3)
    assert worst(ours, theirs) < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "chance"), [("vertical_flip", 0.3), ("quarter_turns", 0.75)])
def test_turns_are_as_frequent_as_asked_and_quarters_even(name: str, chance: float) -> None:
    corner = np.zeros((2000, 2, 2, 3), np.float32)
    corner[:, 0, 0] = 255.0
    turned = np.asarray(run(KEY, corner, np.ones((2000, 2), np.float32), **{name: chance})[0])
    where = turned[..., 0].reshape(2000, 4).argmax(axis=1)
    found = np.bincount(where, minlength=4) / 2000
    expected = (
        [1 - chance, 0, chance, 0]
        if name == "vertical_flip"
        else [1 - chance, chance / 3, chance / 3, chance / 3]
    )
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_a_key_determines_everything_and_another_key_changes_it() -> None:
    once, again, other = (
        run(key, flowers(), one_hot(), **strengths_of("strong"))[0]
        for key in (KEY, KEY, jax.random.key(2))
    )
    assert worst(once, again) == 0.0
    assert worst(once, other) > 10.0


@pytest.mark.slow
@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_flips_and_mixes_are_as_frequent_as_asked(chance: float) -> None:
    images = np.tile(np.float32([[0.0, 255.0]])[..., None], (1000, 2, 1, 3))
    targets = np.tile(np.eye(2, dtype=np.float32), (500, 1))
    flipped = np.asarray(run(KEY, images, targets, flip=chance)[0])[:, 0, 0, 0] > 100
    mixed = (
        np.asarray(
            run(KEY, images, targets, mix_probability=chance, mixup_alpha=5.0, cutmix_share=0.0)[1]
        ).max(axis=1)
        < 1.0
    )
    assert flipped.mean() == pytest.approx(chance, abs=0.05)
    assert mixed.mean() == pytest.approx(chance, abs=0.05)


@pytest.mark.parametrize("brightness", [0.1, 0.3])
def test_brightness_is_drawn_evenly_from_both_sides(brightness: float) -> None:
    images = np.full((1000, 2, 2, 3), 127.5, np.float32)
    found = (
        np.asarray(run(KEY, images, np.ones((1000, 2), np.float32), brightness=brightness)[0])[
            :, 0, 0, 0
        ]
        / 255.0
        - 0.5
    )
    assert (
        scipy.stats.kstest(found, scipy.stats.uniform(-brightness, 2 * brightness).cdf).pvalue
        > 0.01
    )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["mixup", "both", "cutmix"])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0, 3.0])
def test_targets_are_mixed_by_the_share_of_the_pixels(share: float, alpha: float) -> None:
    black_and_white = np.zeros((32, 11, 14, 3), np.float32)
    black_and_white[1::2] = 255.0
    targets = np.tile(np.eye(2, dtype=np.float32), (16, 1))
    given = {
        "mix_probability": 1.0,
        "mixup_alpha": alpha,
        "cutmix_alpha": alpha,
        "cutmix_share": share,
    }
    images, mixed = run(KEY, black_and_white, targets, **given)
    np.testing.assert_allclose(np.mean(images / 255.0, axis=(1, 2, 3)), mixed[:, 1], atol=2e-6)
    if share == 1.0:
        pixels = np.asarray(mixed) * 11 * 14
        np.testing.assert_allclose(pixels, pixels.round(), atol=1e-4)  # whole pixels
        assert set(np.unique(images)) <= {0.0, 255.0}


def test_a_box_covers_the_pixels_whose_centres_lie_in_it() -> None:
    inside, share = box(
        np.zeros((3, 10, 20, 3)),
        jnp.array([[0.5, 0.0, 0.3], [0.5, 1.0, 0.3]]),
        jnp.array([0.6, 0.4, 0.0]),
    )
    # within, over a corner, nothing
    np.testing.assert_array_equal(inside.sum(axis=(1, 2, 3)), [6 * 12, 2 * 4, 0])
    np.testing.assert_allclose(share, inside.mean(axis=(1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_beta_is_distributed_as_it_should(alpha: float) -> None:
    found = np.asarray(jax.jit(beta)(KEY, np.full(20_000, alpha, np.float32)))
    at = np.array([1e-5, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
    np.testing.assert_allclose(
        [np.mean(found <= x) for x in at], scipy.stats.beta(alpha, alpha).cdf(at), atol=0.012
    )


# --- as a program


@pytest.mark.slow
def test_strengths_compile_nothing_anew() -> None:
    once = jax.jit(lambda *given, **strengths: augment(*given, **strengths))
    for preset in PRESETS:
        once(KEY, flowers(n=2), one_hot(2), **strengths_of(preset))
    assert once._cache_size() == 1


@pytest.mark.parametrize("operation", ["gather", "while", "scatter", "sort", "dynamic_slice"])
def test_the_program_for_tpu_has_none_of_the_slow_operations(operation: str) -> None:
    text = jax.export.export(jax.jit(augment), platforms=["tpu"])(
        KEY, flowers(), one_hot(), **strengths_of("strong")
    ).mlir_module()
    assert "stablehlo.dot_general" in text
    assert f"stablehlo.{operation}" not in text.replace("all_gather", "")


def test_every_preset_names_every_strength() -> None:
    for preset in PRESETS:
        assert set(strengths_of(preset)) == set(augment.__kwdefaults__)


FINETUNE = tiny(
    train=finetuning(epochs=3),
)


def losses(context: TrainingContext, **settings: Any) -> list[float]:
    config = with_settings(FINETUNE, settings)
    _, epochs = trial.advance(config, Checkpoint(), config.train.all_epochs, context)
    return [epoch.metrics["train/loss"] for epoch in epochs[1:]]


@pytest.mark.slow
def test_a_trial_is_trained_on_changed_images_and_its_strengths_compile_nothing(
    context: TrainingContext,
) -> None:
    seen = {"light": losses(context, augment=preset_of("light"))}
    before = compiles()
    seen |= {preset: losses(context, augment=preset_of(preset)) for preset in PRESETS}
    assert compiles() == before
    assert len({curve[-1] for curve in seen.values()}) == len(PRESETS)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 1), (0, 2), (1, 1), (0, 3), (2, 5)])
def test_the_first_and_the_last_epochs_may_do_without(
    before: int, after: int, context: TrainingContext
) -> None:
    """No step moves the weights, so that the loss of an epoch tells of its images alone."""
    still = {"train.learning_rate": 0.0, "augment": preset_of("strong")}
    none = {"train.epochs_before_augment": 3}
    changed, plain = losses(context, **still), losses(context, **still, **none)
    programs = compiles()
    found = losses(
        context,
        **still,
        **{"train.epochs_before_augment": before, "train.epochs_after_augment": after},
    )
    assert compiles() == programs
    expected = [
        changed[epoch] if before <= epoch < 3 - after else plain[epoch] for epoch in range(3)
    ]
    assert found == expected
    assert not {*changed} & {*plain}


def test_an_epoch_without_augmentation_is_trained_as_with_none(context: TrainingContext) -> None:
    off = {"augment": preset_of("strong"), "train.epochs_before_augment": 3}
    none = losses(context, augment={"name": "none"})
    np.testing.assert_allclose(losses(context, **off), none, rtol=1e-5)


def test_the_contact_sheet_shows_the_images_and_their_draws() -> None:
    sheet = grid(3, flowers(3), strengths_of("light"), rows=2)
    assert sheet.shape == (3 * 24, 3 * 24, 3)
    assert sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet[:24], np.concatenate(list(flowers(3)), axis=1))
    assert worst(sheet[24:48].astype(float), sheet[48:].astype(float)) > 10
