"""init_from: what moves, what does not, and which mismatches are errors."""

import copy
import dataclasses

import numpy as np
import pytest

from jetfm.data.jet_schema import jet_schema
from jetfm.train import (
  Rules,
  TransferError,
  check_same_encoder,
  check_same_heads,
  describe_model,
  transfer,
)
from tests.jpsi import event_schema


def variables(head="masked", width=4, seed=0, blocks=2):
  rng = np.random.default_rng(seed)
  block = lambda: {"kernel": rng.normal(size=(width, width)).astype(np.float32)}  # noqa: E731
  return {
    "params": {
      "encoder": {f"block_{i}": block() for i in range(blocks)},
      "heads": {head: {"output": block()}},
    },
    "constants": {"encoder": {"standardise": {"mean": rng.normal(size=3)}}, "heads": {head: {}}},
  }


def test_encoder_and_its_constants_move_and_heads_start_fresh():
  source, target = variables("masked", seed=1), variables("classify", seed=2)
  new, report = transfer(source, target)
  for collection in ("params", "constants"):
    np.testing.assert_equal(new[collection]["encoder"], source[collection]["encoder"])
    np.testing.assert_equal(new[collection]["heads"], target[collection]["heads"])
  assert "encoder/standardise/mean" in report.loaded
  assert report.left_out == ("heads/masked/output/kernel",)
  assert report.fresh == ("heads/classify/output/kernel",)
  for words in ("loaded 3 arrays", "encoder (3)", "heads/masked (1)", "heads/classify (1)"):
    assert words in str(report)


def test_first_rule_that_matches_decides_and_may_rename():
  source, target = variables("old", seed=1), variables("new", seed=2)
  rules = Rules(((r"heads/old/(.*)", r"heads/new/\1"), (r"heads/.*", ""), (r"(.*)", r"\1")), ())
  new, report = transfer(source, target, rules)
  np.testing.assert_equal(new["params"]["heads"]["new"], source["params"]["heads"]["old"])
  assert report.heads == {"new": "old"}
  assert not report.fresh
  assert not report.left_out


def test_blocks_can_be_left_fresh_on_purpose():
  source, target = variables(blocks=1), variables(blocks=2, seed=3)
  new, report = transfer(source, target, Rules(fresh=("heads/.*", "encoder/block_1/.*")))
  assert "encoder/block_1/kernel" in report.fresh
  np.testing.assert_equal(
    new["params"]["encoder"]["block_1"], target["params"]["encoder"]["block_1"]
  )


@pytest.mark.parametrize(
  ("source", "target", "rules", "words"),
  [
    (variables(width=4), variables(width=5), Rules(), ("block_0", r"\(4, 4\)", r"\(5, 5\)")),
    (variables(blocks=3), variables(), Rules(), ("block_2", "this model has no")),
    (variables(), variables(blocks=3), Rules(), ("block_2", "nothing fills it")),
    (variables(), variables(), Rules((("(encoder/.*)", r"\1"),)), ("heads/masked", "no rule")),
    (
      variables(),
      variables(),
      Rules(((r"encoder/block_\d/kernel", "encoder/block_0/kernel"), (".*", "")), (".*",)),
      ("block_1", "filled already"),
    ),
  ],
  ids=["shape", "missing target", "unfilled target", "no rule", "twice"],
)
def test_unexcused_mismatch_is_an_error_that_names_it(source, target, rules, words):
  with pytest.raises(TransferError) as error:
    transfer(source, target, rules)
  for word in words:
    assert error.match(word)


def described(inputs="kin", kind="lorentz_part", **options):
  encoder = {"kind": kind, "width": 8, "heads": 2, **options}
  return describe_model(jet_schema(inputs), encoder, {})


@pytest.mark.parametrize(
  ("option", "value"),
  [
    ("frame", "lab"),
    ("pair", "lorentz_part"),
    ("pair_activation", "relu"),
    ("momentum_scale", 1.0),
    ("references", ("beam", "time")),
  ],
)
def test_an_encoder_that_computes_something_else_is_an_error_unless_excused(option, value):
  """None of these changes a name or a shape."""
  source, target = described(), described(**{option: value})
  for one, other in ((source, target), (target, source)):
    with pytest.raises(TransferError, match=f"something else: {option}: "):
      check_same_encoder(one, other)
    check_same_encoder(one, other, Rules(differing=(option,)))


def test_input_features_are_compared_but_not_their_constants():
  with pytest.raises(TransferError, match="features: "):
    check_same_encoder(described("kin"), described("kin4"))
  events = describe_model(event_schema(), {"kind": "clear"}, {})
  others = copy.deepcopy(events)
  for feature in others["schema"]["features"]:
    if feature["mean"] is not None:
      feature["mean"] += 1
  assert others != events
  check_same_encoder(events, others)


def test_how_to_compute_may_differ_and_defaults_need_not_be_written():
  check_same_encoder(described(), described(dtype="bfloat16", remat=True, dropout=0.1))
  check_same_encoder(described(), described(frame="jet", pair="part"))
  with pytest.raises(TransferError, match='kind: "lorentz_part" there, "part" here'):
    check_same_encoder(described(), described(kind="part"))


def of_task(classes=("QCD", "Hbb", "Hcc"), **options):
  schema = dataclasses.replace(jet_schema("kin"), classes=classes)
  return describe_model(schema, {"kind": "part"}, {"tagger": options})


@pytest.mark.parametrize(
  ("options", "classes", "differing", "what"),
  [
    ({"kind": "classification"}, ("Hbb", "QCD", "Hcc"), {}, "classes"),
    ({"kind": "generation", "condition": "jet"}, ("Hbb", "QCD", "Hcc"), {}, "classes"),
    (
      {"kind": "regression", "targets": ("mass", "gen_mass")},
      ("QCD", "Hbb", "Hcc"),
      {"targets": ("gen_mass", "mass")},
      "targets",
    ),
  ],
)
def test_a_head_that_moves_must_stand_for_the_same(options, classes, differing, what):
  """Shapes are equal: only the order of what the rows stand for is another."""
  source, target = of_task(**options), of_task(classes, **options | differing)
  heads = {"tagger": "tagger"}
  check_same_heads(source, source, heads)
  check_same_heads(source, target, {})
  with pytest.raises(TransferError, match=f"'tagger' was trained for something else: {what}: "):
    check_same_heads(source, target, heads)
  check_same_heads(source, target, heads, Rules(differing=(what,)))


def test_heads_that_read_no_classes_may_move_between_data_sets():
  options = {"kind": "generation", "condition": "embedding"}
  check_same_heads(of_task(**options), of_task(("other",), **options), {"tagger": "tagger"})


def test_a_task_of_the_checkpoint_that_cannot_be_made_is_named():
  target = of_task(kind="classification")
  source = of_task(kind="classification", abandoned=1)
  with pytest.raises(TransferError, match=r"task 'tagger' of the checkpoint: .*abandoned"):
    check_same_heads(source, target, {"tagger": "tagger"})
