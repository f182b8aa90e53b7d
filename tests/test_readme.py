"""What the README shows must run."""

import pathlib
import re

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_python_examples_run():
  examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
  assert examples
  for code in examples:
    exec(compile(code, str(README), "exec"), {})


def test_files_and_modules_that_it_names_exist():
  text, root = README.read_text(), README.parent
  names = [f"{m.replace('.', '/')}.py" for m in re.findall(r"python -m ([\w.]+)", text)]
  names += re.findall(r"\]\(([\w./]+)\)", text) + re.findall(r"\./(launch/\w+)", text)
  names += re.findall(r"--config=(configs/\w+\.py)", text)
  assert names
  missing = [name for name in names if not (root / name).exists()]
  assert not missing
