# Turns the dataclasses of messages.py into extension types: the same names and fields,
# read-only from Python, stores into a C struct from Cython. Kept equal by a test.

cdef class Begin:
    cdef readonly object xid
    cdef readonly object commit_lsn
    cdef readonly object commit_time
    cdef readonly object redelivered

cdef class Commit:
    cdef readonly object xid
    cdef readonly object commit_lsn
    cdef readonly object end_lsn
    cdef readonly object commit_time

cdef class Origin:
    cdef readonly object name
    cdef readonly object commit_lsn

cdef class Column:
    cdef readonly object name
    cdef readonly object type_oid
    cdef readonly object type_modifier
    cdef readonly object is_key

cdef class Relation:
    cdef readonly object oid
    cdef readonly object schema
    cdef readonly object table
    cdef readonly object replica_identity
    cdef readonly object columns

cdef class Type:
    cdef readonly object oid
    cdef readonly object schema
    cdef readonly object name

cdef class Insert:
    cdef readonly object relation
    cdef readonly object new
    cdef readonly object lsn
    cdef readonly object xid
    cdef readonly object commit_lsn
    cdef readonly object commit_time
    cdef readonly object ordinal
    cdef readonly object gid

cdef class Update:
    cdef readonly object relation
    cdef readonly object old
    cdef readonly object new
    cdef readonly object lsn
    cdef readonly object xid
    cdef readonly object commit_lsn
    cdef readonly object commit_time
    cdef readonly object ordinal
    cdef readonly object gid

cdef class Delete:
    cdef readonly object relation
    cdef readonly object old
    cdef readonly object lsn
    cdef readonly object xid
    cdef readonly object commit_lsn
    cdef readonly object commit_time
    cdef readonly object ordinal
    cdef readonly object gid

cdef class Truncate:
    cdef readonly object relations
    cdef readonly object cascade
    cdef readonly object restart_identity
    cdef readonly object lsn
    cdef readonly object xid
    cdef readonly object commit_lsn
    cdef readonly object commit_time
    cdef readonly object ordinal
    cdef readonly object gid

cdef class LogicalMessage:
    cdef readonly object prefix
    cdef readonly object content
    cdef readonly object transactional
    cdef readonly object lsn
    cdef readonly object xid
    cdef readonly object commit_lsn
    cdef readonly object commit_time
    cdef readonly object ordinal
    cdef readonly object gid

cdef class StreamStart:
    cdef readonly object xid
    cdef readonly object first

cdef class StreamStop:
    pass

cdef class StreamCommit:
    cdef readonly object xid
    cdef readonly object commit_lsn
    cdef readonly object end_lsn
    cdef readonly object commit_time

cdef class StreamAbort:
    cdef readonly object xid
    cdef readonly object subxid
    cdef readonly object abort_lsn
    cdef readonly object abort_time

cdef class BeginPrepare:
    cdef readonly object xid
    cdef readonly object gid
    cdef readonly object prepare_lsn
    cdef readonly object end_lsn
    cdef readonly object prepare_time
    cdef readonly object redelivered

cdef class Prepare:
    cdef readonly object xid
    cdef readonly object gid
    cdef readonly object prepare_lsn
    cdef readonly object end_lsn
    cdef readonly object prepare_time

cdef class CommitPrepared:
    cdef readonly object xid
    cdef readonly object gid
    cdef readonly object commit_lsn
    cdef readonly object end_lsn
    cdef readonly object commit_time

cdef class RollbackPrepared:
    cdef readonly object xid
    cdef readonly object gid
    cdef readonly object prepare_end_lsn
    cdef readonly object end_lsn
    cdef readonly object prepare_time
    cdef readonly object rollback_time

cdef class StreamPrepare:
    cdef readonly object xid
    cdef readonly object gid
    cdef readonly object prepare_lsn
    cdef readonly object end_lsn
    cdef readonly object prepare_time

cdef class SnapshotBegin:
    cdef readonly object lsn
    cdef readonly object relations

cdef class SnapshotRow:
    cdef readonly object relation
    cdef readonly object new
    cdef readonly object lsn
    cdef readonly object ordinal

cdef class SnapshotEnd:
    cdef readonly object lsn
    cdef readonly object rows

cdef class Keepalive:
    cdef readonly object end_lsn
    cdef readonly object send_time
    cdef readonly object reply_requested
