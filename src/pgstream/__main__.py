"""``python -m pgstream``: the same as the command ``pgstream``."""

from .cli import main

if __name__ == "__main__":
    main()
