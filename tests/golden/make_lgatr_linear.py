"""The equivariant linear layer of lgatr with random weights: writes lgatr_linear.npz.

Made with Python 3.11, lgatr==2.0.0, torch==2.13.0, numpy==2.4.6:

  python3.11 -m venv peer && peer/bin/pip install torch==2.13.0 lgatr==2.0.0 numpy==2.4.6
  peer/bin/python tests/golden/make_lgatr_linear.py

Conventions of `lgatr.layers.linear.EquiLinear`, read from its source and checked by the suite:
- Components are ordered as ours, with equal signs: scalar, (t, x, y, z), (tx, ty, tz, xy, xz, yz),
  e012 e013 e023 e123, e0123. Nothing is permuted or scaled between the two.
- `PrimitivesConfig(subgroup=False)`: 5 maps, the projections on grades 0..4. `subgroup=True`: 10,
  the next 5 being the projection on grade 0..4 followed by multiplication by e0123 from the right.
- weight (C', C, 5 | 10): y[j] = sum_{i,b} weight[j, i, b] maps[b] @ x[i].
- bias (C', 1), added to the scalar component: exists only without input scalars.
- With input scalars, s2mvs (its bias included) adds to the scalar component, and for 10 maps to
  the pseudoscalar: row 2 j is the scalar, row 2 j + 1 the pseudoscalar of output channel j.
- With output scalars, mvs2s (its bias included) reads the input's scalar components, and for 10
  maps its pseudoscalars too: column 2 i is the scalar, 2 i + 1 the pseudoscalar of channel i. With
  both, s2s (no bias) is added.
- Linear weights are (out, in), as PyTorch stores them: transpose them for a Dense kernel.

Arrays, for CASE in <full|connected>_<none|in|out|both> (group; which scalars exist):
CASE/x (B, C, 16), CASE/scalars (B, S) if any, CASE/y (B, C', 16), CASE/y_scalars (B, S') if any,
CASE/params/NAME for each parameter; maps (10, 16, 16) as [map, out, in], the first five being
those of the full group; product (16, 16, 16) as [out, left, right]; versions. All float64.
"""

import importlib.metadata
import itertools
import pathlib
import platform

import numpy as np
import torch
from lgatr.layers.linear import EquiLinear
from lgatr.primitives.bilinear import _load_geometric_product_tensor
from lgatr.primitives.config import PrimitivesConfig
from lgatr.primitives.linear import _compute_pin_equi_linear_basis

BATCH, CHANNELS_IN, CHANNELS_OUT, SCALARS_IN, SCALARS_OUT = 5, 3, 4, 3, 2
SCALARS = {
  "none": (0, 0),
  "in": (SCALARS_IN, 0),
  "out": (0, SCALARS_OUT),
  "both": (SCALARS_IN, SCALARS_OUT),
}


def make_case(subgroup: bool, scalars_in: int, scalars_out: int) -> dict[str, torch.Tensor]:
  """Inputs, parameters and outputs of one layer."""
  layer = EquiLinear(
    CHANNELS_IN,
    CHANNELS_OUT,
    PrimitivesConfig(subgroup=subgroup),
    in_s_channels=scalars_in,
    out_s_channels=scalars_out,
  ).double()
  with torch.no_grad():
    for parameter in layer.parameters():
      parameter.normal_()
    arrays = {"x": torch.randn(BATCH, CHANNELS_IN, 16, dtype=torch.float64)}
    if scalars_in:
      arrays["scalars"] = torch.randn(BATCH, scalars_in, dtype=torch.float64)
    arrays["y"], y_scalars = layer(arrays["x"], arrays.get("scalars"))
    if y_scalars is not None:
      arrays["y_scalars"] = y_scalars
  arrays |= {f"params/{name}": value.detach() for name, value in layer.named_parameters()}
  return arrays


def main() -> None:
  torch.manual_seed(20240523)
  arrays = {}
  for group, (kind, counts) in itertools.product(("full", "connected"), SCALARS.items()):
    case = make_case(group == "connected", *counts)
    arrays |= {f"{group}_{kind}/{name}": value.numpy() for name, value in case.items()}
  arrays["maps"] = _compute_pin_equi_linear_basis(True, dtype=torch.float64).numpy()
  arrays["product"] = _load_geometric_product_tensor(dtype=torch.float64).numpy()
  if not np.array_equal(
    arrays["maps"][:5], _compute_pin_equi_linear_basis(False, dtype=torch.float64).numpy()
  ):
    raise SystemExit("lgatr's 5 maps are no longer the first 5 of its 10: adapt this script")
  packages = ("lgatr", "torch", "numpy")
  versions = [f"{name}=={importlib.metadata.version(name)}" for name in packages]
  arrays["versions"] = np.array([f"python=={platform.python_version()}", *versions])
  path = pathlib.Path(__file__).with_name("lgatr_linear.npz")
  np.savez_compressed(path, **arrays)
  print(f"wrote {path}: {path.stat().st_size / 1e3:.0f} kB, {', '.join(versions)}")


if __name__ == "__main__":
  main()
