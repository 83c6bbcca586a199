"""The command line.

``main``         what the command ``pgstream`` calls: exit codes and error messages
``options``      options that commands share
``environment``  the file ``.env``
``messages``     what is said to the person at the terminal
``signals``      ctrl-C and SIGTERM
``output``       where events are shown
``streams``      ``run``, ``record``, ``replay``, ``demo``
``admin``        ``doctor``, ``slot``
"""

from .main import main

__all__ = ["main"]
