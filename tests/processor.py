"""What bits can be asked of the processor that the tests run on."""

import pathlib

import numpy as np

_CPUINFO = pathlib.Path("/proc/cpuinfo")
SAME_BITS = not _CPUINFO.exists() or "avx512f" in _CPUINFO.read_text()
"""On x86 without AVX-512 a score depends on an event's place in its group, by some 1e-7: seen on an
AMD EPYC with XLA 0.10, whatever its flags."""


def assert_same_scores(got, want, name):
  """To the last bit where the processor can do it, else to single precision."""
  if SAME_BITS or not np.issubdtype(np.asarray(want).dtype, np.floating):
    np.testing.assert_array_equal(got, want, err_msg=name)
  else:
    assert np.asarray(got).dtype == np.asarray(want).dtype
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6, err_msg=name)
