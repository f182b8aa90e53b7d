"""The progress line of launchers: see jetfm/progress.py."""

from jetfm.progress import Progress

__all__ = ["Progress"]
