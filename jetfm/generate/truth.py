"""From the event record: what decayed into what, and which jets contain it.

A jet of a signal process is kept only when every visible decay product lies within dR < 0.8 of its
axis. Quarks and gluons are taken as the direct daughters of the resonance's last copy, before they
radiate; charged leptons as their own last copy; neutrinos never count.
Source: the truth matching of JetClass (github.com/jet-universe/jetclass_generation), whose codes
`aux_truth_match` keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jetfm.generate.helix import wrap
from jetfm.generate.processes import JetProcess
from jetfm.generate.pythia import EventRecords

MATCH_RADIUS = 0.8
QCD_CODE = 50
_FIXED_CODES = {"Hbb": 41, "Hcc": 42, "Hgg": 44, "H4q": 45, "Hqql": 46}
_NEUTRINOS = (12, 14, 16)
_LEPTONS = (11, 13, 15)
MAX_PRODUCTS = 4


@dataclass(frozen=True)
class Resonances:
  """Resonances that decay as their class demands, ordered by event.

  Attributes:
    event: (R,) event number.
    pid: (R,) PDG id, signed.
    pt, eta, phi: (R,) of the last copy; pT in GeV.
    product_eta, product_phi: (R, 4) of the visible decay products; NaN where there is none.
    product_pid: (R, 4) signed PDG ids; 0 where there is none.
    code: (R,) aux_truth_match.
  """

  event: np.ndarray
  pid: np.ndarray
  pt: np.ndarray
  eta: np.ndarray
  phi: np.ndarray
  product_eta: np.ndarray
  product_phi: np.ndarray
  product_pid: np.ndarray
  code: np.ndarray

  def __len__(self) -> int:
    return len(self.event)


def find_resonances(records: EventRecords, process: JetProcess) -> Resonances:
  """The resonances of a signal process, with their visible decay products.

  Raises: ValueError for a process without resonance (QCD).
  """
  if not process.resonance:
    raise ValueError(f"class {process.name} has no resonance to look for")
  copies = np.flatnonzero(np.abs(records.pid) == process.resonance)
  index = np.unique(last_copies(records, copies))
  index = index[records.daughter1[index] >= 0]
  products, from_w = decay_products(records, index)
  product_pid = np.where(products >= 0, records.pid[products], 0)
  code = _truth_code(process, product_pid, from_w)

  wanted = code > 0
  index, products, product_pid = index[wanted], products[wanted], product_pid[wanted]
  pt, eta, phi = _direction(records, index)
  _, product_eta, product_phi = _direction(records, products)
  missing = products < 0
  return Resonances(
    event=np.searchsorted(records.offsets, index, side="right") - 1,
    pid=records.pid[index],
    pt=pt,
    eta=eta,
    phi=phi,
    product_eta=np.where(missing, np.nan, product_eta),
    product_phi=np.where(missing, np.nan, product_phi),
    product_pid=product_pid,
    code=code[wanted],
  )


def last_copies(records: EventRecords, index: np.ndarray) -> np.ndarray:
  """Follows particles (places, (R,)) through recoils and radiation to their last copy."""
  index = index.copy()
  while True:
    step = np.full_like(index, -1)
    # The later daughters first, so that the first daughter of the same kind wins.
    for daughter in (records.daughter2[index], records.daughter1[index]):
      same = (daughter >= 0) & (records.pid[daughter] == records.pid[index])
      step = np.where(same, daughter, step)
    moved = step >= 0
    if not moved.any():
      return index
    index[moved] = step[moved]


def decay_products(records: EventRecords, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Visible decay products of resonances at their last copy.

  Every W among the daughters is replaced by its own daughters.

  Shapes: (R,) places -> (R, 4) places, -1 where there is none; (R, 4) bool, whether from a W.
  """
  products = np.full((len(index), MAX_PRODUCTS), -1)
  from_w = np.zeros(products.shape, bool)
  for first, daughter in ((0, records.daughter1[index]), (2, records.daughter2[index])):
    is_w = (daughter >= 0) & (np.abs(records.pid[daughter]) == 24)
    products[~is_w, first] = daughter[~is_w]
    w = last_copies(records, daughter[is_w])
    products[is_w, first] = records.daughter1[w]
    products[is_w, first + 1] = records.daughter2[w]
    from_w[is_w, first : first + 2] = True
  pid = np.where(products >= 0, np.abs(records.pid[products]), 0)
  products[np.isin(pid, _NEUTRINOS)] = -1
  leptons = np.isin(pid, _LEPTONS)
  products[leptons] = last_copies(records, products[leptons])
  return products, from_w


def match(
  event: np.ndarray, eta: np.ndarray, phi: np.ndarray, resonances: Resonances
) -> np.ndarray:
  """For each jet the first resonance of its event whose products it contains; -1 if none.

  Shapes: (J,) event numbers, eta and phi of the jets -> (J,) places in `resonances`.
  """
  found = np.full(len(event), -1)
  first = np.searchsorted(resonances.event, event, side="left")
  stop = np.searchsorted(resonances.event, event, side="right")
  for k in range(int((stop - first).max(initial=0))):
    jets = np.flatnonzero((found < 0) & (first + k < stop))
    candidate = first[jets] + k
    d_eta = resonances.product_eta[candidate] - eta[jets, None]
    d_phi = wrap(resonances.product_phi[candidate] - phi[jets, None])
    inside = np.hypot(d_eta, d_phi) < MATCH_RADIUS
    contained = (inside | np.isnan(d_eta)).all(axis=1)
    found[jets[contained]] = candidate[contained]
  return found


def _truth_code(process: JetProcess, pid: np.ndarray, from_w: np.ndarray) -> np.ndarray:
  """aux_truth_match of each decay, (R,); 0 for decays that are not the class's own."""
  size = np.abs(pid)
  quarks = ((size >= 1) & (size <= 5)).sum(axis=1)
  heavy = ((size >= 4) & (size <= 5) & from_w).any(axis=1)
  lepton = np.where(size == 11, 15, np.where(size == 13, 16, 0)).max(axis=1)
  if process.name in _FIXED_CODES:
    return np.full(len(pid), _FIXED_CODES[process.name])
  if process.name == "Zqq":
    code = np.select([(size == 5).any(axis=1), (size == 4).any(axis=1)], [31, 32], 33)
    return np.where(quarks == 2, code, 0)
  if process.name == "Wqq":
    return np.where((size >= 4).any(axis=1), 21, 22)
  if process.name == "Tbqq":
    return np.where(quarks == 3, np.where(heavy, 11, 12), 0)
  return np.where(quarks == 1, lepton, 0)


def _direction(records, index):
  px, py, pz = records.px[index], records.py[index], records.pz[index]
  pt = np.hypot(px, py)
  return pt, np.arcsinh(pz / np.maximum(pt, 1e-9)), np.arctan2(py, px)
