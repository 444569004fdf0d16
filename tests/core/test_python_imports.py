"""The imports of Python sources. For real modules they are those that Python's own parser finds; hostile
bytes raise no exception."""

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core import python_imports
from lazyfs.core.python_imports import IMPORTS, NAMES, SOURCE, Import, module_imports, names_in

LIBRARY = Path(sysconfig.get_path("stdlib"))
FOLDERS = (".", "email", "json", "http", "xml/dom")
REAL = sorted(path for folder in FOLDERS for path in (LIBRARY / folder).glob("*.py"))[::2]
NEVER = ("TYPE_CHECKING", "__name__", "sys.platform == 'win32'")
NAME = st.sampled_from(["numpy", "os.path", "a.b.c", "x", "_y2"])
Found = list[tuple[bytes, int, tuple[bytes, ...]]]


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields the statements that run at import, without the branches that never run on Linux."""
    for one in body:
        yield one
        if isinstance(one, ast.If) and any(text in ast.unparse(one.test) for text in NEVER):
            yield from statements(one.orelse)
        elif not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from statements(getattr(one, field, []))


def reference(source: bytes) -> Found:
    """Returns the imports that Python's own parser finds, without those of `except` blocks."""
    found: Found = []
    for one in statements(ast.parse(source).body):
        if isinstance(one, ast.Import):
            found += [(name.name.encode(), 0, ()) for name in one.names]
        elif isinstance(one, ast.ImportFrom):
            names = tuple(name.name.encode() for name in one.names if name.name != "*")
            found.append(((one.module or "").encode(), one.level, names))
    return found


def plain(imports: list[Import]) -> Found:
    return [(one.module, one.level, one.names) for one in imports if one.instead is None]


def modules(source: str, *, is_main: bool = False) -> list[str]:
    return [one.module.decode() for one in module_imports(source.encode(), is_main=is_main)]


def test_real_modules_import_what_pythons_parser_says() -> None:
    assert len(REAL) > 100
    differing = {}
    for path in REAL:
        source = path.read_bytes()
        found, expected = plain(module_imports(source)), reference(source)
        if found != expected:
            differing[path.name] = (set(expected) - set(found), set(found) - set(expected))
    assert not differing


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a, b.c as d; import e", ["a", "b.c", "e"]),
        ("from a import (\n  b,  # c)\n  d,\n)\nimport e", ["a", "e"]),
        ("import a, \\\n  b", ["a", "b"]),
        ("if x: import a\nelse: import b", ["a", "b"]),
        ("with x:\n\tfor y in z:\n\t\timport a", ["a"]),
        ("class A:\n  import a\n  def f(self):\n    import b\n  import c", ["a", "c"]),
        ("async def f():\n  import a\nimport b", ["b"]),
        ("def f():\n  if x:\n    import a\n  import b\nimport c", ["c"]),
        ('\'import a\'\nx = """\nimport b\n"""\n# import c\nimport d', ["d"]),
        ("x = '\\''\nimport a\n'''\nimport b\n'''", ["a"]),
        ("if TYPE_CHECKING:\n  import a\nelse:\n  import b", ["b"]),
        ("if typing.TYPE_CHECKING:\n  import a", []),
        ("if sys.platform == 'win32':\n  import a\nelif sys.platform != 'linux':\n  import b", []),
        ("if sys.platform == 'linux':\n  import a\nif os.name == 'posix':\n  import b", ["a", "b"]),
        ("type X = int\nimport a\nmatch x:\n  case 1:\n    import b", ["a", "b"]),
        ("print 'python 2'\nexec code in x\nimport a", ["a"]),
        ("\ufeffimport a\r\nimport b\rimport c", ["a", "b", "c"]),
        ("importing = 1\nfromage = 2\nimport a", ["a"]),
        ("import 1a, \u00fcber, b", ["b"]),
        ("from a import (b\nimport c", []),
    ],
)
def test_what_runs_at_import(source: str, expected: list[str]) -> None:
    assert modules(source) == expected


def test_what_runs_in_a_script_only() -> None:
    source = "import a\nif __name__ == '__main__':\n  import b\n  def f():\n    import c"
    assert modules(source) == ["a"]
    assert modules(source, is_main=True) == ["a", "b"]


def test_attributes_in_a_script_may_be_modules() -> None:
    source = b"import a, b.c as d\nfrom .e import e\na.f(d.g.h, x.a.i, 'a.j', a.f, e.k)  # a.l"
    expected = [(b"a", 0, (b"f",)), (b"b.c", 0, (b"g",))]
    assert plain(module_imports(source, is_main=True))[3:] == expected
    assert len(module_imports(source)) == 3
    many = b"import a\n" + b"".join(b"a.b%d\n" % number for number in range(NAMES + 9))
    assert len(module_imports(many, is_main=True)) == 1 + NAMES


def test_relative_imports() -> None:
    source = b"from . import a, b as c\nfrom .. d import (e)\nfrom ...f.g import *\nfrom.h import i"
    expected = [(b"", 1, (b"a", b"b")), (b"d", 2, (b"e",)), (b"f.g", 3, ()), (b"h", 1, (b"i",))]
    assert plain(module_imports(source)) == expected


def test_an_except_block_stands_in_for_its_try() -> None:
    source = (
        b"try:\n  import a\n  if x:\n    from b import c\nexcept ImportError:\n  import d\n"
        b"except OSError:\n  import e\nelse:\n  import f\nfinally:\n  import g\n"
    )
    instead = (Import(b"a", 0, ()), Import(b"b", 0, (b"c",)))
    fallbacks = [Import(name, 0, (), instead) for name in (b"d", b"e")]
    others = [Import(name, 0, ()) for name in (b"f", b"g")]
    assert module_imports(source) == [*instead, *fallbacks, *others]


def test_strings_of_an_extension_module() -> None:
    data = b"\x7fELF\0a.b\0c\0a.b\0not.a name\0d.e.f\0x..y\0.z\0tail.end"
    assert list(names_in(data)) == [b"a.b", b"c", b"a.b", b"d.e.f"]


@st.composite
def blocks(draw: st.DrawFn, indent: str = "", depth: int = 0) -> tuple[str, list[str]]:
    """Draws a source, and the modules that it imports when it runs."""
    source = ""
    expected: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["import", "from", "text", "if", "class", "def"]))
        name = draw(NAME)
        if kind == "import" or (depth == 3 and kind in ("if", "class", "def")):
            source, expected = f"{source}{indent}import {name} as z\n", [*expected, name]
        elif kind == "from":
            between = draw(st.sampled_from([" x", " (x,\ny)", " x, \\\n y", " x  # (", " *"]))
            source, expected = f"{source}{indent}from {name} import{between}\n", [*expected, name]
        elif kind == "text":
            texts = ["'import q'", '"""\nimport q\n"""', "# import q", "z = [\n1,\n]", ""]
            source += f"{indent}{draw(st.sampled_from(texts))}\n"
        else:
            head = {"if": "if x:", "class": "class A(b):", "def": "def f(x):  # if"}[kind]
            deeper = indent + draw(st.sampled_from([" ", "    ", "\t"]))
            inner, found = draw(blocks(deeper, depth + 1))
            source += f"{indent}{head}\n{inner}"
            expected = expected if kind == "def" else expected + found
    return source, expected


@given(blocks())
def test_any_nesting_of_blocks(drawn: tuple[str, list[str]]) -> None:
    source, expected = drawn
    assert modules(source) == expected


PIECES = [
    b"import a\n",
    b"from b import (",
    b"from . import",
    b"try:\n",
    b"except:\n ",
    b"'''",
    b'"',
    b"\\",
    b")",
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=40).map(b"".join))
def test_any_bytes_give_names(source: bytes) -> None:
    for is_main in (False, True):
        for one in module_imports(source, is_main=is_main):
            for name in (one.module, *one.names):
                assert not name or all(part.isidentifier() for part in name.decode().split("."))
    assert all(name.replace(b".", b"").decode().isidentifier() for name in names_in(source))


@pytest.mark.parametrize(
    "piece",
    [
        *(b"import a,b\n", b"from a import (", b"(" * 9, b"'''", b'"""', b"'\\", b"try:\n", b"if x:\n \t"),
        *(b"\\\n", b"import a;", b"from a import b, ", b"\0a", b"a."),
    ],
)
def test_hostile_sources_are_bounded(piece: bytes) -> None:
    """Sources of 3 MB that repeat one piece end, with no more imports than the bounds say."""
    source = piece * (3 * SOURCE // len(piece))
    assert len(module_imports(source)) <= IMPORTS + NAMES
    assert set(names_in(source)) <= {b"a"}


def test_sources_are_cut_and_blocks_may_be_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = b"".join(b" " * depth + b"try:\n" for depth in range(1000))
    assert module_imports(nested + b" " * 1000 + b"import a") == [Import(b"a", 0, ())]
    monkeypatch.setattr(python_imports, "SOURCE", 9)
    assert modules("import a\nimport b") == ["a"]
