"""Components, product and equivariant maps equal those of lgatr (tests/golden)."""

import pathlib

import numpy as np

from jetfm import lorentz


def test_maps_and_product_are_those_of_lgatr():
  """Same order of components, same signs: weights can be copied."""
  with np.load(pathlib.Path(__file__).parents[1] / "golden" / "lgatr_linear.npz") as golden:
    np.testing.assert_array_equal(lorentz.equivariant_maps(True), golden["maps"])
    np.testing.assert_array_equal(lorentz.equivariant_maps(False), golden["maps"][:5])
    product = np.moveaxis(golden["product"], 0, -1)
    np.testing.assert_array_equal(lorentz.GEOMETRIC_PRODUCT, product)
