"""Data: files of jets, or of e+e- events -> records -> padded batches.

Public: `open_dataset` (batches), `Manifest` (what a data set holds), `jet_schema` and
`event_schema` (input sets), `ingest.ingest` (files to records), `DataError`.
"""

from jetfm.data.errors import DataError
from jetfm.data.event_schema import EVENT_INPUT_SETS, event_schema
from jetfm.data.jet_schema import INPUT_SETS, JETCLASS, jet_schema
from jetfm.data.loader import Loader
from jetfm.data.manifest import Manifest
from jetfm.data.pipeline import JetDataset, open_dataset

__all__ = [
  "open_dataset",
  "JetDataset",
  "Loader",
  "Manifest",
  "jet_schema",
  "event_schema",
  "EVENT_INPUT_SETS",
  "INPUT_SETS",
  "JETCLASS",
  "DataError",
]
