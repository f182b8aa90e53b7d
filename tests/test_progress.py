"""The line that says how far work is."""

import io

import pytest

from jetfm import progress
from jetfm.progress import Progress


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  """Time that goes on when the test says so: clock[0] in seconds."""
  now = [1000.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  return now


def lines_of(stream):
  return stream.getvalue().splitlines()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["log", "terminal"])
def test_it_shows_share_rate_eta_and_values(stream, clock):
  line = Progress("pretrain", "steps", "events", stream=stream, interval=0.0)
  for step in range(1, 5):
    line.update(step, 4, 100, {"loss": 0.5})
    clock[0] += 1
  line.message("valid loss 0.25")
  line.close()
  text = stream.getvalue()
  for words in ("pretrain  4/4 steps (100 %)", "100 events/s", "ETA 0:01", "loss 0.5"):
    assert words in text
  assert "valid loss 0.25\n" in text
  assert ("\r" in text) == stream.isatty()
  assert text.endswith("\n")


def test_in_a_log_there_are_few_lines_and_the_last(clock):
  stream = io.StringIO()
  line = Progress("read", "jets", stream=stream, interval=10)
  for done in range(101):
    line.update(done, 100)
    clock[0] += 1
  line.close()
  lines = lines_of(stream)
  assert len(lines) == 10
  assert lines[-1].startswith("read  100/100 jets (100 %)  1 jets/s  after 1:40")


def test_on_a_terminal_one_line_is_rewritten_and_messages_stay(clock):
  stream = Terminal()
  line = Progress("read", "jets", stream=stream)
  for done in range(50):
    line.update(done, 50)
    clock[0] += 1
  assert "\n" not in stream.getvalue()
  line.message("a message")
  line.close()
  assert stream.getvalue().endswith("\r\x1b[Ka message\n")


def test_the_rate_is_without_the_first_step(clock):
  """The first step compiles: a minute here, and 0.1 s for each of the others."""
  stream = io.StringIO()
  line = Progress("pretrain", "steps", "events", stream=stream, interval=1.0)
  clock[0] += 60
  for step in range(1001, 1100):  # resumed at 1000
    line.update(step, 2000, 50)
    clock[0] += 0.1
  lines = lines_of(stream)
  assert "/s" not in lines[0]
  assert "after 1:00" in lines[0]
  assert "500 events/s  ETA 1:" in lines[-1]


def test_work_that_is_done_at_once_has_one_line(clock):
  stream = io.StringIO()
  line = Progress("predict", "jets", stream=stream)
  clock[0] += 3
  line.update(7, 7)
  line.close()
  assert lines_of(stream) == ["predict  7/7 jets (100 %)  after 0:03"]
