"""Reads the data of the tasks: reactions, the Lee documents and any text file.

What it is not: a chemistry toolkit. Reactions are handled as text; the only edit is the removal of
atom-map numbers.
"""

from __future__ import annotations

import ast
import codecs
import csv
import functools
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elsa_attention.models.packages import package_path, recorded_files
from elsa_attention.models.tokenizers import SmilesTokenizer, split_smiles

if TYPE_CHECKING:
    from elsa_attention.models import LoadedModel

# [isotope symbol chirality hydrogens charge :map]
_MAPPED_ATOM = re.compile(r"\[(\d*)([A-Za-z][a-z]?|\*)(@{0,2})(H\d*)?([+-]\d*|[+]+|-+)?:\d+\]")
_ORGANIC = frozenset({*"BCNOPSFIbcnops*", "Cl", "Br"})
_AROMATIC_HETERO = frozenset("bnops")


def read_documents(path: str | Path) -> list[str]:
    """A UTF-8 text file with one document per line; blank lines are skipped.

    Errors: OSError if it cannot be read, ValueError naming the line that is not UTF-8, or if there
    is no text.
    """
    documents = [line.strip() for line in _lines(Path(path), "utf-8")]
    documents = [line for line in documents if line]
    if not documents:
        raise ValueError(f"{path}: expected one document per line, got no text")
    return documents


def read_reactions(path: str | Path) -> list[str]:
    """Reaction SMILES of a user's file: one per line, or a CSV file with a column named rxn.

    Errors: OSError if it cannot be read, ValueError if it holds no reaction.
    """
    lines = _lines(Path(path), "utf-8")
    header = next(csv.reader(lines[:1]), [])
    if "rxn" in header:
        texts = [row.get("rxn") or "" for row in csv.DictReader(lines)]
    else:
        texts = [line.strip() for line in lines]
    reactions = unique_reactions(texts)
    if not reactions:
        raise ValueError(f"{path}: expected reactions such as CCO.BrCC>>CCOCC, got none")
    return reactions


def read_texts(path: str | Path, loaded: LoadedModel) -> list[str]:
    """The user's file as the model's tokenizer needs it: reactions or documents."""
    is_smiles = isinstance(loaded.tokenizer, SmilesTokenizer)
    return read_reactions(path) if is_smiles else read_documents(path)


def bundled_reactions() -> list[str]:
    """The reactions written in the test files that the rxnmapper distribution installs."""
    texts: list[str] = []
    for path in recorded_files("rxnmapper", "tests/", ".py"):
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        texts += [value for value in constants if isinstance(value, str) and ">>" in value]
    return unique_reactions(texts)


def unique_reactions(texts: Iterable[str]) -> list[str]:
    """Usable reactions, without atom maps and duplicates, in one order whatever the input's.

    Dropped are strings that are not SMILES or lack a side. What follows a space (the extended
    format's fragment groups) is cut off.
    """
    found = set()
    for text in texts:
        reaction = remove_atom_maps(text.strip().split(" ")[0])
        left, arrow, right = reaction.partition(">>")
        whole = left and right and arrow and left[0] != "."
        if whole and "".join(_split_or_nothing(reaction)) == reaction:
            found.add(reaction)
    return sorted(found, key=lambda r: (len(r), r))


def remove_atom_maps(reaction: str) -> str:
    """Rewrites mapped atoms the way unmapped SMILES writes them: [CH3:1] as C, [O-:2] as [O-].

    A bracket goes if the plain symbol means the same: no isotope, chirality or charge, in the
    organic subset, and no hydrogen on an aromatic atom other than carbon. Hydrogen counts of such
    atoms are taken to be the normal ones, as mapping tools write them.
    """

    def unmapped(match: re.Match[str]) -> str:
        isotope, symbol, chirality, hydrogens, charge = (g or "" for g in match.groups())
        pyrrolic = symbol in _AROMATIC_HETERO and hydrogens
        if symbol in _ORGANIC and not (isotope or chirality or charge or pyrrolic):
            return symbol
        return f"[{isotope}{symbol}{chirality}{hydrogens}{charge}]"

    return _MAPPED_ATOM.sub(unmapped, reaction)


def reaction_key(reaction: str) -> tuple[tuple[tuple[str, int], ...], ...]:
    """The heavy atoms on both sides: equal for two spellings of one reaction.

    Two different reactions may share it (isomers). Used only to keep spellings of one reaction on
    one side of a split, where a false match does no harm.
    """

    def atoms(side: str) -> tuple[tuple[str, int], ...]:
        symbols = (re.sub(r"[^A-Za-z*]|H\d*(?=[\]+\-:])", "", t) for t in _split_or_nothing(side))
        return tuple(sorted(Counter(s.capitalize() for s in symbols if s).items()))

    left, _, right = reaction.partition(">>")
    return atoms(left), atoms(right)


def lee_background() -> list[str]:
    """300 news documents of the Lee corpus, as gensim's test data has them."""
    return _lee_documents("lee_background.cor")


def lee_documents() -> list[str]:
    """The 50 news documents that people compared."""
    return _lee_documents("lee.cor")


@functools.cache
def lee_similarities() -> np.ndarray:
    """Mean human similarity of each pair of the 50 documents, from 0 to 1.

    Shapes: float64 [50, 50], symmetric; the file has the upper triangle.
    """
    path = package_path("gensim", "test/test_data/similarities0-1.txt")
    upper = np.triu(np.loadtxt(path, dtype=np.float64), k=1)
    if upper.shape != (50, 50):
        raise ValueError(f"{path}: expected a 50 x 50 table, got {upper.shape}")
    return upper + upper.T + np.eye(50)


def _lee_documents(name: str) -> list[str]:
    path = package_path("gensim", f"test/test_data/{name}")
    return [line.strip() for line in _lines(path, "latin-1") if line.strip()]


def _lines(path: Path, encoding: str) -> list[str]:
    """Lines of a text file, split at newlines only, without them."""
    lines = []
    content = path.read_bytes()
    if encoding == "utf-8":
        content = content.removeprefix(codecs.BOM_UTF8)  # a mark of some editors, not text
    for number, raw in enumerate(content.split(b"\n"), start=1):
        try:
            lines.append(raw.decode(encoding).rstrip("\r"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}:{number}: expected UTF-8 text, got byte 0x{raw[error.start]:02x} "
                f"at column {error.start + 1}"
            ) from None
    return lines


def _split_or_nothing(text: str) -> list[str]:
    try:
        return split_smiles(text)
    except ValueError:
        return []
