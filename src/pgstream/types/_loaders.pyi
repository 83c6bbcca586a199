from . import Loader as PythonLoader

class Loader:
    python: PythonLoader

COMPILED: dict[PythonLoader, Loader]
