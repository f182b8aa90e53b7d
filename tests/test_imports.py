"""The house rules on who may import whom, read from the source and never by importing it."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FREE = {"names", "typing", "schema", "lorentz", "decay_chains"}
ALLOWED = {
  "names": set(),
  "typing": set(),
  "lorentz": {"names"},
  "progress": set(),
  "locks": set(),
  "decay_chains": set(),
  "schema": {"names", "typing", "lorentz"},
  "batches": {"typing", "schema"},
  "kernels": FREE,
  "nn": FREE | {"kernels"},
  "objectives": FREE | {"kernels"},
  "models": FREE | {"kernels", "nn"},
  "evals": FREE,
  "tasks": FREE | {"kernels", "nn", "objectives", "models", "evals"},
  "train": FREE | {"progress", "kernels", "nn", "objectives", "models", "tasks"},
  "inference": FREE | {"batches", "kernels", "nn", "models", "tasks", "train"},
  "data": FREE | {"locks"},
  "generate": FREE | {"locks"},
}
CORE = {"jax", "jaxlib", "flax", "numpy"}
LIGHT = ("names", "lorentz", "kernels", "nn", "models", "schema", "typing", "batches")


def part_of(path: pathlib.Path) -> str:
  """jetfm/lorentz/algebra.py -> lorentz; jetfm/schema.py -> schema."""
  return path.relative_to(ROOT / "jetfm").parts[0].removesuffix(".py")


def imported(path: pathlib.Path, top_level_only: bool = False) -> list[str]:
  """Dotted names that a file imports; `from a import b` counts as a.b."""
  tree = ast.parse(path.read_text(), str(path))
  nodes = tree.body if top_level_only else list(ast.walk(tree))
  names: list[str] = []
  for node in nodes:
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import"
      names += [f"{node.module}.{alias.name}" for alias in node.names]
  return names


MODULES = sorted((ROOT / "jetfm").rglob("*.py"))


def modules_inside(*parts: str) -> list[pathlib.Path]:
  return [p for p in MODULES if part_of(p) in parts]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
  part = part_of(path)
  if part == "__init__":
    return
  assert part in ALLOWED, f"{path}: add '{part}' to the house and to this table"
  for name in imported(path):
    if name.split(".")[0] in ("launch", "configs", "tests", "benchmarks"):
      raise AssertionError(f"{path} imports {name}: the library knows nothing of its users")
    if name.startswith("jetfm."):
      target = name.split(".")[1]
      assert target == part or target in ALLOWED[part], f"{path} must not import {name}"


@pytest.mark.parametrize("path", modules_inside(*LIGHT), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_needs_only_jax_flax_numpy(path):
  for name in imported(path, top_level_only=True):
    top = name.split(".")[0]
    assert top in CORE | {"jetfm"} | set(sys.stdlib_module_names), f"{path} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.name)
def test_configs_import_only_ml_collections(path):
  assert {name.split(".")[0] for name in imported(path)} <= {"ml_collections", "__future__"}


def test_only_launch_imports_generate():
  for path in MODULES:
    if part_of(path) != "generate":
      assert not [n for n in imported(path) if n.startswith("jetfm.generate")], path


def test_import_jetfm_loads_nothing_heavy():
  """The law of the table above, observed: no optional package is loaded by `import jetfm`."""
  code = (
    "import sys, jetfm, jetfm.schema, jetfm.lorentz, jetfm.nn, jetfm.models\n"
    "heavy = {'grain', 'uproot', 'awkward', 'pythia8mc', 'fastjet', 'matplotlib', 'sklearn',"
    " 'tensorflow', 'ml_collections', 'clu', 'orbax', 'optax'}\n"
    "print(sorted(heavy & set(sys.modules)))"
  )
  result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
  assert result.returncode == 0, result.stderr
  assert result.stdout.strip() == "[]"
