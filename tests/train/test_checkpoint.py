"""Checkpoints: what was saved comes back bit for bit, or a clear error does."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jetfm.train import CheckpointError, Checkpoints, DamagedCheckpoint, load, make_train_step
from jetfm.train.checkpoint import differences
from tests.train import toy

MODEL = {"model": {"encoder": {"width": 8, "depth": 3}, "heads": {"regress": {}}}, "schema": "toy"}
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained():
  """A state after two steps, so that no part of it is trivial."""
  model, tasks, optimizer, labels, state = toy.setup(strategy="partial")
  step = make_train_step(model, tasks, optimizer, labels)
  for i in range(2):
    state, _ = step(state, toy.groups(i))
  return state


def at(state, step):
  return state.replace(step=jnp.asarray(step, jnp.int32))


def raw(tree):
  """Typed random keys as numbers, which can be compared."""
  return [
    np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
    for x in jax.tree.leaves(tree)
  ]


def assert_same_bits(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(raw(a), raw(b), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def fresh():
  return toy.setup(strategy="partial", seed=5)[-1]


@pytest.mark.parametrize(
  ("number", "words"),
  [
    (1, "its heads learned .* pair features of parallel"),
    (2, "3: the pair features of parallel"),
    (99, "it is newer than this one"),
  ],
)
def test_a_checkpoint_that_means_something_else_now(trained, tmp_path, monkeypatch, number, words):
  """It is not gone on with; it can be read, with a warning that says what it lacks."""
  with monkeypatch.context() as patch:
    patch.setattr("jetfm.train.checkpoint.folder.FORMAT", number)
    Checkpoints(tmp_path, MODEL).save(trained, {})
  with pytest.raises(CheckpointError, match=rf"format {number} and not .* another --workdir"):
    Checkpoints(tmp_path, MODEL).restore(fresh())
  with pytest.warns(UserWarning, match=words):
    assert_same_bits(load(tmp_path).variables["params"], jax.device_get(trained.params))


def flip(path: pathlib.Path, position: int | None = None) -> None:
  content = bytearray(path.read_bytes())
  content[len(content) // 2 if position is None else position] ^= 0x01
  path.write_bytes(content)


def largest_file(folder: pathlib.Path) -> pathlib.Path:
  return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_state_comes_back_bit_for_bit(trained, tmp_path):
  Checkpoints(tmp_path / "last", MODEL).save(trained, {"early": {"best": 0.25}})
  state, progress = Checkpoints(tmp_path / "last", MODEL).restore(fresh())
  assert_same_bits(state, trained)
  assert progress == {"early": {"best": 0.25}, "step": 2}


def test_no_checkpoint_is_none(tmp_path):
  assert Checkpoints(tmp_path / "last", MODEL).restore(fresh()) is None


def test_only_the_newest_are_kept(trained, tmp_path):
  checkpoints = Checkpoints(tmp_path / "last", MODEL, keep=2)
  for step in (5, 10, 15):
    checkpoints.save(at(trained, step), {})
  assert checkpoints.steps() == [10, 15]


def test_saving_again_replaces_what_an_abandoned_run_left(trained, tmp_path):
  checkpoints = Checkpoints(tmp_path / "best", MODEL, keep=1)
  checkpoints.save(at(trained, 20), {"run": 1})
  checkpoints.save(at(trained, 15), {"run": 2})
  assert checkpoints.steps() == [15]
  checkpoints.save(at(trained, 15), {"run": 3})
  assert load(tmp_path / "best").progress == {"run": 3, "step": 15}


def test_load_needs_nothing_but_the_folder(trained, tmp_path):
  Checkpoints(tmp_path / "best", MODEL, optimizer=False).save(trained, {"results": {"loss": 1.0}})
  for folder in (tmp_path / "best", tmp_path / "best" / "2"):
    loaded = load(folder)
    assert loaded.description == MODEL
    assert loaded.progress["results"] == {"loss": 1.0}
    assert_same_bits(loaded.variables, jax.device_get(trained.variables))


def test_load_from_an_empty_folder_is_an_error(tmp_path):
  with pytest.raises(CheckpointError, match="no checkpoint"):
    load(tmp_path)


def test_checkpoint_of_another_architecture_is_an_error(trained, tmp_path):
  Checkpoints(tmp_path / "last", MODEL).save(trained, {})
  other = {**MODEL, "model": {"encoder": {"width": 16, "depth": 3}, "heads": {"regress": {}}}}
  with pytest.raises(CheckpointError, match=r"encoder\.width: 8 there, 16 here"):
    Checkpoints(tmp_path / "last", other).restore(fresh())


def test_checkpoint_of_another_strategy_is_an_error(trained, tmp_path):
  Checkpoints(tmp_path / "last", MODEL).save(trained, {})
  with pytest.raises(CheckpointError, match="encoder/block_0"):
    Checkpoints(tmp_path / "last", MODEL).restore(toy.setup(strategy="full")[-1])


@pytest.mark.parametrize("item", ["variables", "optimizer", "description"])
def test_flipped_byte_means_the_checkpoint_before_with_a_warning(trained, tmp_path, item):
  checkpoints = Checkpoints(tmp_path / "last", MODEL)
  checkpoints.save(trained, {"n": 1})
  checkpoints.save(at(trained, 4), {"n": 2})
  flip(largest_file(tmp_path / "last" / "4" / item))
  with pytest.warns(UserWarning, match="last/4"):
    state, progress = checkpoints.restore(fresh())
  assert progress == {"n": 1, "step": 2}
  assert_same_bits(state, trained)
  checkpoints.save(at(trained, 4), {"n": 3})  # the run passes that step again
  assert checkpoints.steps() == [2, 4]


def test_all_damaged_is_an_error(trained, tmp_path):
  checkpoints = Checkpoints(tmp_path / "last", MODEL)
  checkpoints.save(trained, {})
  flip(largest_file(tmp_path / "last" / "2" / "variables"))
  with pytest.warns(UserWarning), pytest.raises(CheckpointError, match="every checkpoint"):
    checkpoints.restore(fresh())


def test_load_refuses_a_damaged_checkpoint(trained, tmp_path):
  Checkpoints(tmp_path / "best", MODEL, optimizer=False).save(trained, {})
  flip(largest_file(tmp_path / "best" / "2" / "variables"))
  with pytest.raises(DamagedCheckpoint):
    load(tmp_path / "best")


def test_digest_catches_what_orbax_does_not(trained, tmp_path):
  """The description alone is edited: arrays are readable, but not the ones that it tells of."""
  Checkpoints(tmp_path / "best", MODEL, optimizer=False).save(trained, {})
  path = tmp_path / "best" / "2" / "description" / "metadata"
  document = json.loads(path.read_text())
  document["description"]["model"]["encoder"]["depth"] = 4
  path.write_text(json.dumps(document))
  with pytest.raises(DamagedCheckpoint, match="description"):
    load(tmp_path / "best")


@pytest.mark.parametrize("step", [4, 2, 1], ids=["later", "same", "earlier"])
def test_full_disk_is_a_clear_error_and_leaves_the_older_checkpoint(trained, tmp_path, step):
  """A limit on the size of files stands for the full disk: the system refuses to write."""
  checkpoints = Checkpoints(tmp_path / "last", MODEL)
  checkpoints.save(trained, {"n": 1})
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    words = rf"step {step} .* the checkpoint of step 2 is intact"
    with pytest.raises(CheckpointError, match=words):
      checkpoints.save(at(trained, step), {"n": 2})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)
  state, _ = Checkpoints(tmp_path / "last", MODEL).restore(fresh())
  assert_same_bits(state, trained)
  assert [p.name for p in (tmp_path / "last").iterdir()] == ["2"]  # nothing takes up space


@pytest.mark.parametrize("step", [2, 1], ids=["same", "earlier"])
def test_ended_while_replacing_a_checkpoint_it_is_still_there(trained, tmp_path, monkeypatch, step):
  checkpoints = Checkpoints(tmp_path / "best", MODEL, keep=1)
  checkpoints.save(trained, {"n": 1})

  def ended(*_, **__):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr("orbax.checkpoint.JsonCheckpointHandler.async_save", ended)
    checkpoints.save(at(trained, step), {"n": 2})
  checkpoints = Checkpoints(tmp_path / "best", MODEL, keep=1)
  assert checkpoints.steps() == [2]
  assert load(tmp_path / "best").progress["n"] == 1
  checkpoints.save(at(trained, step), {"n": 3})
  assert [p.name for p in (tmp_path / "best").iterdir()] == [str(step)]


ON_A_FULL_DISK = """
import os, pathlib, sys
import pytest
from jetfm.train import CannotSave, Checkpoints
from jetfm.train.writers import MetricsFile
from tests.train.test_checkpoint import MODEL, assert_same_bits, at, fresh
folder = pathlib.Path(sys.argv[1])
state = fresh()
checkpoints = Checkpoints(folder / "last", MODEL)
checkpoints.save(at(state, 2), {})
metrics = MetricsFile(folder / "metrics.jsonl")
space = os.statvfs(folder)
(folder / "filler").write_bytes(bytes(space.f_bavail * space.f_bsize))
with pytest.raises(CannotSave, match="step 4 .* the checkpoint of step 2 is intact"):
  checkpoints.save(at(state, 4), {})
with pytest.raises(CannotSave, match="metrics.jsonl: No space left"):
  for step in range(1000):
    metrics.write(step, "train", {"loss": 1.0})
metrics.close()
assert checkpoints.steps() == [2]
assert_same_bits(checkpoints.restore(fresh())[0], at(state, 2))
(folder / "filler").unlink()
checkpoints.save(at(state, 4), {})
assert checkpoints.steps() == [2, 4]
"""


def test_no_space_left(tmp_path):
  """A disk of half a megabyte, in a name space of its own: no privileges are needed."""
  disk = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
  mount = 'mount -t tmpfs -o size=512k tmpfs "$0"'
  try:
    possible = subprocess.run([*disk, mount, str(tmp_path)], capture_output=True).returncode == 0
  except FileNotFoundError:
    possible = False
  if not possible:
    pytest.skip("this system lets nobody mount in a name space")
  result = subprocess.run(
    [*disk, f'{mount} && exec "$@"', str(tmp_path), sys.executable, "-c", ON_A_FULL_DISK, tmp_path],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )
  assert result.returncode == 0, result.stderr


KILLED_WHILE_SAVING = """
import os, signal, sys
from orbax.checkpoint import CheckpointManager, args
from jetfm.train import Checkpoints
from tests.train import toy
from tests.train.test_checkpoint import MODEL, at
state = toy.setup(strategy="partial")[-1]
checkpoints = Checkpoints(sys.argv[1], MODEL)
checkpoints.save(at(state, 2), {})
rename = os.rename, os.replace
import orbax.checkpoint as ocp
handler = ocp.JsonCheckpointHandler
async def die(self, *a, **k):
  os.kill(os.getpid(), signal.SIGKILL)
def die_now(self, *a, **k):
  os.kill(os.getpid(), signal.SIGKILL)
handler.async_save = die
handler.save = die_now
checkpoints.save(at(state, 4), {})
"""


def test_kill_while_saving_leaves_the_older_checkpoint(tmp_path):
  result = subprocess.run(
    [sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path / "last")],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )
  assert result.returncode == -signal.SIGKILL, result.stderr
  assert len(list((tmp_path / "last").iterdir())) > 1  # it had begun to write
  checkpoints = Checkpoints(tmp_path / "last", MODEL)
  assert checkpoints.steps() == [2]
  _, progress = checkpoints.restore(fresh())
  assert progress["step"] == 2
  assert load(tmp_path / "last").step == 2


def test_differences_name_the_key():
  there = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
  here = {"a": {"b": 2, "c": [1, 2]}, "e": 4}
  assert differences(there, here) == ["a.b: 1 there, 2 here", "d: 3 there, null here",
                                      "e: null there, 4 here"]  # fmt: skip
  assert differences(there, there) == []
