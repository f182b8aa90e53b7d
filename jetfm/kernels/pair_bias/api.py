"""The attention bias of all pairs: the contract, and the choice of implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jetfm.kernels.implementations import select
from jetfm.kernels.pair_bias import chunked, reference
from jetfm.kernels.pair_bias.features import PAIR_KINDS, check_kind
from jetfm.typing import Array

IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
  "xla": reference.pair_bias,
  "xla_chunked": chunked.pair_bias,
}


class PairBiasWeights(NamedTuple):
  """The pair MLP, F pair features -> hidden widths W -> H heads.

  The last linear layer has no norm; all fields are float arrays.
  """

  kernels: tuple[Array, ...]
  """(F, W), (W, W), ..., (W, H)."""
  biases: tuple[Array, ...]
  """(W,), ..., (H,)."""
  scales: tuple[Array, ...]
  """(W,) for each hidden layer: the learned scale of its RMSNorm."""
  hidden: Array
  """(H,) the bias of a pair with a hidden particle."""


def pair_bias(
  p4: Array,
  weights: PairBiasWeights,
  mask: Array | None = None,
  hidden: Array | None = None,
  *,
  kind: str = "part",
  dtype: Any = None,
  implementation: str | None = None,
) -> jax.Array:
  """Bias of every pair of particles, computed once and shared by all layers.

      x_0 = (pair features - mean) / std                             (fixed numbers of the kind)
      x_l = GELU(s_l * r / sqrt(mean(r^2) + 1e-6)),  r = x_{l-1} W_l + b_l      (l = 1 .. hidden)
      bias = x W + b,  or the learned constant where either particle is hidden

  Pointwise in the pairs: no number of one pair enters another. GELU is the tanh form.
  **No gradient flows to p4**: it is stopped here, so that every implementation agrees.

  Args:
    p4: (B, N, 4) in GeV. Hidden and padded slots are ignored, whatever they hold.
    weights: the MLP; F must be the number of features of the kind.
    mask: (B, N) bool, particles first, padding last. The bias of a padded pair is finite and has
      no meaning: an implementation may skip it.
    hidden: (B, N) bool, or None when nothing is hidden.
    kind: one of `PAIR_KINDS`.
    dtype: of the products and the result; None takes that of p4 and the weights together.
    implementation: 'xla' is the reference, 'xla_chunked' the same for a CPU's cache; None chooses
      by JAX's default backend.

  Returns: (B, H, N, N); symmetric for all kinds but 'lorentz_part'.
  Raises: ValueError for an unknown kind or implementation, or shapes that do not fit.
  """
  check_kind(kind)
  p4 = jax.lax.stop_gradient(jnp.asarray(p4))
  features = len(PAIR_KINDS[kind].mean)
  if p4.ndim != 3 or p4.shape[-1] != 4:
    raise ValueError(f"p4 has shape {p4.shape}, expected (B, N, 4)")
  if weights.kernels[0].shape[0] != features:
    raise ValueError(
      f"the first kernel has shape {weights.kernels[0].shape}, but kind '{kind}' has {features} "
      "pair features"
    )
  for name, flags in (("mask", mask), ("hidden", hidden)):
    if flags is not None and flags.shape != p4.shape[:2]:
      raise ValueError(f"{name} has shape {flags.shape}, expected {p4.shape[:2]}")
  dtype = jnp.result_type(p4, weights.kernels[0]) if dtype is None else jnp.dtype(dtype)
  visible = jnp.ones(p4.shape[:2], bool) if mask is None else mask
  if hidden is not None:
    visible = visible & ~hidden
  p4 = jnp.where(visible[..., None], p4, 0)
  if implementation is None:
    implementation = "xla_chunked" if jax.default_backend() == "cpu" else "xla"
  run = select("pair_bias", implementation, IMPLEMENTATIONS)
  return run(p4, weights, mask, hidden, kind, dtype)
