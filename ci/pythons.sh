#!/bin/sh
# Prints the CPythons from 3.11 up that this machine has, one for each minor version, as
# "3.12 /path/to/python3.12". The one that is called python3 comes first, if it is one of them.
# Looked for on PATH and among pyenv's; a pre-release, or one that cannot make a virtual
# environment, does not count.

check='
import sys
assert sys.implementation.name == "cpython" and sys.version_info[:2] >= (3, 11)
assert sys.version_info.releaselevel == "final"
import ensurepip, sysconfig, venv
assert not sysconfig.get_config_var("Py_GIL_DISABLED")
print("%d.%d" % sys.version_info[:2], sys.executable)
'

candidates() {
    echo python3
    IFS=:
    for directory in $PATH; do
        ls -d "$directory"/python3.[0-9] "$directory"/python3.[0-9][0-9] 2>/dev/null
    done
    ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3 2>/dev/null
}

candidates | while read -r candidate; do
    "$candidate" -c "$check" 2>/dev/null
done | awk '!seen[$1]++'
