"""The workshop of the tests of training, for what a study makes in it."""

from tests.training.conftest import workshop

__all__ = ["workshop"]
