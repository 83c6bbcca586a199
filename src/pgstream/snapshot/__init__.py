"""The initial copy: every row of the published tables, as they stand where the stream begins.

A temporary slot marks the position and exports a snapshot of it. The tables are read by
``COPY``, several at once, each over an ordinary connection that has taken on the same
snapshot. Once all of it is acknowledged the temporary slot becomes the permanent one, and
the stream goes on from its position: no gap, no overlap. Until then nothing is left
behind on the server by a crash, and no state is kept anywhere: the copy starts again.

=================  =========================================================
``course.py``      the course of it, as steps
``slot.py``        the temporary slot, and how it becomes permanent
``plan.py``        what is copied: the published tables, and in which pieces
``rows.py``        what COPY sends, as rows
``copy.py``        the connections and threads that read, and their queue
``progress.py``    how far it has come
=================  =========================================================
"""

from .course import InitialCopy
from .progress import SnapshotProgress

__all__ = ["InitialCopy", "SnapshotProgress"]
