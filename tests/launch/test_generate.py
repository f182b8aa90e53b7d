"""The command line of the generator: what a user sees."""

import pytest

from launch import cli, generate

CONFIG = "configs/generate.py"


def run(*arguments):
  with pytest.raises(SystemExit) as caught:
    cli.run(generate.main, CONFIG, argv=["generate", *arguments])
  return caught.value.code


@pytest.mark.parametrize(
  "argument, words",
  [
    ("--config.classes=Hbb,Tbg", "no class 'Tbg'; the nearest is 'Tb"),
    ("--config.classes=qcd", "the nearest is 'QCD'"),
    ("--config.classes=", "classes is empty"),
    ("--config.jets_per_class=0", "jets_per_class=0: must be at least 1"),
    ("--config.jets_per_file=-1", "jets_per_file=-1"),
    ("--config.processes=-1", "processes=-1"),
    ("--config.seed=-1", "seed=-1"),
    ("--config.jets=5", "the nearest is 'jets_per_"),
    ("--config=configs/generate.py:huge", "no variant 'huge'"),
  ],
)
def test_mistakes_are_one_line_and_status_2(argument, words, capsys, tmp_path):
  assert run(f"--config.out={tmp_path}", argument) == 2
  errors = capsys.readouterr().err
  assert words in errors and errors.count("\n") == 1


def test_help_explains_every_key(capsys):
  assert run("--help") == 0
  text = capsys.readouterr().out
  for key in cli.load_file(CONFIG):
    assert f"\n  {key} " in text
  assert "python -m launch.generate" in text


def test_variants():
  assert cli.load_file(f"{CONFIG}:tiny").jets_per_class == 200
  assert cli.load_file(f"{CONFIG}:jetclass100k").jets_per_class == 100_000


@pytest.mark.parametrize("out", ["{}/file/x", "{}/file", "/proc/x"])
def test_output_that_is_no_folder(out, capsys, tmp_path):
  (tmp_path / "file").write_text("")
  assert run(f"--config.out={out.format(tmp_path)}") == 2
  errors = capsys.readouterr().err
  assert "cannot write to" in errors and errors.count("\n") == 1


def test_makes_jets(capsys, tmp_path):
  pytest.importorskip("pythia8mc")
  arguments = (f"--config.out={tmp_path}", "--config.classes=Zqq", "--config.jets_per_class=2")
  assert run(*arguments) == 0
  assert [path.name for path in tmp_path.iterdir()] == ["ZToQQ_000.root"]
  assert "2 jets in 1 file:" in capsys.readouterr().out
  assert run(*arguments) == 0
  assert "1 were there already" in capsys.readouterr().out
  assert run(*arguments, "--config.seed=5") == 2
  assert "made with other settings" in capsys.readouterr().err
