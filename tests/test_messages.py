"""The messages: plain values, whether their module is compiled or not."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import inspect
import os
import pickle
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pgstream import messages
from pgstream.lsn import LSN
from pgstream.messages import (
    UNCHANGED,
    Begin,
    BeginPrepare,
    Column,
    Commit,
    CommitPrepared,
    Delete,
    Insert,
    Keepalive,
    LogicalMessage,
    Origin,
    Prepare,
    Relation,
    RollbackPrepared,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRow,
    StreamAbort,
    StreamCommit,
    StreamPrepare,
    StreamStart,
    StreamStop,
    Truncate,
    Type,
    Unchanged,
    Update,
)

TIME = datetime(2026, 11, 22, 8, 12, 0, 123456, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 8, 13, tzinfo=UTC)
COLUMN = Column("id", 23, -1, True)
RELATION = Relation(16384, "public", "users", "d", (COLUMN, Column("bio", 25, -1, False)))
PLACE = (LSN(0x100), 733, LSN(0x200), TIME)

SAMPLES: tuple[Any, ...] = (
    Begin(733, LSN(0x200), TIME),
    Commit(733, LSN(0x200), LSN(0x230), TIME),
    Origin("elsewhere", LSN(0x55)),
    COLUMN,
    RELATION,
    Type(16999, "public", "mood"),
    Insert(RELATION, {"id": 1, "bio": None}, *PLACE, 0),
    Update(RELATION, {"id": 1}, {"id": 2, "bio": UNCHANGED}, *PLACE, 1, "gid 1"),
    Delete(RELATION, {"id": 2}, *PLACE, 2),
    Truncate((RELATION, RELATION), True, False, *PLACE, 3),
    LogicalMessage("note", b"\x00\xff", True, *PLACE, 5),
    LogicalMessage("note", b"", False, LSN(0x100), None, None, None, None),
    StreamStart(734, True),
    StreamStop(),
    StreamCommit(734, LSN(0x200), LSN(0x230), TIME),
    StreamAbort(734, 735, None, None),
    StreamAbort(734, 734, LSN(0x300), TIME),
    BeginPrepare(736, "gid 1", LSN(0x200), LSN(0x230), TIME),
    Prepare(736, "gid 1", LSN(0x200), LSN(0x230), TIME),
    CommitPrepared(736, "gid 1", LSN(0x200), LSN(0x230), TIME),
    RollbackPrepared(736, "gid 1", LSN(0x230), LSN(0x300), TIME, LATER),
    StreamPrepare(737, "gid 2", LSN(0x200), LSN(0x230), TIME),
    SnapshotBegin(LSN(0x400), (RELATION,)),
    SnapshotRow(RELATION, {"id": 1, "bio": None}, LSN(0x400), 0),
    SnapshotEnd(LSN(0x400), 1),
    Keepalive(LSN(0x400), TIME, True),
)

ids = [f"{i}-{type(sample).__name__}" for i, sample in enumerate(SAMPLES)]
each = pytest.mark.parametrize("sample", SAMPLES, ids=ids)


def _hashable(sample: Any) -> bool:
    return not isinstance(sample, (Insert, Update, Delete, SnapshotRow))


def test_every_class_has_a_sample() -> None:
    classes = {
        value
        for value in vars(messages).values()
        if inspect.isclass(value) and dataclasses.is_dataclass(value)
    }
    assert {type(sample) for sample in SAMPLES} == classes


@each
def test_is_a_documented_dataclass(sample: Any) -> None:
    assert dataclasses.is_dataclass(sample)
    assert type(sample).__doc__
    assert not type(sample).__doc__.startswith(f"{type(sample).__name__}(")


@each
def test_repr_names_class_and_fields(sample: Any) -> None:
    names = [field.name for field in dataclasses.fields(sample)]
    fields = ", ".join(f"{name}={getattr(sample, name)!r}" for name in names)
    assert repr(sample) == f"{type(sample).__name__}({fields})"


def test_repr_reads_well() -> None:
    assert repr(SAMPLES[7]) == (
        "Update(relation=Relation(oid=16384, schema='public', table='users', "
        "replica_identity='d', columns=(Column(name='id', type_oid=23, type_modifier=-1, "
        "is_key=True), Column(name='bio', type_oid=25, type_modifier=-1, is_key=False))), "
        "old={'id': 1}, new={'id': 2, 'bio': UNCHANGED}, lsn=LSN('0/100'), xid=733, "
        "commit_lsn=LSN('0/200'), commit_time=datetime.datetime(2026, 11, 22, 8, 12, 0, 123456, "
        f"tzinfo={UTC!r}), ordinal=1, gid='gid 1')"
    )


@each
def test_equal_to_its_twin_by_position_and_by_name(sample: Any) -> None:
    values = {field.name: getattr(sample, field.name) for field in dataclasses.fields(sample)}
    assert type(sample)(*values.values()) == sample
    assert type(sample)(**values) == sample
    assert (type(sample)(**values) != sample) is False


def test_no_two_samples_are_equal() -> None:
    for i, one in enumerate(SAMPLES):
        for other in SAMPLES[i + 1 :]:
            assert one != other


def test_equality_does_not_ignore_the_class() -> None:
    assert Prepare(736, "g", LSN(1), LSN(2), TIME) != StreamPrepare(736, "g", LSN(1), LSN(2), TIME)
    assert StreamStop() != ()
    assert Origin("a", LSN(0)) != ("a", LSN(0))


@each
def test_each_field_counts_for_equality(sample: Any) -> None:
    for field in dataclasses.fields(sample):
        counts = field.name != "redelivered"  # says how it came, not what it is
        assert (dataclasses.replace(sample, **{field.name: object()}) != sample) == counts


@each
def test_frozen(sample: Any) -> None:
    for field in dataclasses.fields(sample):
        value = getattr(sample, field.name)
        with pytest.raises(AttributeError):
            setattr(sample, field.name, None)
        with pytest.raises(AttributeError):
            delattr(sample, field.name)
        assert getattr(sample, field.name) is value


@each
def test_hash(sample: Any) -> None:
    if _hashable(sample):
        assert hash(sample) == hash(copy.deepcopy(sample))
        assert {sample: 1}[copy.deepcopy(sample)] == 1
    else:
        with pytest.raises(TypeError):
            hash(sample)


@each
def test_copy(sample: Any) -> None:
    for twin in (copy.copy(sample), copy.deepcopy(sample)):
        assert type(twin) is type(sample)
        assert twin == sample
        assert repr(twin) == repr(sample)


@each
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(sample: Any, protocol: int) -> None:
    twin = pickle.loads(pickle.dumps(sample, protocol))
    assert type(twin) is type(sample)
    assert twin == sample
    assert repr(twin) == repr(sample)


@each
def test_matches_by_position(sample: Any) -> None:
    fields = tuple(field.name for field in dataclasses.fields(sample))
    assert type(sample).__match_args__ == fields


def test_match() -> None:
    found = []
    for sample in SAMPLES:
        match sample:
            case Insert(relation=rel, new={"id": key}):
                found.append(("insert", rel.table, key))
            case Update(Relation(table=table), old, {"bio": Unchanged.UNCHANGED}):
                found.append(("update", table, old))
            case Delete(old=row, ordinal=ordinal):
                found.append(("delete", row, ordinal))
            case StreamStop():
                found.append(("stop",))
    assert found == [
        ("insert", "users", 1),
        ("update", "users", {"id": 1}),
        ("delete", {"id": 2}, 2),
        ("stop",),
    ]


@each
def test_replace_and_asdict(sample: Any) -> None:
    assert dataclasses.replace(sample) == sample
    assert list(dataclasses.asdict(sample)) == [field.name for field in dataclasses.fields(sample)]


def test_gid_is_none_by_default() -> None:
    assert Insert(RELATION, {}, *PLACE, 0).gid is None
    assert Update(RELATION, None, {}, *PLACE, 0).gid is None
    assert Delete(RELATION, {}, *PLACE, 0).gid is None
    assert Truncate((), False, False, *PLACE, 0).gid is None
    assert LogicalMessage("", b"", True, *PLACE, 0).gid is None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_unchanged_is_one_object(protocol: int) -> None:
    assert pickle.loads(pickle.dumps(UNCHANGED, protocol)) is UNCHANGED
    assert copy.copy(UNCHANGED) is UNCHANGED
    assert copy.deepcopy({"bio": UNCHANGED})["bio"] is UNCHANGED
    event = Update(RELATION, None, {"bio": UNCHANGED}, *PLACE, 0)
    assert copy.deepcopy(event).new["bio"] is UNCHANGED
    assert pickle.loads(pickle.dumps(event, protocol)).new["bio"] is UNCHANGED


def test_unchanged_is_not_none_and_prints_its_name() -> None:
    assert UNCHANGED is not None
    assert UNCHANGED is Unchanged.UNCHANGED
    assert (str(UNCHANGED), repr(UNCHANGED), f"{UNCHANGED}") == ("UNCHANGED",) * 3
    assert list(Unchanged) == [UNCHANGED]


# A plain copy of the package, without extensions: another process writes there what this
# one reads, and the other way round.

WRITE = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
from pgstream import messages
assert messages.__file__.endswith(".py"), messages.__file__
samples = pickle.load(sys.stdin.buffer)
for sample in samples:
    assert type(sample).__module__ == "pgstream.messages"
pickle.dump((samples, [repr(sample) for sample in samples]), sys.stdout.buffer)
"""


def test_pickles_pass_between_compiled_and_plain_modules(tmp_path: Path) -> None:
    package = tmp_path / "pgstream"
    package.mkdir()
    (package / "__init__.py").touch()
    source = Path(messages.__file__).parent
    for name in ("messages.py", "lsn.py"):
        shutil.copy(source / name, package)
    result = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path)],
        input=pickle.dumps(SAMPLES),
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert result.returncode == 0, result.stderr.decode()
    samples, reprs = pickle.loads(result.stdout)
    assert samples == SAMPLES
    assert reprs == [repr(sample) for sample in SAMPLES]
    assert samples[7].new["bio"] is UNCHANGED


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module as it is where nothing is compiled."""
    path = Path(messages.__file__).with_name("messages.py")
    spec = importlib.util.spec_from_file_location("pgstream.plain_messages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_constructors_of_plain_messages(plain: Any) -> None:
    for sample in SAMPLES:
        kind = getattr(plain, type(sample).__name__)
        written = kind.__init__.__wrapped__  # what dataclass would have had called
        assert inspect.signature(kind.__init__) == inspect.signature(written)
        assert kind.__init__.__qualname__ == written.__qualname__ == f"{kind.__name__}.__init__"
        names = [field.name for field in dataclasses.fields(kind)]
        values = {name: getattr(sample, name) for name in names}
        made = kind(*values.values())
        assert vars(made) == values
        assert list(vars(made)) == names
        other = object.__new__(kind)
        written(other, **values)
        assert made == kind(**values) == other
        assert repr(made) == repr(other) == repr(sample)
        for name in names:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(made, name, None)
        with pytest.raises(TypeError, match=rf"{kind.__name__}.__init__\(\)"):
            kind(*values.values(), None)
    assert plain.Begin(1, LSN(2), TIME).redelivered is False
    assert plain.Insert(RELATION, {}, *PLACE, 0).gid is None
    with pytest.raises(TypeError, match=r"Insert.__init__\(\) missing 1 .*'ordinal'"):
        plain.Insert(RELATION, {}, *PLACE)
