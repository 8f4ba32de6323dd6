"""Low-rank adaptation (Hu et al. 2021) of a transformer: its weights stay, and small matrices next
to those of queries and values are trained.
"""

from __future__ import annotations

import keras

from flowersweep.errors import ConfigError

ADAPTED = {  # layers of attention, by the names that Keras and keras-hub give them
    *("query", "value", "query_dense", "value_dense"),
    *("q_proj", "v_proj", "qkv", "attention_qkv"),
}


def adapt(model: keras.Model, rank: int) -> None:
    """Leave nothing of a model to train but matrices of this rank.

    At first they change nothing. A saved model has them added to its own weights.

    Raises:
        ConfigError: The model has no attention.
    """
    layers = model._flatten_layers(include_self=False)
    adapted = [each for each in layers if each.name in ADAPTED and hasattr(each, "enable_lora")]
    if not adapted:
        raise ConfigError(
            f"model.lora_rank={rank}: the network has no attention to adapt. Leave it out, or take "
            "a transformer, such as model=vit_b16"
        )
    for layer in layers:
        layer.trainable = False
    for layer in adapted:
        layer.trainable = True
        layer.enable_lora(rank)
