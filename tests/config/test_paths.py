"""Dotted paths: what takes a configuration apart, and what puts it together."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flowersweep.config.paths import differences, flatten, merged, with_settings
from tests.tiny import tiny

CONFIG = tiny()
LEAVES = dict(flatten(CONFIG))

keys = st.text("abcdefgh_", min_size=1, max_size=4)
values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just({}))
trees = st.dictionaries(
    keys,
    st.recursive(values, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8),
    max_size=4,
)
settings = st.dictionaries(st.sampled_from(sorted(LEAVES)), st.integers(), max_size=5)


@given(trees)
def test_leaves_put_together_are_the_configuration_they_were_taken_from(
    tree: dict[str, Any],
) -> None:
    leaves = dict(flatten(tree)) if tree else {}
    assert merged({}, leaves) == tree
    assert merged(tree, leaves) == tree


@given(
    st.dictionaries(keys, st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6),
)
def test_the_differences_lead_from_the_old_to_the_new(both: dict[str, tuple[int, int]]) -> None:
    old, new = ({key: pair[side] for key, pair in both.items()} for side in (0, 1))
    changes = differences(old, new)
    assert old | {path: after for path, (_, after) in changes.items()} == new
    assert differences(new, old) == {path: pair[::-1] for path, pair in changes.items()}
    assert differences(old, old) == {}


@given(settings)
def test_settings_are_set_and_setting_the_old_values_takes_them_back(
    changes: dict[str, int],
) -> None:
    changed = with_settings(CONFIG, changes)
    assert dict(flatten(changed)) == LEAVES | changes
    assert with_settings(changed, {path: LEAVES[path] for path in changes}) == CONFIG
