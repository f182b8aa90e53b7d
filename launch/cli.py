"""How every launcher reads its command line: one config file, overrides, one-line errors."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pathlib
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from jetfm.names import nearest

EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT


class UserError(Exception):
  """A mistake that the user can mend: printed as one line, exit status 2."""


class TrackedConfig:
  """A view of a config that remembers which keys were read.

  A key that nothing reads is a typo or a misunderstanding. A launcher reads all it needs, calls
  `all_read()`, and only then starts to work.
  """

  def __init__(self, config: ConfigDict, prefix: str = ""):
    self._config, self._prefix = config, prefix
    self._seen: set[str] = set()
    self._children: dict[str, TrackedConfig] = {}

  def __getattr__(self, key: str) -> Any:
    if key.startswith("_"):
      raise AttributeError(key)
    if key not in self._config:
      raise UserError(_unknown_key(f"{self._prefix}{key}", _flat_keys(self._config, self._prefix)))
    self._seen.add(key)
    value = self._config[key]
    if isinstance(value, ConfigDict):
      return self._children.setdefault(key, TrackedConfig(value, f"{self._prefix}{key}."))
    return value

  def to_dict(self) -> dict[str, Any]:
    """Everything, as plain dictionaries: counts as read."""
    self._seen.update(self._config.keys())
    for key, value in self._config.items():
      if isinstance(value, ConfigDict):
        getattr(self, key).to_dict()
    return self._config.to_dict()

  def names(self) -> list[str]:
    """The keys of this level; they do not count as read."""
    return list(self._config)

  def all_read(self) -> None:
    """Raises: UserError that names the keys that nothing has read."""
    if unread := self.unread():
      raise UserError(f"config keys that nothing reads: {', '.join(unread)}")

  def unread(self) -> list[str]:
    """Dotted names of the keys that nothing has read."""
    own = [f"{self._prefix}{key}" for key in self._config if key not in self._seen]
    return own + [name for child in self._children.values() for name in child.unread()]


def run(
  main: Callable[[Any], int | None],
  default_config: str,
  argv: Sequence[str] | None = None,
  doc: str | None = None,
) -> NoReturn:
  """Reads the command line, calls `main(config)`, and exits with its status.

  Status 0 on success, 2 after a mistake of the user's (one line on stderr), 130 after Ctrl-C, which
  ends a process that is given no argv at once.
  """
  own_process = argv is None
  argv = list(sys.argv if argv is None else argv)
  doc = doc if doc is not None else sys.modules[main.__module__].__doc__

  def configured() -> int | None:
    if {"-h", "-?", "--help", "--helpfull"} & set(argv[1:]):
      print(help_text(doc or "", _config_path(argv, default_config)))
      return 0
    config = TrackedConfig(load_config(argv, default_config))
    status = main(config)
    if not status:
      config.all_read()
    return status

  exit_with(configured, own_process=own_process)


def exit_with(command: Callable[[], int | None], own_process: bool = False) -> NoReturn:
  """Calls a command and exits with its status, or as `run` does after a mistake or Ctrl-C.

  own_process: nothing else is to be done in this process; after Ctrl-C it ends at once.
  """
  try:
    sys.exit(command() or 0)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(EXIT_USAGE)
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    if own_process:
      # Interrupted while it compiles, JAX crashes when Python takes its modules apart. That is
      # left out; what is registered for the end is done here.
      atexit._run_exitfuncs()
      with contextlib.suppress(OSError):  # who reads may have ended before
        sys.stdout.flush()
        sys.stderr.flush()
      os._exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_INTERRUPTED)


def load_config(argv: Sequence[str], default_config: str) -> ConfigDict:
  """`--config=FILE[:VARIANT] --config.KEY=VALUE ...` -> the config with the overrides applied.

  A key that holds a tuple also takes its words or numbers separated by commas, and one that holds a
  word takes None. `--workdir=FOLDER` is short for `--config.workdir=FOLDER`.
  Raises: UserError for a missing file, an unknown key or variant, or a value of the wrong type.
  """
  path = _config_path(argv, default_config)
  defaults = load_file(path)
  values = flags.FlagValues()
  try:
    arguments = [argv[0], *(_checked(arg, defaults) for arg in argv[1:])]
    nothing = [key for key in map(_key_set_to_none, arguments[1:]) if _holds(defaults, key, str)]
    arguments = [arg for arg in arguments if _key_set_to_none(arg) not in nothing]
    holder = config_flags.DEFINE_config_file("config", path, flag_values=values, sys_argv=arguments)
    rest = values(arguments)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, SyntaxError) as error:
    raise UserError(_one_line(error)) from None
  if rest[1:]:
    raise UserError(f"cannot use '{rest[1]}': give options as --config.KEY=VALUE")
  # Grain's workers and absl's logging expect parsed flags outside absl.app.run.
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  config = holder.value
  with config.ignore_type():
    config.update_from_flattened_dict(dict.fromkeys(nothing))
  return config


def load_file(path: str) -> ConfigDict:
  """`FILE[:VARIANT]` -> what its get_config returns.

  Raises: UserError for a missing file or an unknown variant.
  """
  filename, _, variant = path.partition(":")
  module = _import(filename)
  try:
    return module.get_config(variant) if variant else module.get_config()
  except ValueError as error:
    raise UserError(f"{filename}: {_one_line(error)}") from None


def help_text(doc: str, path: str) -> str:
  """The launcher's docstring, the config's docstring and the default of every key."""
  filename = path.split(":")[0]
  module = _import(filename)
  config = load_file(path)
  keys = "\n".join(f"  --config.{key}={_get(config, key)!r}" for key in _flat_keys(config))
  return (
    f"{doc.strip()}\n\n{filename}\n{'-' * len(filename)}\n{(module.__doc__ or '').strip()}"
    f"\n\nEvery key, with the value that '{path}' gives it:\n{keys}"
  )


def _import(filename: str):
  if not pathlib.Path(filename).is_file():
    raise UserError(f"no config file '{filename}': run from the repository root or give its path")
  spec = importlib.util.spec_from_file_location("jetfm_config", filename)
  if spec is None or spec.loader is None:
    raise UserError(f"config file '{filename}' is not a Python file")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _config_path(argv: Sequence[str], default: str) -> str:
  for i, arg in enumerate(argv):
    if arg in ("--config", "-config") and i + 1 < len(argv):
      return argv[i + 1]
    if match := re.match(r"--?config=(.*)", arg):
      return match[1]
  return default


def _flat_keys(config: Any, prefix: str = "") -> list[str]:
  names: list[str] = []
  for key in config:
    nested = isinstance(config[key], ConfigDict) and len(config[key]) > 0
    names += _flat_keys(config[key], f"{prefix}{key}.") if nested else [f"{prefix}{key}"]
  return names


def _get(config: ConfigDict, dotted: str) -> Any:
  value: Any = config
  for part in dotted.split("."):
    value = value[part]
  return value


def _unknown_key(key: str, known: Sequence[str]) -> str:
  return f"config has no key '{key}'; the nearest is '{nearest(key, known)}'"


def _checked(arg: str, defaults: ConfigDict) -> str:
  """The argument, its key known and its words made a tuple where a tuple is wanted."""
  match = re.match(r"--?([\w.\[\]-]+)(?:=(.*))?$", arg, re.DOTALL)
  if not match or match[1] == "config":
    return arg
  if match[1] == "workdir" and "workdir" in defaults and match[2] is not None:
    return f"--config.workdir={match[2]}"
  key, known = match[1].removeprefix("config."), _flat_keys(defaults)
  if not match[1].startswith("config."):
    near = nearest(key, known)
    raise UserError(f"no option '--{key}'; the nearest is '--config.{near}=VALUE'")
  # `a.b[0]` and a whole sub-tree `a` are for ml_collections to judge.
  stem = key.split("[")[0]
  if not any(name == stem or name.startswith(f"{stem}.") for name in known):
    raise UserError(_unknown_key(key, known))
  words = match[2]
  if words is not None and _holds(defaults, key, tuple):
    if not words.startswith(("(", "[")):
      words = repr(_elements(key, words.split(","), _get(defaults, key)))
    return f"--config.{key}={words}"
  return arg


def _elements(key: str, words: Sequence[str], default: tuple) -> tuple:
  """The words, as numbers where the default holds numbers."""
  kinds = {type(x) for x in default}
  number = int if kinds == {int} else float if kinds and kinds <= {int, float} else str
  try:
    return tuple(number(word) for word in words if word)
  except ValueError:
    raise UserError(f"config.{key} is '{','.join(words)}', expected numbers as {default}") from None


def _key_set_to_none(arg: str) -> str:
  match = re.match(r"--?config\.([\w.]+)=None$", arg)
  return match[1] if match else ""


def _holds(config: ConfigDict, key: str, kind: type) -> bool:
  return key in _flat_keys(config) and isinstance(_get(config, key), kind)


def _one_line(error: BaseException) -> str:
  return " ".join(str(error).split())
