#!/usr/bin/env bash
# Everything that has to hold before a change lands. The tests come last, so that the last
# line is their summary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

make servers
make lint
bash ci/wheel.sh
make test
