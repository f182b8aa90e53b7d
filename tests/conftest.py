"""Fixtures of the whole suite."""

import gc
import os

# Most of the suite's time is compilation. Read when JAX starts, here and in subprocesses. The newer
# emitters of fused loops take three to four times as long for a gradient as the older ones, and a
# program in several parts costs more in all, where every core has a worker of its own.
os.environ.setdefault(
  "XLA_FLAGS",
  "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
  " --xla_cpu_parallel_codegen_split_count=1"
  " --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
)

import jax
import pytest

# Traces are many small objects that live on: a collector that looks through all of them as often as
# it usually does costs more, the longer a worker runs.
gc.set_threshold(200_000, 20, 50)


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
  """Environment of processes that start alike: all of a session compile the same program once."""
  folder = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    folder = folder.parent  # of all workers
  return {
    "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }


@pytest.fixture(scope="session", autouse=True)
def compiled_once(programs):
  """Tests often build the same small model: of all workers, one compiles it."""
  jax.config.update("jax_compilation_cache_dir", programs["JAX_COMPILATION_CACHE_DIR"])
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture
def x64():
  """Double precision inside one test: laws are checked below 1e-10."""
  with jax.enable_x64(True):
    yield
