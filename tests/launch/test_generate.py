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
    ("--config.physics=jpsi", "config has no key 'chains'"),
    ("--config.physics=leptons", "must be jets or jpsi"),
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
  assert cli.load_file(f"{CONFIG}:jpsi").physics == "jpsi"
  assert cli.load_file(f"{CONFIG}:jpsi_tiny").events == 20_000


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


JPSI = f"--config={CONFIG}:jpsi"


@pytest.mark.parametrize(
  "argument, words",
  [
    ("--config.events=0", "events=0: must be at least 1"),
    ("--config.events_per_file=0", "events_per_file=0"),
    ("--config.chains=nowhere.csv", "'nowhere.csv' is no list of decay chains"),
    ("--config.event=5", "no key 'event'; the nearest is 'events'"),
  ],
)
def test_mistakes_about_events_are_one_line_and_status_2(argument, words, capsys, tmp_path):
  assert run(JPSI, f"--config.out={tmp_path}", argument) == 2
  errors = capsys.readouterr().err
  assert words in errors and errors.count("\n") == 1


def test_makes_events(capsys, tmp_path):
  pytest.importorskip("pythia8mc")
  pytest.importorskip("decaylanguage")
  chains = tmp_path / "chains.csv"
  chains.write_text("chain,count\nJ/psi -> e+ e-,6\nJ/psi -> mu+ mu-,5\n")
  out = tmp_path / "out"
  arguments = (
    *(JPSI, f"--config.out={out}", f"--config.chains={chains}"),
    *("--config.events=30", "--config.events_per_file=20"),
  )
  assert run(*arguments) == 0
  assert sorted(path.name for path in out.iterdir()) == ["jpsi_000.root", "jpsi_001.root"]
  assert "30 events in 2 files:" in capsys.readouterr().out
  assert run(*arguments) == 0
  assert "2 were there already" in capsys.readouterr().out
  assert run(*(a for a in arguments if "chains" not in a)) == 2
  errors = capsys.readouterr().err
  assert "made with other settings: other chains" in errors and errors.count("\n") == 1


def chains_command(*arguments):
  """Exit status of `launch.generate chains` in this process."""
  with pytest.raises(SystemExit) as stop:
    generate._main(["generate", "chains", *map(str, arguments)])
  return stop.value.code


def test_counts_chains(capsys, tmp_path):
  pytest.importorskip("pythia8mc")
  pytest.importorskip("decaylanguage")
  out = tmp_path / "chains.csv"
  assert chains_command(f"--out={out}", "--events=1500", "--classes=3") == 0
  assert "3 of " in capsys.readouterr().out
  from jetfm.generate import read_chains

  assert {"J/psi -> e+ e-", "J/psi -> mu+ mu-"} < set(read_chains(out))


@pytest.mark.parametrize("argument", ["--events=0", "--classes=0", "--out=/nowhere/x.csv"])
def test_mistakes_about_chains(argument, capsys, tmp_path):
  assert chains_command(f"--out={tmp_path / 'x.csv'}", argument) == 2
  errors = capsys.readouterr().err
  assert errors.startswith("error: ") and errors.count("\n") == 1
