"""Tasks import the metrics: that must not bring plots, probes or their packages along."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_metrics_load_neither_scikit_learn_nor_matplotlib_nor_scipy_stats():
  code = (
    "import sys, jetfm.evals.metrics, jetfm.evals.probes, jetfm.evals.report\n"
    "heavy = {'sklearn', 'matplotlib', 'mplhep', 'scipy.stats', 'scipy.optimize'}\n"
    "print(sorted(heavy & set(sys.modules)))"
  )
  result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
  assert result.returncode == 0, result.stderr
  assert result.stdout.strip() == "[]"
