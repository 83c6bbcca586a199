"""``python -m pgstream``: the same as the command ``pgstream``. Python has loaded the package by
then, and shows where it was if ctrl-C came before."""

from _pgstream_command import main

if __name__ == "__main__":
    main()
