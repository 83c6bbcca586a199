"""The extension modules. Everything else about the package stands in pyproject.toml.

The extensions are optional: where they cannot be compiled, the package installs
without them and runs in pure Python. ``PGSTREAM_REQUIRE_EXT=1`` makes that an error.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

required = os.environ.get("PGSTREAM_REQUIRE_EXT", "0") not in ("", "0")

# messages.py is ordinary Python; the .pxd beside it makes its classes extension types.
# Its generated methods are much code that is seldom run: -O1 keeps the build short.
modules = {
    "pgstream.messages": ("src/pgstream/messages.py", "-O1"),
    "pgstream.types._documents": ("src/pgstream/types/_documents.pyx", "-O3"),
    "pgstream.types._loaders": ("src/pgstream/types/_loaders.pyx", "-O3"),
    "pgstream._drain": ("src/pgstream/_drain.pyx", "-O3"),
    "pgstream._rows": ("src/pgstream/_rows.pyx", "-O3"),
    "pgstream._decode": ("src/pgstream/_decode.pyx", "-O3"),
    "pgstream._json": ("src/pgstream/_json.pyx", "-O3"),
}

extensions = cythonize(
    [
        Extension(name, [source], extra_compile_args=[optimise])
        for name, (source, optimise) in modules.items()
    ],
    build_dir="build",
    include_path=["src"],
    compiler_directives={"language_level": 3},
)
for extension in extensions:  # cythonize makes extensions of its own, without this
    extension.optional = not required

setup(ext_modules=extensions)
