#!/usr/bin/env bash
# Installs what a fresh machine lacks: Debian packages and the Python environment .venv.
# Usage: scripts/setup.sh debian LIST | python
# Each part leaves a stamp that make compares with its list, so a second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

packages() { grep -vE '^\s*(#|$)' "$1"; }

setup_debian() {
  local missing=() package
  for package in $(packages "$1"); do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  # A compiler or tool of another origin serves as well.
  local needed=()
  for package in "${missing[@]}"; do
    case "$package" in
      cmake | g++ | make | clang | clang-format | pkg-config) command -v "$package" >/dev/null && continue ;;
      ninja-build) command -v ninja >/dev/null && continue ;;
      python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null && continue ;;
    esac
    needed+=("$package")
  done
  [ ${#needed[@]} -eq 0 ] && return
  local run=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      echo "setup: Debian packages are missing; install them with this line, then repeat:" >&2
      echo "  sudo apt-get update && sudo apt-get install -y ${needed[*]}" >&2
      exit 2
    fi
    run=(sudo -n)
  fi
  echo "setup: installing Debian packages: ${needed[*]}" >&2
  "${run[@]}" apt-get update -qq
  "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${needed[@]}" >/dev/null
}

setup_python() {
  [ -x .venv/bin/python ] || python3 -m venv .venv
  echo "setup: installing Python packages into .venv" >&2
  # torch first: with it in place nothing asks for another build of it.
  .venv/bin/python -m pip install -qq --disable-pip-version-check "$(grep '^torch==' requirements/python.txt)"
  .venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements/python.txt
  .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r requirements/data.txt
}

case "${1:-}" in
  debian) setup_debian "$2" ;;
  python) setup_python ;;
  *)
    echo "setup: expected debian LIST or python, got '${1:-}'" >&2
    exit 2
    ;;
esac
