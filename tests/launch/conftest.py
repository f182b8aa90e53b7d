"""What tests of training and prediction share."""

import functools

import pytest

from jetfm import inference
from jetfm.data.ingest import ingest
from jetfm.data.plan import Settings
from tests.jets import write_files


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
  """A data set of small jets in two length classes."""
  folder = tmp_path_factory.mktemp("jets")
  files = write_files(folder / "root", ("QCD", "Tbqq"), jets=100, mean_particles=12)
  settings = Settings(edges=(12, 24), block_events=16)
  ingest({"": str(files)}, folder / "records", settings, say=lambda line: None)
  return folder / "records"


@pytest.fixture(scope="module")
def loaded_once():
  """Predictions in one process share their compiled models: compilation is what they cost."""
  patch = pytest.MonkeyPatch()
  patch.setattr(inference, "load", functools.cache(inference.load))
  yield
  patch.undo()
