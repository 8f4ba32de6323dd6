"""Presets of keras-hub with few layers and random weights, as the library itself saves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZE = 32  # pixels of the side that they are made for
SCALE, OFFSET = [0.017, 0.018, 0.0175], [-2.1, -2.0, -1.8]
SMALL = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "image_shape": (SIZE, SIZE, 3)}


def vit(hub: Any) -> Any:
    return hub.models.ViTBackbone(patch_size=8, mlp_dim=16, **SMALL)


def deit(hub: Any) -> Any:
    return hub.models.DeiTBackbone(patch_size=8, intermediate_dim=16, **SMALL)


def dinov2(hub: Any) -> Any:
    return hub.models.DINOV2Backbone(
        patch_size=8,
        intermediate_dim=16,
        num_register_tokens=2,
        position_embedding_shape=(40, 40, 3),
        **SMALL,
    )


def dinov3(hub: Any) -> Any:
    return hub.models.DINOV3Backbone(patch_size=8, intermediate_dim=16, **SMALL)


def siglip(hub: Any) -> Any:
    sizes = {key: value for key, value in SMALL.items() if key != "image_shape"}
    return hub.models.SigLIPBackbone(
        hub.models.SigLIPVisionEncoder(patch_size=8, intermediate_dim=16, **SMALL),
        hub.models.SigLIPTextEncoder(
            vocabulary_size=16, embedding_dim=8, intermediate_dim=16, **sizes
        ),
    )


def swin(hub: Any) -> Any:
    return hub.models.SwinTransformerBackbone(
        image_shape=(SIZE, SIZE, 3),
        embed_dim=8,
        depths=(1, 2),
        num_heads=(2, 2),
        window_size=4,
        drop_path=0.1,
    )


def mobilenet_v5(hub: Any) -> Any:
    return hub.models.MobileNetV5Backbone(
        stackwise_block_types=[["er"], ["uir", "mqa"]],
        stackwise_num_blocks=[1, 2],
        stackwise_num_filters=[[8], [16, 16]],
        stackwise_strides=[[2], [2, 1]],
        stackwise_act_layers=[["gelu"], ["gelu", "gelu"]],
        stackwise_exp_ratios=[[2.0], [2.0, 1.0]],
        stackwise_se_ratios=[[0.0], [0.0, 0.0]],
        stackwise_dw_kernel_sizes=[[0], [5, 0]],
        stackwise_dw_start_kernel_sizes=[[0], [0, 0]],
        stackwise_dw_end_kernel_sizes=[[0], [0, 0]],
        stackwise_exp_kernel_sizes=[[3], [0, 0]],
        stackwise_pw_kernel_sizes=[[1], [0, 0]],
        stackwise_num_heads=[[0], [0, 2]],
        stackwise_key_dims=[[0], [0, 8]],
        stackwise_value_dims=[[0], [0, 8]],
        stackwise_kv_strides=[[0], [0, 1]],
        stackwise_use_cpe=[[False], [False, False]],
        num_features=16,
        msfa_output_resolution=4,
    )


def hgnetv2(hub: Any) -> Any:
    return hub.models.HGNetV2Backbone(
        depths=[1, 1],
        embedding_size=8,
        hidden_sizes=[8, 16],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=True,
        stackwise_stage_filters=[(8, 8, 8, 1, 1, 3), (8, 8, 16, 1, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
    )


def resnet(hub: Any) -> Any:
    return hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 16],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
    )


def efficientnet(hub: Any) -> Any:
    return hub.models.EfficientNetBackbone(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 1],
        stackwise_input_filters=[8, 8],
        stackwise_output_filters=[8, 16],
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[0, 0.25],
        stackwise_strides=[1, 2],
        stackwise_block_types=["fused", "unfused"],
    )


TOKENS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "vit": (vit, "ViT"),
    "deit": (deit, "DeiT"),
    "dinov2": (dinov2, "DINOV2"),
    "dinov3": (dinov3, "DINOV3"),
    "siglip": (siglip, "SigLIP"),
    "swin": (swin, "SwinTransformer"),
}
MAPS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "mobilenet_v5": (mobilenet_v5, "MobileNetV5"),
    "hgnetv2": (hgnetv2, "HGNetV2"),
    "resnet": (resnet, "ResNet"),
    "efficientnet": (efficientnet, "EfficientNet"),
}
FAMILIES = TOKENS | MAPS


def saved(family: str, folder: Path, *, converter: bool = True) -> Path:
    """Save a preset of a family and return its folder."""
    import keras_hub

    make, prefix = FAMILIES[family]
    make(keras_hub).save_to_preset(str(folder))
    if converter:
        kind = getattr(keras_hub.layers, f"{prefix}ImageConverter")
        kind(image_size=(SIZE, SIZE), scale=SCALE, offset=OFFSET).save_to_preset(str(folder))
    return folder


def checkpoint_of_transformers(folder: Path) -> dict[str, Any]:
    """Save a vision transformer as transformers does; return its arrays by name."""
    import numpy as np
    from safetensors.numpy import save_file

    draw = np.random.default_rng(0)
    block = "vit.encoder.layer.0."
    shapes: dict[str, tuple[int, ...]] = {
        "vit.embeddings.cls_token": (1, 1, 8),
        "vit.embeddings.position_embeddings": (1, 17, 8),
        "vit.embeddings.patch_embeddings.projection.weight": (8, 3, 8, 8),
        "vit.embeddings.patch_embeddings.projection.bias": (8,),
        **{
            f"{block}{name}.{part}": (8, 8) if part == "weight" else (8,)
            for name in (
                "attention.attention.query",
                "attention.attention.key",
                "attention.attention.value",
                "attention.output.dense",
            )
            for part in ("weight", "bias")
        },
        f"{block}intermediate.dense.weight": (16, 8),
        f"{block}intermediate.dense.bias": (16,),
        f"{block}output.dense.weight": (8, 16),
        f"{block}output.dense.bias": (8,),
        **{
            f"{name}.{part}": (8,)
            for name in (f"{block}layernorm_before", f"{block}layernorm_after", "vit.layernorm")
            for part in ("weight", "bias")
        },
    }
    arrays = {name: draw.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    folder.mkdir()
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": "vit",
        "image_size": SIZE,
        "patch_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.0,
        "qkv_bias": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    preprocessor = {
        "do_resize": True,
        "size": {"height": SIZE, "width": SIZE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.5, 0.25, 0.2],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return arrays
