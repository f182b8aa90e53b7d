"""Each class's decays in Pythia's event record, and what the veto costs."""

import numpy as np
import pytest

from jetfm.generate import pythia
from jetfm.generate.acceptance_veto import veto_class
from jetfm.generate.clustering import cluster
from jetfm.generate.energy_flow import simulate
from jetfm.generate.jets import select
from jetfm.generate.processes import CLASS_NAMES, COMMON_SETTINGS, PROCESSES
from jetfm.generate.truth import find_resonances

pytest.importorskip("pythia8mc")

# The hard process and its decays do not depend on what else goes on in the event.
QUICK = ("PartonLevel:MPI = off", "HadronLevel:all = off")


def hard_events(name, count=40, instance=0):
  settings = (*COMMON_SETTINGS, *PROCESSES[name].settings[instance], *QUICK)
  return pythia.Generator(settings, seed=3).next_events(count)


def products(name, **kwargs):
  """Sorted |PDG ids| of the visible decay products of every resonance found."""
  found = find_resonances(hard_events(name, **kwargs), PROCESSES[name])
  return found, [tuple(sorted(int(p) for p in np.abs(row) if p)) for row in found.product_pid]


@pytest.mark.parametrize("name, pid", [("Hbb", 5), ("Hcc", 4), ("Hgg", 21)])
def test_direct_higgs_decays(name, pid):
  _, decays = products(name)
  assert len(decays) == 40 and set(decays) == {(pid, pid)}


def test_higgs_to_four_quarks():
  _, decays = products("H4q")
  assert len(decays) == 40
  assert all(len(decay) == 4 and max(decay) <= 5 for decay in decays)


def test_higgs_to_lepton_and_quarks_in_both_charges():
  signs = set()
  for instance in range(len(PROCESSES["Hqql"].settings)):
    found, decays = products("Hqql", instance=instance)
    assert len(decays) == 40
    assert all(len(d) == 3 and d[2] in (11, 13) and d[1] <= 5 for d in decays)
    lepton = found.product_pid[np.isin(np.abs(found.product_pid), (11, 13))]
    signs |= set(np.sign(lepton).tolist())
  assert signs == {-1, 1}


def test_z_and_w_decays():
  _, z = products("Zqq")
  # One or two hadronic Z per event, never a neutrino; events with none give no resonance.
  assert 0 < len(z) < 80 and all(a == b <= 5 for a, b in z)
  _, w = products("Wqq")
  assert len(w) == 40 and all(a <= 5 and b <= 5 and a != b for a, b in w)


def test_top_decays():
  found, hadronic = products("Tbqq")
  assert len(hadronic) == 80 and all(len(d) == 3 and max(d) <= 5 for d in hadronic)
  assert set(found.pid.tolist()) == {-6, 6}
  found, leptonic = products("Tbl")
  assert len(leptonic) == 80 and {d[-1] for d in leptonic} == {11, 13}
  assert all(len(d) == 2 for d in leptonic)


def test_qcd_has_one_invisible_z_and_no_other_resonance():
  records = hard_events("QCD")
  assert not np.isin(np.abs(records.pid), (6, 24, 25)).any()
  neutrinos = np.isin(np.abs(records.pid), (12, 14, 16)) & (records.status > 0)
  np.testing.assert_array_equal(np.bincount(records.event[neutrinos], minlength=40), 2)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_multiparton_interactions_stay_on(name):
  for settings in PROCESSES[name].settings:
    assert not any("MPI" in line or "PartonLevel" in line for line in (*COMMON_SETTINGS, *settings))


def test_unknown_setting_is_an_error():
  with pytest.raises(ValueError, match="refuses the setting 'Nonsense:x = 1'"):
    pythia.Generator(("Nonsense:x = 1",), seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["QCD", "Tbl"])
def test_veto_loses_hardly_any_jet(name):
  process = PROCESSES[name]
  hooks = veto_class()(process, armed=False)
  generator = pythia.Generator((*COMMON_SETTINGS, *process.settings[0]), 11, hooks)
  records = generator.next_events(600)
  assert len(hooks.decisions) == 600
  vetoed = np.array(hooks.decisions)
  objects = simulate(np.random.default_rng(0), pythia.visible_particles(records))
  jets, _, _ = select(objects, records, process)
  assert len(jets) > 100 and vetoed.mean() > 0.05
  # Expected are a few per mille, less than one jet.
  assert vetoed[jets.event].mean() < 0.03


def test_armed_veto_gives_events_of_the_same_kind():
  process = PROCESSES["Zqq"]
  settings = (*COMMON_SETTINGS, *process.settings[0], *QUICK)
  generator = pythia.Generator(settings, 5, veto_class()(process))
  records = generator.next_events(30)
  # Only events with a hadronic Z are left.
  assert set(find_resonances(records, process).event.tolist()) == set(range(30))


def test_particles_are_flat_and_complete():
  settings = (*COMMON_SETTINGS, *PROCESSES["Hbb"].settings[0], "PartonLevel:MPI = off")
  records = pythia.Generator(settings, 5).next_events(10)
  particles = pythia.visible_particles(records)
  assert set(np.unique(particles.event)) == set(range(10))
  assert set(np.abs(particles.pid).tolist()) <= {11, 13, 22, 130, 211, 321, 2112, 2212}
  # Long-lived parents decay away from the beam, and do decay.
  assert np.hypot(particles.x, particles.y).max() > 1
  invisible = np.isin(np.abs(records.pid), (12, 14, 16)) & (records.status > 0)
  total = np.bincount(particles.event, particles.energy) + np.bincount(
    records.event[invisible], records.energy[invisible], 10
  )
  np.testing.assert_allclose(total, 13000, rtol=1e-4)
  jets = cluster(particles, 10, 300.0)
  assert len(jets) >= 8
