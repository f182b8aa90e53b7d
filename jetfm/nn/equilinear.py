"""The linear layer between multivectors that commutes with the Lorentz group."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.lorentz import equivariant_maps
from jetfm.nn.initializers import normal
from jetfm.nn.linear import Dense

_HIGHEST = jax.lax.Precision.HIGHEST  # the default on a GPU has 10 bits


class EquiLinear(nn.Module):
  """Linear map between multivectors that commutes with the Lorentz group.

      y[c', :] = sum_c sum_g weight[c', c, g] <x[c, :]>_g                (g = grade 0..4)

  With `subgroup=True` five more maps multiply each projection by e0123 from the right:
  equivariant under boosts and rotations, no longer under reflections.

  Scalars feed and read the components that the group leaves alone: the scalar, and with
  `subgroup=True` the pseudoscalar (row or column 2c is the scalar of channel c, 2c + 1 its
  pseudoscalar):

      y[scalar part] += s2mvs s + bias,      s' = mvs2s x[scalar part] + s2s s + bias

  Without input scalars a bias of shape (C', 1) is added to the scalar component instead. This is
  the layer of lgatr: parameters have its shapes and names, its linear weights transposed.

  Parameters are float32 and so are the products, or wider where x is: fewer digits would not be
  equivariant.

  Shapes: x (..., C, 16) -> (..., C', 16); scalars (..., S) -> (..., S'), None if S' = 0.
  Raises: ValueError if the last axis of x is not 16 or the leading axes of scalars differ.
  Source: arXiv:2405.14806, eq. 6 and its appendix.

  Attributes:
    channels: C'.
    scalars: S'.
    subgroup: ten maps instead of five.
    use_bias: of all of the above.
  """

  channels: int
  scalars: int = 0
  subgroup: bool = True
  use_bias: bool = True

  @nn.compact
  def __call__(
    self, x: jax.Array, scalars: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array | None]:
    if x.ndim < 2 or x.shape[-1] != 16:
      raise ValueError(f"x has shape {x.shape}, expected (..., C, 16)")
    if scalars is not None and scalars.shape[:-1] != x.shape[:-2]:
      raise ValueError(f"scalars {scalars.shape} do not belong to x {x.shape}: expected (..., S)")
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    x = x.astype(dtype)
    maps = jnp.asarray(equivariant_maps(self.subgroup), dtype)  # (G, 16, 16)
    channels_in, flat = x.shape[-2], x.reshape(*x.shape[:-2], -1)
    invariant = [0, 15] if self.subgroup else [0]

    # Each component receives one map of its grade, and a second one from the dual grade.
    spread = (channels_in * (2 if self.subgroup else 1)) ** -0.5
    weight = self.param("weight", normal(spread), (self.channels, channels_in, maps.shape[0]))
    matrix = jnp.einsum("oig,gab->iboa", weight.astype(dtype), maps, precision=_HIGHEST)
    y = jnp.matmul(flat, matrix.reshape(channels_in * 16, -1), precision=_HIGHEST)
    y = y.reshape(*x.shape[:-2], self.channels, 16)

    def linear(features: int, name: str, use_bias: bool) -> Dense:
      return Dense(features, use_bias, dtype=dtype, precision=_HIGHEST, name=name)

    if scalars is not None:
      fed = linear(self.channels * len(invariant), "s2mvs", self.use_bias)(scalars)
      y = _add_invariant(y, fed.reshape(*y.shape[:-1], len(invariant)))
    elif self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (self.channels, 1))
      y = _add_invariant(y, bias.astype(dtype))
    if not self.scalars:
      return y, None

    read = x[..., invariant].reshape(*x.shape[:-2], -1)
    out = linear(self.scalars, "mvs2s", self.use_bias)(read)
    if scalars is not None:
      out = out + linear(self.scalars, "s2s", False)(scalars)
    return y, out


def _add_invariant(y: jax.Array, scalar_part: jax.Array) -> jax.Array:
  """Add (..., 1) to the scalar component, or (..., 2) to scalar and pseudoscalar."""
  first, last = scalar_part[..., :1], scalar_part[..., 1:]
  zeros = jnp.zeros((*scalar_part.shape[:-1], 16 - scalar_part.shape[-1]), y.dtype)
  return y + jnp.concatenate([first, zeros, last], axis=-1)
