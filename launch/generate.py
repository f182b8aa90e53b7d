"""Makes jets with Pythia and a fast detector simulation, as ROOT files in the JetClass layout.

  python -m launch.generate --config.out=datasets/root
  python -m launch.generate --config=configs/generate.py:tiny --config.out=/tmp/jets
  python -m launch.generate --config.classes=Hbb,QCD --config.jets_per_class=1000 \\
      --config.processes=2 --config.out=/tmp/jets

Files are named as the published ones (HToBB_000.root, ...). A file appears under its name only when
it is complete: after Ctrl-C, a kill or a full disk, the same command goes on where it stopped.
The next step is: python -m launch.ingest --help
"""

from __future__ import annotations

import difflib
import os
import pathlib
import signal
from typing import Any, NoReturn

from launch import cli


def main(config: Any) -> None:
  """Reads the config, makes the files, prints where they are."""
  from jetfm.generate import OutputError, make_files, plan_files
  from jetfm.progress import Progress

  out = pathlib.Path(config.out).expanduser()
  classes = checked_classes(config.classes)
  files = plan_files(
    out,
    classes,
    _at_least(config, "jets_per_class", 1),
    _at_least(config, "jets_per_file", 1),
    _at_least(config, "seed", 0),
  )
  processes = _at_least(config, "processes", 0) or len(os.sched_getaffinity(0))
  config.all_read()

  # Batch systems end jobs with SIGTERM: stop as cleanly as after Ctrl-C.
  signal.signal(signal.SIGTERM, _interrupt)
  progress = Progress("generate", "jets")
  try:
    made = make_files(files, processes, progress.update)
  except ModuleNotFoundError as error:
    raise cli.UserError(
      f"package '{error.name}' is missing: pip install 'jetfm[generate]'"
    ) from None
  except OutputError as error:
    raise cli.UserError(str(error)) from None
  except OSError as error:
    raise cli.UserError(f"cannot write to '{out}': {error.strerror or error}") from None
  finally:
    progress.close()
  kept = f" ({len(files) - len(made)} were there already)" if len(made) < len(files) else ""
  count = "1 file" if len(files) == 1 else f"{len(files)} files"
  print(f"{sum(file.jets for file in files):,} jets in {count}{kept}: {out}")


def checked_classes(names: Any) -> list[str]:
  """Class names, each once.

  Raises: cli.UserError for an unknown name, with the nearest known one.
  """
  from jetfm.generate import CLASS_NAMES

  if not names:
    raise cli.UserError(f"--config.classes is empty; there are {', '.join(CLASS_NAMES)}")
  for name in names:
    if name not in CLASS_NAMES:
      folded = {known.lower(): known for known in CLASS_NAMES}
      near = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0)[0]
      raise cli.UserError(
        f"no class '{name}'; the nearest is '{folded[near]}' (there are {', '.join(CLASS_NAMES)})"
      )
  return list(dict.fromkeys(names))


def _at_least(config: Any, key: str, least: int) -> int:
  value = getattr(config, key)
  if value < least:
    raise cli.UserError(f"--config.{key}={value}: must be at least {least}")
  return value


def _interrupt(*_: Any) -> NoReturn:
  raise KeyboardInterrupt


if __name__ == "__main__":
  cli.run(main, default_config="configs/generate.py")
