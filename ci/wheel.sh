#!/usr/bin/env bash
# Builds the sdist and the wheel as they are released (ci/wheels.sh); installs each into an
# empty environment, away from the tree, and runs what users would run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH PGSTREAM_IMPL PGSTREAM_REQUIRE_EXT

export VENV=${VENV:-.venv}
make "$VENV/.ready"
python=$(cd "$VENV/bin" && pwd)/python

fail() {
    echo "ci/wheel.sh: $*" >&2
    exit 1
}

install() { # DIRECTORY WHAT: into a new environment
    "$python" -m venv "$1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir "$2"
}

demo() { # DIRECTORY SECONDS: run the demo, which must show events
    "$1/bin/pgstream" demo --seconds "$2" --format json >"$work/events"
    for op in insert update delete truncate; do
        grep -q "^{\"op\":\"$op\"," "$work/events" || fail "the demo shows no $op"
    done
    echo "  $(wc -l <"$work/events") events"
}

uses() { # DIRECTORY IMPLEMENTATION: the decoder that it chooses
    local found
    found=$("$1/bin/python" -c 'import pgstream.decoder as d; print(d.__impl__)')
    [ "$found" = "$2" ] || fail "expected the $2 decoder, found $found"
}

echo "== sdist and wheel"
bash ci/wheels.sh "$work/dist" "$python"
sdist=$(echo "$work"/dist/*.tar.gz)
wheel=$(echo "$work"/dist/*.whl)
"$python" -m tarfile -l "$sdist" >"$work/contents"
for file in LICENSE CHANGELOG.md docs/types.md examples/copy_to_postgres.py tests/conftest.py; do
    grep -q "^[^/]*/$file *$" "$work/contents" || fail "the sdist has no $file"
done
"$python" -m zipfile -l "$wheel" >"$work/contents"
for module in _decode messages types/_loaders; do
    grep -q "^pgstream/$module\..*\.so " "$work/contents" || fail "$module is not compiled"
done
for file in pgstream/py.typed pgstream/_decode.pyi '[^/]*/licenses/LICENSE'; do
    grep -q "^$file " "$work/contents" || fail "the wheel has no $file"
done
! grep -E '^[^/]*tests|\.c ' "$work/contents" || fail "this does not belong in the wheel"
[ "$(uname -s)" != Linux ] || [[ $wheel == *manylinux* ]] || fail "for this machine alone: $wheel"
cd "$work"

echo "== the wheel, in an empty environment"
install "$work/wheel" "$wheel[demo]"
uses "$work/wheel" cython
demo "$work/wheel" 5
export PGSTREAM_IMPL=python
uses "$work/wheel" python
demo "$work/wheel" 5
unset PGSTREAM_IMPL

echo "== the sdist, without a compiler"
CC=false install "$work/sdist" "$sdist[demo]"
uses "$work/sdist" python
demo "$work/sdist" 5
