"""What a new name in a directory needs to outlast a crash of the machine."""

from __future__ import annotations

import errno
import os
from os import PathLike, fspath
from typing import Final

# Directories that may not be read, and file systems that do not sync any: PostgreSQL, too, lets
# these pass. ENOENT: an open file without a name.
_PASSED: Final = frozenset({errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOENT})


def sync_name(path: str | PathLike[str]) -> None:
    """Return when the disk has the name of a file; syncing the file itself does not promise it.

    Args:
        path: A file that was made or renamed. Of a symbolic link, what it points to counts.

    Raises:
        OSError: if the disk cannot take it.
    """
    try:
        folder = os.open(os.path.dirname(os.path.realpath(fspath(path))), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno not in _PASSED:
            raise
