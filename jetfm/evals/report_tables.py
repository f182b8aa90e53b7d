"""Tables of a report about single classes, where there are too many for a confusion matrix."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from jetfm.evals.metrics import MANY_CLASSES
from jetfm.evals.published import CLEAR_CLASSES

MOST = 20
"""Classes of the table, besides those that were published."""


def class_table_html(run: str, details: Mapping[str, Any], of: str = "jets") -> str:
  """Precision, recall and F1 of the most frequent and of the published classes.

  Args:
    run: name of the run; details: of its classification section.
  Returns: '' where there are few classes.
  """
  rows = details.get("per_class", [])
  if len(rows) <= MANY_CLASSES:
    return ""
  shown = [row for i, row in enumerate(rows) if i < MOST or row["class"] in CLEAR_CLASSES]
  heads = ["class", of, "precision", "recall", "F1"]
  compared = any(row["class"] in CLEAR_CLASSES for row in shown)
  heads += ["CLEAR", "traditional selection"] if compared else []
  lines = []
  for row in shown:
    cells = [f"{row['events']:g}", *(_number(row[k]) for k in ("precision", "recall", "f1"))]
    if compared:
      published = CLEAR_CLASSES.get(row["class"], {})
      for method in ("model", "traditional"):
        cells.append(" / ".join(f"{x:.2f}" for x in published.get(method, ())))
    cells = [row["class"], *cells]
    lines.append(
      "<tr>"
      + "".join(
        f'<td class="{"metric" if i == 0 else "" if cell else "empty"}" '
        f'data-label="{html.escape(head)}"><span>{html.escape(cell)}</span></td>'
        for i, (head, cell) in enumerate(zip(heads, cells, strict=True))
      )
      + "</tr>"
    )
  head = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
  words = (
    f"Of the most frequent classes, by {run}; all are in results.json. Precision is the share of "
    f"{of} called a class that are of it, recall the share of its {of} that are called so."
  )
  if compared:
    words += " Published: precision / recall / F1 of another sample and other classes."
  return (
    f"<h3>Single classes</h3><p>{html.escape(words)}</p>"
    f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
    f"<tbody>{''.join(lines)}</tbody></table></div>"
  )


def best_run(runs: Sequence[Any]) -> Any | None:
  """The run of the highest accuracy; None where none has one."""
  measured = [(run.tasks.get("classification", {}).get("accuracy"), run) for run in runs]
  known = [(m.value, run) for m, run in measured if m is not None and m.value is not None]
  return max(known, key=lambda pair: pair[0])[1] if known else None


def _number(value: float | None) -> str:
  return "" if value is None else f"{value:.2f}"
