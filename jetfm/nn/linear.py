"""Linear layers, also of what a norm has not yet scaled and shifted."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jetfm.nn.initializers import lecun_normal
from jetfm.nn.norms import Normalised


class Dense(nn.Dense):
  """`flax.linen.Dense` with a kernel of `jetfm.nn.initializers`."""

  kernel_init: Any = lecun_normal()


class Linear(nn.Module):
  """y = x W + b over the last axis, parameters `kernel` and `bias` as those of `flax.linen.Dense`.

  Of a norm's parts u, scale s and shift t it takes the same for less:

      (s u + t) W + b = u (diag(s) W) + (b + t W)

  No array of the size of x is scaled or shifted, and the gradients of s and t are read from that of
  the kernel instead of summing over all tokens once more. A norm that depends on the event is
  applied first.

  With `apart` it returns x W and b, for who adds them as part of other work.

  Shapes: (..., F) -> (..., features).
  """

  features: int
  dtype: Any = None
  apart: bool = False

  @nn.compact
  def __call__(self, x: jax.Array | Normalised) -> Any:
    parts = x if isinstance(x, Normalised) and x.scale.ndim == 1 else None
    if isinstance(x, Normalised):
      x = x.applied() if parts is None else x.unit
    kernel = self.param("kernel", lecun_normal(), (x.shape[-1], self.features))
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    if parts is not None:
      kernel, bias = folded(kernel, bias, parts.scale, parts.shift)
    dtype = jnp.dtype(self.dtype or jnp.result_type(x, kernel))
    y, bias = jnp.dot(x.astype(dtype), kernel.astype(dtype)), bias.astype(dtype)
    return (y, bias) if self.apart else y + bias


def folded(
  kernel: jax.Array, bias: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Kernel (F, D) and bias (D,) that make of u what the given ones make of scale u + shift."""
  bias = bias + jnp.einsum("f,fd->d", shift, kernel, precision="highest")
  return scale[:, None] * kernel, bias
