"""Features in the order of an epoch: bounded for the process, and old seeds give way."""

from __future__ import annotations

from flowersweep.training.stages.epoch_orders import EpochOrders


def test_the_seed_used_longest_ago_gives_way_and_never_an_epoch_of_the_same_seed() -> None:
    orders = EpochOrders(limit=30)
    for epoch in range(4):
        made = orders.get(1, 0, epoch, lambda: object(), 10)
        assert (made is None) == (epoch == 3)
    assert orders.epochs(1, 0) == [0, 1, 2]
    assert orders.get(1, 7, 0, lambda: "fresh", 10) == "fresh"
    assert orders.epochs(1, 0) == []
    assert orders.get(1, 7, 0, lambda: "again", 10) == "fresh"
    assert orders.nbytes == 10


def test_what_is_too_large_for_all_of_it_is_not_kept() -> None:
    orders = EpochOrders(limit=5)
    assert orders.get(1, 0, 0, lambda: object(), 10) is None
    assert orders.nbytes == 0
