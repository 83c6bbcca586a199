"""The mirror rule: the two decoders are the same file in two languages.

The same functions under the same names, in the same order, with the same docstrings, so that
a diff of the two is easy to read. The declarations and stubs beside them are held to it too.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pgstream
from pgstream import _decode_py, messages

PACKAGE = Path(pgstream.__file__).parent

# What one language needs and the other does not.
ONLY_CYTHON = [
    "read_payload",  # a reader may read many payloads
    "commit_position",  # in the other decode() compares a Commit with its Begin
    "moment",
    "entry",  # fills the table of C function pointers
]
ONLY_PYTHON = [
    "Reader.__init__",  # a cdef class begins zeroed; decode() sets the rest
    "Unusual",  # calls cost nothing there: decode() does nothing by itself
    "glanced",
]


def source(name: str) -> str:
    return (PACKAGE / name).read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Definition:
    """A class or function: its name, inside a class after that of the class, and docstring."""

    name: str
    docstring: str | None


def definitions_of_python(text: str) -> Iterator[Definition]:
    def visit(body: list[ast.stmt], prefix: str) -> Iterator[Definition]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield Definition(prefix + node.name, ast.get_docstring(node))
                yield from visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                yield Definition(prefix + node.name, ast.get_docstring(node))

    yield from visit(ast.parse(text).body, "")


_CLASS = re.compile(r"(?:cdef )?class (\w+)")
_FUNCTION = re.compile(r"( {4})?(?:cdef|cpdef|def) (?:[\w\[\] ]+[ *])?(\w+)\(")
_DOCSTRING = re.compile(r'\s*"""(.*?)"""', re.DOTALL)


def definitions_of_cython(text: str) -> Iterator[Definition]:
    """Read line by line: Cython has no ``ast``. Locals of functions are indented more deeply
    than methods, or stand after a function that is no method.
    """
    lines = text.splitlines()
    owner = ""
    for number, line in enumerate(lines):
        if match := _CLASS.match(line):
            owner = match[1]
            name = owner
        elif match := _FUNCTION.match(line):
            if not match[1]:
                owner = ""
            elif not owner:
                continue
            name = f"{owner}.{match[2]}" if owner else match[2]
        else:
            continue
        end = next(at for at in range(number, len(lines)) if lines[at].endswith(":"))
        docstring = _DOCSTRING.match("\n".join(lines[end + 1 :]))
        yield Definition(name, inspect.cleandoc(docstring[1]) if docstring else None)


def test_the_parser_of_cython() -> None:
    text = '''
cdef object _LSN = LSN
cdef enum:
    NULL = 1

@cython.final
cdef class Reader:
    """A reader."""

    cdef inline uint32_t u32(self) except? 0xFFFFFFFF:
        """Four
        bytes."""
        cdef int local = self.need(4)
        return 0

    @property
    def relations(self):
        return {}

    cpdef object decode(
        self, payload
    ):
        """Decode."""

cdef const char *name_of(Reader reader) noexcept:
    cdef int other = name(reader)
    return "x"

def plain():
    """Plain."""
'''
    assert list(definitions_of_cython(text)) == [
        Definition("Reader", "A reader."),
        Definition("Reader.u32", "Four\nbytes."),
        Definition("Reader.relations", None),
        Definition("Reader.decode", "Decode."),
        Definition("name_of", None),
        Definition("plain", "Plain."),
    ]


def test_same_definitions_in_the_same_order() -> None:
    cython = [one.name for one in definitions_of_cython(source("_decode.pyx"))]
    python = [one.name for one in definitions_of_python(source("_decode_py.py"))]
    assert len(set(cython)) == len(cython)
    assert len(set(python)) == len(python)
    # The lists of exceptions hold no more than they have to.
    assert set(ONLY_CYTHON) <= set(cython) - set(python)
    assert set(ONLY_PYTHON) <= set(python) - set(cython)
    assert [name for name in cython if name not in ONLY_CYTHON] == [
        name for name in python if name not in ONLY_PYTHON
    ]


def test_same_docstrings() -> None:
    cython = {one.name: one.docstring for one in definitions_of_cython(source("_decode.pyx"))}
    python = {one.name: one.docstring for one in definitions_of_python(source("_decode_py.py"))}
    for name in ONLY_CYTHON:
        del cython[name]
    for name in ONLY_PYTHON:
        del python[name]
    assert cython == python
    # Constructors are described by their classes.
    undocumented = [name for name, docstring in python.items() if not docstring]
    assert undocumented == [name for name in python if name.endswith(".__init__")]


def test_same_words_at_the_top() -> None:
    cython = _DOCSTRING.search(source("_decode.pyx"))
    python = ast.get_docstring(ast.parse(source("_decode_py.py")), clean=False)
    assert cython is not None
    assert python is not None
    cython_lines, python_lines = cython[1].splitlines(), python.splitlines()
    assert len(cython_lines) == len(python_lines)
    different = [
        pair for pair in zip(cython_lines, python_lines, strict=True) if pair[0] != pair[1]
    ]
    # Each names the other, and says what its own reader is.
    assert len(different) == 2


def test_every_message_has_its_function() -> None:
    """The tables of both: the byte, the name of the message, and whether a block may hold it."""
    python = {
        byte: (kind, decode.__name__, inside)
        for byte, (kind, decode, inside) in _decode_py.DECODERS.items()
    }
    entries = re.findall(
        r'^entry\(0x(\w\w), "(\w+)", (\w+), (True|False)\)$', source("_decode.pyx"), re.MULTILINE
    )
    cython = {
        int(byte, 16): (kind, decode, inside == "True") for byte, kind, decode, inside in entries
    }
    assert list(cython.items()) == list(python.items())
    assert bytes(sorted(python)) == bytes(sorted(b"BCORYIUDTMSEcAbPKrp"))
    for kind, decode, _ in python.values():
        assert inspect.isclass(getattr(messages, kind))
        assert decode == "decode_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()


def test_same_messages_of_errors() -> None:
    """Errors read alike: the tests of parity compare them, this finds those they do not reach."""

    def reasons(text: str) -> list[str]:
        return re.findall(r'(?:error\(|plan, index, |reason = )\s*f?("[^"]*")', text)

    def constants(listed: list[str]) -> list[str]:
        return [reason.replace("_MAX_COLUMNS", "MAX_COLUMNS") for reason in listed]

    found = constants(reasons(source("_decode.pyx")))
    flag = '"byte {self.data[self.at - 1]}, expected {wanted}"'
    wanted = reasons(source("_decode_py.py"))
    assert len(found) > 15
    assert found == ['"byte {byte}, expected {wanted}"' if one == flag else one for one in wanted]


# The loaders.


def test_compiled_loaders_stand_for_those_of_the_same_name() -> None:
    table = source("types/_loaders.pyx").partition("\nCOMPILED = {\n")[2].partition("\n}\n")[0]
    rows = re.findall(r"^    ([\w.]+): make\((\w+), ([\w.]+)\),$", table, re.MULTILINE)
    assert len(rows) == len(table.splitlines()) > 15
    for key, function, stands_for in rows:
        assert key == stands_for
        assert key.rpartition(".")[2] == function or (key, function) == ("bytes", "bytea_binary")


# messages.pxd.


def _is_message(value: Any) -> bool:
    return inspect.isclass(value) and dataclasses.is_dataclass(value)


def test_declarations_of_the_messages() -> None:
    """messages.pxd has the dataclasses of messages.py, their fields, and nothing else."""
    declared: dict[str, list[str]] = {}
    for line in source("messages.pxd").splitlines():
        if match := re.fullmatch(r"cdef class (\w+):", line):
            fields = declared.setdefault(match[1], [])
        elif match := re.fullmatch(r"    cdef readonly object (\w+)", line):
            fields.append(match[1])
        else:
            assert not line.strip() or line.startswith("#") or line == "    pass"
    wanted = {
        name: [field.name for field in dataclasses.fields(value)]
        for name, value in vars(messages).items()
        if _is_message(value)
    }
    assert list(declared.items()) == list(wanted.items())


# _decode.pyi.


def _signature(node: ast.FunctionDef) -> tuple[str, str, str, list[str]]:
    """Name, arguments without their defaults, result, decorators."""
    arguments = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(arguments, ast.FunctionDef)
    has_default = [default is not None for default in arguments.args.kw_defaults]
    for at, wanted in enumerate(has_default):
        arguments.args.kw_defaults[at] = ast.Constant(...) if wanted else None
    arguments.args.defaults = [ast.Constant(...) for _ in arguments.args.defaults]
    return (
        node.name,
        ast.unparse(arguments.args),
        ast.unparse(node.returns) if node.returns else "",
        [ast.unparse(decorator) for decorator in node.decorator_list],
    )


def _public_methods(text: str) -> list[tuple[str, str, str, list[str]]]:
    decoder = next(
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and node.name == "Decoder"
    )
    return [
        _signature(node)
        for node in decoder.body
        if isinstance(node, ast.FunctionDef)
        and (node.name == "__init__" or not node.name.startswith("_"))
    ]


def test_stub_has_the_signatures_of_the_twin() -> None:
    stub = _public_methods(source("_decode.pyi"))
    assert stub == _public_methods(source("_decode_py.py"))
    assert [name for name, *_ in stub] == [
        "__init__",
        "relations",
        "unknown_types",
        "add_types",
        "register_loader",
        "decode",
        "decode_many",
        "decode_run",
        "copy_rows",
    ]


def test_public_names_of_the_decoder(decoder_impl: Any) -> None:
    public = [name for name in dir(decoder_impl) if not name.startswith("_")]
    assert public == [
        "add_types",
        "copy_rows",
        "decode",
        "decode_many",
        "decode_run",
        "register_loader",
        "relations",
        "unknown_types",
    ]
    assert decoder_impl.__name__ == "Decoder"
    assert inspect.getdoc(decoder_impl) == inspect.getdoc(_decode_py.Decoder)
    for name in public:
        here, there = getattr(decoder_impl, name), getattr(_decode_py.Decoder, name)
        assert inspect.getdoc(here) == inspect.getdoc(there)


# Which of the two is used.

SHOW = "from pgstream import Decoder, decoder; print(decoder.__impl__, Decoder.__module__)"


def run(implementation: str | None, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Import pgstream in a process of its own, from another directory if ``path`` is given."""
    environment = {key: value for key, value in os.environ.items() if key != "PGSTREAM_IMPL"}
    if implementation is not None:
        environment["PGSTREAM_IMPL"] = implementation
    if path is not None:
        paths = [str(path), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", SHOW],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@pytest.fixture
def plain_copy(tmp_path: Path) -> Path:
    """A directory with the package as it is where nothing could be compiled."""
    left_out = shutil.ignore_patterns("*.so", "*.pyd", "*.c", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "pgstream", ignore=left_out)
    return tmp_path


def test_implementation_that_is_asked_for(decoder_impl: Any) -> None:
    module = decoder_impl.__module__
    wanted = {"pgstream._decode": "cython", "pgstream._decode_py": "python"}[module]
    result = run(wanted)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{wanted} {module}\n", "")


def test_cython_is_used_where_it_is_there(decoder_impl: Any) -> None:
    if decoder_impl.__module__ == "pgstream._decode":
        for implementation in (None, ""):
            assert run(implementation).stdout == "cython pgstream._decode\n"


@pytest.mark.parametrize("implementation", ["nonsense", "Cython", "python "])
def test_implementation_that_does_not_exist(implementation: str) -> None:
    result = run(implementation)
    assert result.returncode == 1
    assert "ConfigError" in result.stderr
    assert repr(implementation) in result.stderr
    assert "Hint: set it to 'cython' or 'python'" in result.stderr


@pytest.mark.parametrize("implementation", [None, "", "python"])
def test_python_where_nothing_is_compiled(plain_copy: Path, implementation: str | None) -> None:
    result = run(implementation, plain_copy)
    assert (result.stdout, result.stderr) == ("python pgstream._decode_py\n", "")


def test_cython_where_nothing_is_compiled(plain_copy: Path) -> None:
    result = run("cython", plain_copy)
    assert result.returncode == 1
    assert "ImportError: PGSTREAM_IMPL=cython, but the compiled decoder cannot be loaded" in (
        result.stderr
    )
    assert "PGSTREAM_REQUIRE_EXT=1" in result.stderr


@pytest.mark.parametrize("implementation", [None, "cython"])
def test_broken_extension_is_not_hidden(plain_copy: Path, implementation: str | None) -> None:
    broken = plain_copy / "pgstream" / "_decode.py"
    broken.write_text('raise ImportError("undefined symbol: broken")\n')
    result = run(implementation, plain_copy)
    assert result.returncode == 1
    assert "undefined symbol: broken" in result.stderr
    assert run("python", plain_copy).stdout == "python pgstream._decode_py\n"


@pytest.mark.parametrize("implementation", [None, "cython"])
def test_extension_with_something_missing_is_not_hidden(
    plain_copy: Path, implementation: str | None
) -> None:
    broken = plain_copy / "pgstream" / "_decode.py"
    broken.write_text("import pgstream_has_no_such_module\n")
    result = run(implementation, plain_copy)
    assert result.returncode == 1
    assert "pgstream_has_no_such_module" in result.stderr
