"""Names of the tasks, and which one suits which bundled model."""

from __future__ import annotations

from pathlib import Path

from elsa_attention.tasks.base import Task
from elsa_attention.tasks.embedding import DocSimilarity, Fidelity
from elsa_attention.tasks.masked_token import MaskedToken

TASKS = (MaskedToken.name, DocSimilarity.name, Fidelity.name)
DEFAULT_TASKS = {"minilm": DocSimilarity.name, "rxn-albert": MaskedToken.name}


def make(name: str, data: str | Path | None = None, limit: int | None = None) -> Task:
    """The task of that name, on its bundled data or on a file of the user.

    `limit` bounds the examples read from the data. Errors: ValueError for an unknown name, a task
    without the data it needs, data it cannot use, or a limit below 2.
    """
    if limit is not None and limit < 2:
        raise ValueError(f"task {name}: limit: expected at least 2 examples, got {limit}")
    bounds = {} if limit is None else {"limit": limit}
    if name == DocSimilarity.name:
        if data is not None or bounds:
            raise ValueError(f"task {name}: expected no data file or limit, got {data or limit}")
        return DocSimilarity()
    if data is not None and not Path(data).is_file():
        raise ValueError(f"{data}: expected a file of text, got none")
    if name == MaskedToken.name:
        return MaskedToken(data, **bounds)
    if name == Fidelity.name:
        if data is None:
            raise ValueError(f"task {name}: expected a data file, got none")
        return Fidelity(data, **bounds)
    raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {name!r}")
