"""One small data set that the tests of this folder share, and ways to look at it."""

import numpy as np
import pytest

from jetfm.data.ingest import ingest
from jetfm.data.plan import Settings
from tests.jets import write_files

CLASSES = ("QCD", "Hbb", "Tbqq", "Tbl")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
  """A directory of ROOT files: four classes, two files each, 250 jets per file."""
  return write_files(tmp_path_factory.mktemp("files"), CLASSES, jets=250, files=2)


@pytest.fixture(scope="session")
def directory(files, tmp_path_factory):
  """The data set made of `files`, in many small blocks."""
  out = tmp_path_factory.mktemp("dataset")
  quiet_ingest(files, out, block_events=32)
  return out


def quiet_ingest(sources, out, processes=1, overwrite=False, memory_megabytes=512, **settings):
  """`ingest` of events that are split by hash, or of a dict of sources by split."""
  sources = sources if isinstance(sources, dict) else {"": str(sources)}
  return ingest(
    {k: str(v) for k, v in sources.items()},
    out,
    Settings(**settings),
    processes,
    memory_megabytes,
    overwrite,
    say=lambda line: None,
  )


def read_all(dataset):
  """All events of a `JetDataset` as arrays, sorted by event_id: id -> everything that was read."""
  if not dataset.num_events:
    return {}
  loader = dataset.loader(32, shuffle=False, epochs=1, lanes=1)
  found = {}
  for step in range(len(loader)):
    for batch in loader[step]:
      for i in np.flatnonzero(batch.weight):
        mask = batch.mask[i]
        found[int(batch.event_id[i])] = (
          batch.p4[i][mask],
          batch.features[i][mask],
          int(batch.label[i]),
          batch.targets[i],
          batch.spectators[i],
        )
  return dict(sorted(found.items()))


def ids_of(groups):
  """event_id of every slot of a tuple of Batches, filler included."""
  return np.concatenate([batch.event_id for batch in groups])
