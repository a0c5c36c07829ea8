"""There is one public door: what comes with the package goes through it like everything else, and it holds together."""

import ast
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from imports import circles, import_graph, imported, modules_of

import trainer
from trainer.catalog.scaffold.write import write_package

ROOT = Path(__file__).parent.parent
CORE = Path(trainer.__file__).parent
PLUGINS = Path(import_module("trainer_plugins").__file__).parent
MODULES = tuple(json.loads((ROOT / "docs" / "api.json").read_text(encoding="utf-8")))
"""The public modules, as scripts/reference.py records and describes them."""
PACKAGES = [name for name in MODULES if Path(import_module(name).__file__).name == "__init__.py"]


# ---- what comes with the package uses public names alone -------------------------------------------------------------


def not_public(source: str) -> list[str]:
    """The imports from `trainer` in a text that are not those of public names, with their lines."""
    found = []
    for line, module, name in imported(source):
        if module.partition(".")[0] != "trainer":
            continue
        is_public = module in MODULES and (name is None or name in import_module(module).__all__)
        if not is_public:
            found.append(f"{line}: import {module}" if name is None else f"{line}: from {module} import {name}")
    return found


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_at_most_fifteen_modules_are_public():
    assert len(MODULES) - 1 <= 15


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from trainer import Plugin, Run\nimport trainer.mxnet", []),
        ("import trainer", []),
        ("from trainer.metrics import Metric", []),
        ("from trainer import dispatch", ["1: from trainer import dispatch"]),
        ("def f():\n    from trainer.run import Run", ["2: from trainer.run import Run"]),
        ("from trainer.runs import checkpoint", ["1: from trainer.runs import checkpoint"]),
        ("import trainer.runs.folder", ["1: import trainer.runs.folder"]),
        ("from trainer_plugins.logreg import LogisticRegression", []),
    ],
)
def test_imports_that_are_not_public_are_found(source, expected):
    assert not_public(source) == expected


@pytest.mark.parametrize("folder", [PLUGINS, ROOT / "tests" / "examples"], ids=lambda folder: folder.name)
def test_the_plugins_that_come_with_the_package_and_the_examples_use_public_names_alone(folder):
    found = [
        f"{path.relative_to(folder)}:{each}"
        for path in sorted(folder.rglob("*.py"))
        for each in not_public(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_the_documentation_uses_public_names_alone():
    pages = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    blocks = [(page, block) for page in pages for block in python_blocks(page)]
    assert len(blocks) > 10
    assert [f"{page.name}: {each}" for page, block in blocks for each in not_public(block)] == []


@pytest.mark.parametrize("is_task", [True, False])
def test_a_new_package_uses_public_names_alone(is_task, tmp_path):
    folder = write_package("brand-new", tmp_path, is_task=is_task)
    sources = sorted(folder.rglob("*.py"))
    assert len(sources) > 1
    assert [each for path in sources for each in not_public(path.read_text(encoding="utf-8"))] == []


# ---- the door itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_gives_its_names_the_same_in_all_three_places(name):
    """In `__all__`, to type checkers (under TYPE_CHECKING) and at run time, from the modules that define them."""
    module = import_module(name)
    typed = {
        (where, found)
        for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for _, where, found in imported(ast.unparse(ast.Module(node.body, [])))
    }
    at_home = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    assert {found for _, found in typed} == set(module.__all__) - at_home
    for where, found in typed:
        assert getattr(module, found) is getattr(import_module(where), found)
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_there_and_described(name):
    module = import_module(name)
    assert module.__doc__
    assert len(module.__all__) == len(set(module.__all__))
    for found in module.__all__:
        assert getattr(module, found).__doc__, found


def test_a_name_that_a_package_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'trainer\.runs' has no attribute 'Runs'"):
        _ = import_module("trainer.runs").Runs


# Parameters and attributes of public classes that only the engine and the launch fill in.
INTERNAL = {
    "Agreement",
    "CompiledStep",
    "Counts",
    "Dispatch",
    "EngineState",
    "Given",
    "Interrupt",
    "Merged",
    "Step",
    "TaskOfRun",
}


def test_the_types_that_public_signatures_mention_are_public():
    public = {found: getattr(import_module(name), found) for name in MODULES for found in import_module(name).__all__}
    ours = {
        node.name: path
        for path in CORE.rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    hidden = {
        f"{found} mentions {word}"
        for found, value in public.items()
        for annotation in annotations(value)
        for word in re.findall(r"\w+", annotation)
        if word in ours and word not in public and word not in INTERNAL
    }
    assert sorted(hidden) == []


def annotations(value) -> list[str]:
    """The annotations of a function, or of a class's attributes, properties and methods, as they are written."""
    value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    own = getattr(value, "__annotations__", {}) if isinstance(value, type) or callable(value) else {}
    found = [str(each) for name, each in own.items() if not name.startswith("_")]
    if isinstance(value, type):
        members = [member for name, member in vars(value).items() if not name.startswith("_") or name == "__init__"]
        found += [each for member in members if not isinstance(member, type) for each in annotations(member)]
    return found


# ---- no circles ------------------------------------------------------------------------------------------------------


def test_no_modules_import_each_other():
    """Imports inside functions and for type checkers count: what is in a circle can only be understood as a whole."""
    found = circles(import_graph(modules_of(CORE)))
    assert found == [], "\n".join(f"a circle of {len(group)}: {', '.join(group)}" for group in found)


def test_circles_are_found(tmp_path):
    package = tmp_path / "p"
    files = {
        "__init__": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import A\n    from p.c import C",
        "a": "def f():\n    import p.b",
        "b": "from p import C",
        "c": "from p import a",
        "d": "from p.a import A",
    }
    package.mkdir()
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    graph = import_graph(modules_of(package))
    assert graph == {"p": {"p.a", "p.c"}, "p.a": {"p.b"}, "p.b": {"p.c"}, "p.c": {"p.a"}, "p.d": {"p.a"}}
    assert circles(graph) == [["p.a", "p.b", "p.c"]]


# ---- the design notes ------------------------------------------------------------------------------------------------


def test_the_design_notes_name_every_module_of_the_core_and_every_room_once():
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?`) \| (.*) \|$", page, re.MULTILINE)
    named = [name for cell, _ in rows for name in re.findall(r"`(.+?)`", cell)]
    modules = [path.stem for path in CORE.glob("*.py") if path.stem != "__init__"]
    rooms = [
        f"{path.parent.relative_to(CORE)}/" for path in (*CORE.glob("*/__init__.py"), *CORE.glob("data/*/__init__.py"))
    ]
    assert sorted(named) == sorted(modules + rooms)


def test_the_design_notes_name_the_modules_of_a_room():
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rooms = dict(re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", page, re.MULTILINE))
    for room in rooms.keys() - {"testing", "cli"}:
        modules = {path.stem for path in (CORE / room).glob("*.py")} - {"__init__"}
        named = set(re.findall(r"`(\w+)`", rooms[room]))
        assert modules <= named, room
        assert named <= modules, room
