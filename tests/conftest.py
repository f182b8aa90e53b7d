"""Fixtures of the whole suite."""

import jax
import pytest


@pytest.fixture
def x64():
  """Double precision inside one test: laws are checked below 1e-10."""
  with jax.enable_x64(True):
    yield
