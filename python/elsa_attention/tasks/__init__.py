"""Labelled jobs that show what approximate attention costs, on data a fresh machine has.

What it is not: a benchmark suite. Each task is small enough to run many settings in minutes, and
reports an interval because small data cannot resolve small changes.
"""

from elsa_attention.tasks.base import Change, Task, TaskResult, spread
from elsa_attention.tasks.registry import DEFAULT_TASKS, TASKS, make

__all__ = ["DEFAULT_TASKS", "TASKS", "Change", "Task", "TaskResult", "make", "spread"]
