"""One embedding for each detector group of an object, also where the group measured nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jetfm.nn.initializers import normal
from jetfm.nn.linear import Dense
from jetfm.nn.mlp import MLP
from jetfm.nn.norms import LayerNorm
from jetfm.schema import Schema

COMBINATIONS = ("concatenate", "sum")
TOKEN_SCALE = 4.0
"""Standard deviation of a new token's numbers.

Every block adds two terms of order one to a token. Without a norm here a token began at 0.3, and
what an object itself measured was lost among them: of the variance of the shower's y a linear
readout of two untrained blocks explained 18 %, now 66 %; of a hidden py, 4 % and 40 %. Training
spent its first thousand steps on finding directions again, one axis after the other.
"""


class GroupEmbed(nn.Module):
  """Standardised features -> one token for each object, from all of its detector groups.

      e_g = MLP_g(x_g) + W_g x_g     where g measured x_g of the object,
            missing_g                where it did not,
            hidden_g                 where its measurement is hidden;
      token = s LN(W [e_1 | e_2 | ...] + b)     (combine 'concatenate'),
              s LN(sum_g e_g)                   ('sum'),           s = `TOKEN_SCALE`

  Columns of categories are -1 and 1 in x_g, as large as the standardised ones beside them, and with
  W_g the token begins as a linear code of all columns: a charge is not lost among momenta.

  There is no norm before the networks: over the one or two columns of a small group it would leave
  nothing but a sign. What is stored for a missing or a hidden measurement changes no bit of the
  token, and gets a gradient of exactly 0.

  Shapes: columns (B, N, schema.width) of `StandardiseInputs`, measured and hidden (B, N, G) ->
  (B, N, widths[-1]).
  Raises: ValueError for another way to combine.

  Attributes:
    widths: of each group's network, the last is that of its embedding and of the token.
  """

  schema: Schema
  widths: Sequence[int]
  combine: str = "concatenate"
  dtype: Any = None

  @nn.compact
  def __call__(self, columns: jax.Array, measured: jax.Array, hidden: jax.Array) -> jax.Array:
    if self.combine not in COMBINATIONS:
      raise ValueError(f"combine is '{self.combine}', expected one of {COMBINATIONS}")
    width, embedded = self.widths[-1], []
    for index, group in enumerate(self.schema.groups):
      here = measured[..., index, None] & ~hidden[..., index, None]
      # Zero before the network, as 0 times NaN is NaN in a gradient.
      own = jnp.where(here, columns[..., group_columns(self.schema, group)], 0)
      own = jnp.where(categories(self.schema, group), 2 * own - 1, own)
      linear = Dense(width, use_bias=False, dtype=self.dtype, name=f"linear_{group}")(own)
      own = MLP(self.widths, dtype=self.dtype, name=f"group_{group}")(own) + linear
      learned = [
        self.param(f"{name}_{group}", normal(0.02), (width,)).astype(own.dtype)
        for name in ("missing", "mask_token")
      ]
      absent = jnp.where(hidden[..., index, None], learned[1], learned[0])
      embedded.append(jnp.where(here, own, absent))
    if self.combine == "sum":
      token = sum(embedded[1:], embedded[0])
    else:
      joined = jnp.concatenate(embedded, axis=-1)
      token = Dense(width, dtype=self.dtype, name="combine")(joined)
    return TOKEN_SCALE * LayerNorm(dtype=self.dtype, name="norm")(token)


def categories(schema: Schema, group: str) -> np.ndarray:
  """Which of a group's columns stand for a category, (columns,) bool."""
  own = [f for f in schema.features if f.group == group]
  return np.concatenate([np.full(f.width, f.width > 1) for f in own])


def group_columns(schema: Schema, group: str) -> np.ndarray:
  """Which columns of the standardised inputs belong to a detector group."""
  ends = np.cumsum([f.width for f in schema.features])
  own = [
    np.arange(end - f.width, end)
    for f, end in zip(schema.features, ends, strict=True)
    if f.group == group
  ]
  return np.concatenate(own)
