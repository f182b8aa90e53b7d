"""results.json and report.html: the numbers and figures of one or several runs on one page.

The page is self-contained: pictures are embedded, nothing is loaded from elsewhere, no script runs,
and every name that comes from outside is escaped.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jetfm.evals.catalogue import TASKS, about
from jetfm.evals.metrics.measurement import Measurement
from jetfm.evals.published import PUBLISHED, Published
from jetfm.evals.report_tables import best_run, class_table_html
from jetfm.evals.report_words import FIGURES, STYLE, worded


@dataclasses.dataclass(frozen=True)
class RunResults:
  """What one run measured.

  Attributes:
    name: as the page shows it; facts: short facts of the run (data, steps, seeds, ...), by name.
    tasks: task -> metric -> measurement; tasks are keys of `jetfm.evals.catalogue.TASKS`.
    details: task -> JSON values behind the figures, such as efficiencies in bins; not on the page.
  """

  name: str
  tasks: Mapping[str, Mapping[str, Measurement]]
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ReportFigure:
  """A picture of the page: its task, its kind (a key of `report_words.FIGURES`), PNG bytes.

  `caption` tells it from others of its kind, such as the name of the run.
  """

  task: str
  kind: str
  png: bytes
  caption: str = ""

  @property
  def file_name(self) -> str:
    """Of a PNG file with the picture."""
    words = re.sub(r"[^\w.]+", "_", self.caption).strip("_")
    return "-".join(filter(None, (self.task, self.kind, words))) + ".png"


def results_json(runs: Sequence[RunResults]) -> str:
  """The runs as JSON text; undefined values are null with a reason, NaN never occurs."""
  data = [
    {
      "name": run.name,
      "facts": dict(run.facts),
      "tasks": {
        task: {metric: m.to_dict() for metric, m in metrics.items()}
        for task, metrics in run.tasks.items()
      },
      "details": dict(run.details),
    }
    for run in runs
  ]
  return json.dumps({"runs": data}, indent=2, allow_nan=False, default=str)


def results_from_json(text: str) -> list[RunResults]:
  """The runs that `results_json` wrote.

  Raises: ValueError when the text is something else.
  """
  try:
    return [
      RunResults(
        run["name"],
        {
          task: {name: Measurement.from_dict(m) for name, m in metrics.items()}
          for task, metrics in run["tasks"].items()
        },
        run.get("facts", {}),
        run.get("details", {}),
      )
      for run in json.loads(text)["runs"]
    ]
  except (KeyError, TypeError, json.JSONDecodeError) as error:
    raise ValueError(f"not a results.json of jetfm: {error!r}") from error


def report_html(
  runs: Sequence[RunResults],
  figures: Iterable[ReportFigure] = (),
  *,
  title: str = "jetfm report",
  introduction: str = "",
  published: Sequence[Published] = PUBLISHED,
  of: str = "jets",
) -> str:
  """The page as a string.

  Runs stand side by side, in order; the best value of several is marked. Published numbers appear
  in the rows that measure the same thing. `of` says what was evaluated, jets or events.
  Raises: ValueError for an unknown task or kind of figure, or two runs of one name.
  """
  figures, published = list(figures), [p for p in published if p.of == of]
  names = [run.name for run in runs]
  if len(set(names)) != len(names):
    raise ValueError(f"two runs have the same name: {names}; a reader could not tell them apart")
  for task in (*(t for run in runs for t in run.tasks), *(f.task for f in figures)):
    if task not in TASKS:
      raise ValueError(f"unknown task '{task}'; a report knows {list(TASKS)}")
  for figure in figures:
    if figure.kind not in FIGURES:
      raise ValueError(f"unknown kind of figure '{figure.kind}'; there are {list(FIGURES)}")
  used = [t for t in TASKS if any(t in r.tasks for r in runs) or any(f.task == t for f in figures)]
  links = "".join(f'<a href="#{task}">{_text(TASKS[task])}</a>' for task in used)
  body = [f"<h1>{_text(title)}</h1>"]
  if introduction:
    body.append(f"<p>{_text(introduction)}</p>")
  body += [f"<nav>{links}</nav>", _runs_table(runs), _how_to_read()]
  for task in used:
    body.append(f'<h2 id="{task}">{_text(TASKS[task])}</h2>')
    body.append(_metrics_table(task, runs, published, of))
    body += _figures(task, figures, of)
    if task == "classification" and (best := best_run(runs)):
      body.append(class_table_html(best.name, best.details.get(task, {}), of))
  body.append(_sources(runs, published))
  return (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
    f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body>\n"
    + "\n".join(part for part in body if part)
    + "\n</body></html>\n"
  )


def _text(value: Any) -> str:
  return html.escape(str(value), quote=True)


def _how_to_read() -> str:
  return (
    "<p><small>↑ higher is better, ↓ lower is better. ± is one standard deviation from the finite "
    "test set; “spread” that of several trainings. Chance is what guessing gives, floor what two "
    "halves of real data give. Shaded: the best run of a row.</small></p>"
  )


def _runs_table(runs: Sequence[RunResults]) -> str:
  keys = list(dict.fromkeys(key for run in runs for key in run.facts))
  if not keys:
    return ""
  rows = [
    (
      f'<tr><td class="metric">{_text(run.name)}</td>'
      + "".join(_cell(key, _text(run.facts.get(key, "")), "text") for key in keys)
      + "</tr>"
    )
    for run in runs
  ]
  return _table(["run", *keys], rows, text=True)


def _table(heads: Sequence[str], rows: Sequence[str], *, text: bool = False) -> str:
  align = ' style="text-align:left"' if text else ""
  head = "".join(f"<th{align}>{_text(h)}</th>" for h in heads)
  body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
  return f'<div class="wide"><table>{body}</table></div>'


def _cell(label: str, content: str, kind: str = "") -> str:
  kind = kind if content else f"{kind} empty"
  return f'<td class="{kind.strip()}" data-label="{_text(label)}"><span>{content}</span></td>'


def _metrics_table(
  task: str, runs: Sequence[RunResults], published: Sequence[Published], of: str
) -> str:
  metrics = list(dict.fromkeys(m for run in runs for m in run.tasks.get(task, {})))
  if not metrics:
    return ""
  shown = [run for run in runs if task in run.tasks]
  columns = [p for p in published if any(m in p.numbers for m in metrics)]
  compared = {
    what: label
    for what, label in (("reference", "chance or floor"), ("baseline", "baseline"))
    if any(getattr(m, what) is not None for run in shown for m in run.tasks[task].values())
  }
  rows = []
  for metric in metrics:
    entry = about(metric)
    measured = [run.tasks[task].get(metric) for run in shown]
    arrow = "↑" if entry.better == "higher" else "↓"
    unit = f" ({_text(entry.unit)})" if entry.unit else ""
    cells = [
      f'<td class="metric">{_text(entry.label)}{unit} {arrow}'
      f"<small>{_text(worded(entry.meaning, of))}</small></td>"
    ]
    best = _best(measured, entry.better)
    for i, (run, m) in enumerate(zip(shown, measured, strict=True)):
      own = "".join(_own(m, what) for what in compared if _differs(measured, what))
      cells.append(_cell(run.name, _measured(m) + own, "best" if i == best else ""))
    cells += [
      _cell(label, _compared(measured, what), "compared") for what, label in compared.items()
    ]
    cells += [_cell(p.name, _quoted(p, metric)) for p in columns]
    rows.append(f"<tr>{''.join(cells)}</tr>")
  heads = ["metric", *(run.name for run in shown), *compared.values()]
  return _table([*heads, *(p.name for p in columns)], rows)


def _best(measured: Sequence[Measurement | None], better: str) -> int | None:
  """Index of the best value, None unless two runs differ."""
  values = [(m.value, i) for i, m in enumerate(measured) if m is not None and m.value is not None]
  if len({value for value, _ in values}) < 2:
    return None
  return (max if better == "higher" else min)(values, key=lambda pair: pair[0])[1]


def _measured(m: Measurement | None) -> str:
  if m is None:
    return ""
  if m.value is None:
    return f"undefined<small>{_text(m.reason)}</small>"
  out = number(m.value, m.error)
  if m.spread is not None:
    out += f"<small>{m.seeds} seeds, spread\u00a0{m.spread:.2g}</small>"
  return out + (f"<small>{_text(m.note)}</small>" if m.note else "")


def _differs(measured: Sequence[Measurement | None], what: str) -> bool:
  """Whether runs have a 'reference' or 'baseline' of their own, as on other data they have."""
  return len({_stated(m, what) for m in measured if m is not None}) > 1


def _stated(m: Measurement, what: str) -> tuple[str, ...]:
  """The words of a 'reference' or 'baseline' and what stands below it; () where there is none."""
  value = getattr(m, what)
  if value is None:
    return ()
  others = m.others.items() if what == "baseline" else ()
  kind = getattr(m, f"{what}_kind")
  return number(value), kind, *(f"{name}: {number(other)}" for name, other in others)


def _own(m: Measurement | None, what: str) -> str:
  """Below the value of a run, where runs compare to different numbers."""
  if m is None or not (stated := _stated(m, what)):
    return ""
  value, kind, *others = stated
  return "".join(f"<small>{_text(line)}</small>" for line in (f"{kind}: {value}", *others))


def _compared(measured: Sequence[Measurement | None], what: str) -> str:
  found = [stated for m in measured if m is not None and (stated := _stated(m, what))]
  if not found:
    return ""
  if _differs(measured, what):
    return "<small>each run's own</small>"
  value, *lines = found[0]
  return value + "".join(f"<small>{_text(line)}</small>" for line in lines)


def _quoted(source: Published, metric: str) -> str:
  if metric not in source.numbers:
    return ""
  other = f" ({source.other[metric]:g})" if metric in source.other else ""
  return f"{source.numbers[metric]:g}{other}"


def number(value: float, error: float | None = None) -> str:
  """A number as text: two digits of its error, or up to four of its own.

  No-break spaces and true minus signs keep it on one line.
  """
  return _digits(value, error).replace(" ", "\u00a0").replace("-", "\u2212")


def _digits(value: float, error: float | None) -> str:
  if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
    return f"{value:.3g}" if not error else f"{value:.3g} ± {error:.2g}"
  if error is None or error == 0:
    return f"{value:.4g}"
  decimals = min(max(1 - math.floor(math.log10(error)), 0), 6)
  return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def _figures(task: str, figures: Sequence[ReportFigure], of: str) -> list[str]:
  out = []
  for kind, (title, words) in FIGURES.items():
    pictures = [f for f in figures if f.task == task and f.kind == kind]
    if not pictures:
      continue
    shown = []
    for f in pictures:
      data = base64.b64encode(f.png).decode()
      caption = f"<figcaption>{_text(f.caption)}</figcaption>" if f.caption else ""
      alt = _text(f"{title} {f.caption}".strip())
      shown.append(
        f'<figure><img alt="{alt}" src="data:image/png;base64,{data}">{caption}</figure>'
      )
    grid = f'<div class="figures">{"".join(shown)}</div>'
    out.append(f"<h3>{_text(title)}</h3><p>{_text(worded(words, of))}</p>{grid}")
  return out


def _sources(runs: Sequence[RunResults], published: Sequence[Published]) -> str:
  metrics = {m for run in runs for task in run.tasks.values() for m in task}
  shown = [p for p in published if metrics & set(p.numbers)]
  if not shown:
    return ""
  lines = "".join(
    f"<p><b>{_text(p.name)}</b>: {_text(p.setting)}. Source: {_text(p.source)}.</p>" for p in shown
  )
  return f"<h2>Published numbers</h2>{lines}"
