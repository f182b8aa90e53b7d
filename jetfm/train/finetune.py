"""Which parameters a stage trains, and how fast: ordered (path regex, group) rules."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import jax

from jetfm.typing import PyTree

FROZEN = "frozen"
TRAINED = "trained"
STRATEGIES = ("full", "frozen", "partial", "differential", "class_attention")

BEFORE_BLOCKS = ("equi_in", "embed", "mask_token", "rank_code", "pair_bias")
AFTER_BLOCKS = ("norm", "pool_weights", "vector_weights", "projection", "equi_out", r"class_\w+")
"""Names in `encoder/` that come before and after the blocks, for strategies that depend on it."""


class UncoveredParameter(ValueError):
  """A parameter that no rule of a strategy covers."""


@dataclasses.dataclass(frozen=True)
class Strategy:
  """Ordered rules, the first that matches decides, and the learning-rate factor of each group.

  Attributes:
    rules: (regex, group); the regex must match from the start of a path such as
      'encoder/block_3/qkv/kernel'. The group 'frozen' is not trained.
    rates: learning-rate factor of every other group.
  """

  rules: tuple[tuple[str, str], ...]
  rates: Mapping[str, float]

  def __post_init__(self):
    missing = {group for _, group in self.rules} - {FROZEN} - set(self.rates)
    if missing:
      raise ValueError(f"strategy: groups {sorted(missing)} have no learning-rate factor")


def make_strategy(
  name: str,
  num_blocks: int,
  last_blocks: int = 1,
  rate_decay: float = 0.75,
  before: Sequence[str] = BEFORE_BLOCKS,
  after: Sequence[str] = AFTER_BLOCKS,
) -> Strategy:
  """One of `STRATEGIES` for an encoder of `encoder/block_0 .. block_<num_blocks - 1>`.

  full: everything.
  frozen: the heads.
  partial: the last `last_blocks` blocks, what follows them in the encoder, and the heads.
  differential: everything; the last block's learning rate is multiplied by `rate_decay`, that of
    each block before it once more, and what comes before the first block counts as one.
  class_attention: the encoder's class-attention blocks, where it has them, and the heads.

  Args:
    before, after: names in `encoder/` that come before the first and after the last block.
  Raises: ValueError for an unknown name or more blocks than there are.
  """
  embedding, following = (rf"encoder/({'|'.join(names)})(/|$)" for names in (before, after))
  block = r"encoder/block_{}/".format
  heads, encoder = "heads/", "encoder/"
  match name:
    case "full":
      return Strategy(((encoder, TRAINED), (heads, TRAINED)), {TRAINED: 1.0})
    case "frozen":
      return Strategy(((encoder, FROZEN), (heads, TRAINED)), {TRAINED: 1.0})
    case "class_attention":
      class_blocks = (r"encoder/class_", TRAINED)
      return Strategy((class_blocks, (encoder, FROZEN), (heads, TRAINED)), {TRAINED: 1.0})
    case "partial":
      if not 0 <= last_blocks <= num_blocks:
        raise ValueError(f"partial: cannot train the last {last_blocks} of {num_blocks} blocks")
      first = num_blocks - last_blocks
      rules = [(block(i), FROZEN if i < first else TRAINED) for i in range(num_blocks)]
      rules += [(embedding, FROZEN), (following, TRAINED), (heads, TRAINED)]
      return Strategy(tuple(rules), {TRAINED: 1.0})
    case "differential":
      if not 0 < rate_decay <= 1:
        raise ValueError(f"differential: rate_decay is {rate_decay}, expected within (0, 1]")
      rules = [(block(i), f"block_{i}") for i in range(num_blocks)]
      rules += [(embedding, "before"), (following, "after"), (heads, "heads")]
      rates = {f"block_{i}": rate_decay ** (num_blocks - i) for i in range(num_blocks)}
      rates |= {"before": rate_decay ** (num_blocks + 1), "after": 1.0, "heads": 1.0}
      return Strategy(tuple(rules), rates)
    case _:
      raise ValueError(f"no strategy '{name}'; there are {', '.join(STRATEGIES)}")


def path_name(path: tuple) -> str:
  """A key path of jax.tree_util -> 'encoder/block_0/kernel'."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def label(params: PyTree, strategy: Strategy) -> PyTree:
  """The group of every parameter, in the tree's own shape.

  Raises: UncoveredParameter that names the parameters that no rule matches.
  """
  compiled = [(re.compile(regex), group) for regex, group in strategy.rules]
  uncovered: list[str] = []

  def group_of(path, _) -> str:
    name = path_name(path)
    for regex, group in compiled:
      if regex.match(name):
        return group
    uncovered.append(name)
    return FROZEN

  labels = jax.tree_util.tree_map_with_path(group_of, params)
  if uncovered:
    shown = ", ".join(uncovered[:5]) + (", ..." if len(uncovered) > 5 else "")
    raise UncoveredParameter(
      f"no rule of the strategy covers {len(uncovered)} parameters: {shown}. Add a rule for them, "
      f"as ('{uncovered[0]}', '{FROZEN}') or with a trained group; rules now: "
      f"{[regex for regex, _ in strategy.rules]}"
    )
  return labels


def trainable(params: PyTree, labels: PyTree) -> PyTree:
  """The trained parameters; None, which JAX takes for an empty branch, where frozen."""
  return jax.tree.map(lambda p, group: None if group == FROZEN else p, params, labels)


def frozen(params: PyTree, labels: PyTree) -> PyTree:
  """The complement of `trainable`."""
  return jax.tree.map(lambda p, group: p if group == FROZEN else None, params, labels)


def merge(trained: PyTree, rest: PyTree) -> PyTree:
  """`trainable` and `frozen` put together again."""
  return jax.tree.map(
    lambda a, b: b if a is None else a, trained, rest, is_leaf=lambda x: x is None
  )


def trained_labels(labels: PyTree) -> PyTree:
  """The groups of the trained parameters, None where frozen."""
  return trainable(labels, labels)
