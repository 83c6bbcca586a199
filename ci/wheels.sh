#!/usr/bin/env bash
# Builds the sdist, and from it a wheel for each Python that is named, into a directory:
#
#     bash ci/wheels.sh DIRECTORY PYTHON...
#
# with the tools of the virtual environment VENV, .venv if it is not set.
#
# On Linux auditwheel looks at what the wheels need of the system, and gives them the oldest
# manylinux tag that they keep, so that pip takes them on other distributions too.
set -euo pipefail

into=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools=$(cd "${VENV:-.venv}/bin" && pwd)

quietly() {
    "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; echo "ci/wheels.sh: failed: $*" >&2; exit 1; }
}

mkdir -p "$into"
quietly "$tools/python" -m build --sdist --outdir "$into" .
sdist=$(echo "$into"/*.tar.gz)
for python in "$@"; do
    rm -rf "$work/build" "$work/wheel"
    "$python" -m venv "$work/build"
    PGSTREAM_REQUIRE_EXT=1 quietly "$work/build/bin/python" -m pip wheel --no-cache-dir --no-deps \
        --wheel-dir "$work/wheel" "$sdist"
    if [ "$(uname -s)" = Linux ]; then
        PATH=$tools:$PATH quietly "$tools/auditwheel" repair --wheel-dir "$into" "$work"/wheel/*.whl
    else
        mv "$work"/wheel/*.whl "$into"
    fi
done
