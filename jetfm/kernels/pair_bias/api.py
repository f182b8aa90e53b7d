"""The attention bias of all pairs: the contract, and the choice of implementation."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jetfm.kernels.activations import check_activation
from jetfm.kernels.implementations import SINGLE, Implementation, by_name, by_platform
from jetfm.kernels.pair_bias.features import PAIR_KINDS, check_kind
from jetfm.kernels.pair_bias.momenta import with_gradient_of_momenta
from jetfm.kernels.pair_bias.reference import Options
from jetfm.typing import Array

_HERE = "jetfm.kernels.pair_bias"
_TRITON, _TPU = f"{_HERE}.triton", f"{_HERE}.tpu"

IMPLEMENTATIONS: dict[str, Implementation] = {
  "xla": Implementation(f"{_HERE}.reference", "pair_bias"),
  "xla_chunked": Implementation(f"{_HERE}.chunked", "pair_bias"),
  "triton": Implementation(_TRITON, "pair_bias", {}, "gpu", 512, SINGLE, 128),
  "tpu": Implementation(_TPU, "pair_bias", {}, "tpu", 512, SINGLE, 128),
  "interpret": Implementation(
    _TRITON, "pair_bias", {"interpret": True}, None, 512, (*SINGLE, "float64"), 128
  ),
}
"""'interpret' is 'triton' on any machine, slowly: for tests."""

KERNELS = {"cuda": (IMPLEMENTATIONS["triton"],), "tpu": (IMPLEMENTATIONS["tpu"],)}
ON_CPU = {"cpu": (IMPLEMENTATIONS["xla_chunked"],)}
"""What None chooses on a platform, where it can; 'xla' elsewhere."""

FEW_PARTICLES = 32
"""Up to so many particles XLA is as good, and compiles faster."""


class PairBiasWeights(NamedTuple):
  """The pair MLP, F pair features -> hidden widths W -> H heads.

  The last linear layer has no norm; all fields are float arrays.
  """

  kernels: tuple[Array, ...]
  """(F, W), (W, W), ..., (W, H)."""
  biases: tuple[Array, ...]
  """(W,), ..., (H,)."""
  scales: tuple[Array, ...]
  """(W,) for each hidden layer: the learned scale of its RMSNorm; () for no norms."""
  hidden: Array
  """(H,) the bias of a pair with a hidden particle."""


def pair_bias(
  p4: Array,
  weights: PairBiasWeights,
  mask: Array | None = None,
  hidden: Array | None = None,
  *,
  kind: str = "part",
  activation: str = "gelu",
  dtype: Any = None,
  implementation: str | None = None,
) -> jax.Array:
  """Bias of every pair of particles, computed once and shared by all layers.

      x_0 = (pair features - mean) / std                             (fixed numbers of the kind)
      x_l = g(s_l * r / sqrt(mean(r^2) + 1e-6)),  r = x_{l-1} W_l + b_l      (l = 1 .. hidden)
      bias = x W + b,  or the learned constant where either particle is hidden

  Pointwise in the pairs: no number of one pair enters another. g is GELU in its tanh form, or ReLU;
  without scales s_l there is no norm, x_l = g(r).

  The gradient with respect to p4, where it is asked for, is XLA's whatever the implementation: it
  evaluates the MLP again, a few events at a time. A training step, which does not ask, has none.

  Args:
    p4: (B, N, 4) in GeV. Hidden and padded slots are ignored, whatever they hold.
    weights: the MLP; F must be the number of features of the kind.
    mask: (B, N) bool, particles first, padding last. The bias of a padded pair is finite and has
      no meaning: an implementation may skip it.
    hidden: (B, N) bool, or None when nothing is hidden.
    kind: one of `PAIR_KINDS`.
    activation: 'gelu' or 'relu'.
    dtype: of the products and the result; None takes that of p4 and the weights together.
    implementation: None takes what suits the platform that the program is lowered for: the kernel
      where it can do the call and there are more than `FEW_PARTICLES`, on a CPU 'xla_chunked',
      elsewhere 'xla', the reference; a name of `IMPLEMENTATIONS` asks for one.

  Returns: (B, H, N, N); symmetric for all kinds but 'lorentz_part'.
  Raises: ValueError for an unknown kind, activation or implementation, or shapes that do not fit;
    NotImplementedError if the implementation that was asked for cannot do the call.
  """
  check_kind(kind)
  check_activation(activation)
  p4 = jnp.asarray(p4)
  features = len(PAIR_KINDS[kind].mean)
  if p4.ndim != 3 or p4.shape[-1] != 4:
    raise ValueError(f"p4 has shape {p4.shape}, expected (B, N, 4)")
  if weights.kernels[0].shape[0] != features:
    raise ValueError(
      f"the first kernel has shape {weights.kernels[0].shape}, but kind '{kind}' has {features} "
      "pair features"
    )
  if len(weights.scales) not in (0, len(weights.kernels) - 1):
    raise ValueError(
      f"{len(weights.scales)} scales for {len(weights.kernels) - 1} hidden layers: give one for "
      "each, or none"
    )
  for name, flags in (("mask", mask), ("hidden", hidden)):
    if flags is not None and flags.shape != p4.shape[:2]:
      raise ValueError(f"{name} has shape {flags.shape}, expected {p4.shape[:2]}")
  dtype = jnp.result_type(p4, weights.kernels[0]) if dtype is None else jnp.dtype(dtype)
  visible = jnp.ones(p4.shape[:2], bool) if mask is None else mask
  if hidden is not None:
    visible = visible & ~hidden
  p4 = jnp.where(visible[..., None], p4, 0)
  options = Options(kind, dtype, activation)
  widest = max(kernel.shape[1] for kernel in weights.kernels)
  call = {"particles": p4.shape[1], "dtypes": (dtype,), "width": widest}
  plain = IMPLEMENTATIONS["xla"]
  chosen = None
  if implementation is not None:
    chosen = by_name("pair_bias", implementation, IMPLEMENTATIONS, **call)
  if chosen is plain or not p4.size:
    return plain(p4, weights, mask, hidden, **options._asdict())
  if chosen is not None:
    bias = chosen(jax.lax.stop_gradient(p4), weights, mask, hidden, **options._asdict())
  else:
    kernels = {**KERNELS, **ON_CPU} if p4.shape[1] > FEW_PARTICLES else ON_CPU
    bias = by_platform(
      plain,
      kernels,
      jax.lax.stop_gradient(p4),
      weights,
      mask,
      hidden,
      call=call,
      options=options._asdict(),
    )
  return with_gradient_of_momenta(bias, p4, weights, mask, hidden, options)
