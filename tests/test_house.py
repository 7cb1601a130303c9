"""The rules of the house: who may import whom, and what may not be done anywhere."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import instruction_vectors

ROOT = Path(instruction_vectors.__file__).parent
# From the ground up: a module imports its own floor and those below.
FLOORS = (
    {"allocator", "errors", "version", "files", "progress", "environment", "settings"},
    {"models"},
    {"tasks"},
    {"vectors"},
    {"evaluation"},
    {"training"},
    {"continual"},
    {"analysis"},
    {"reporting"},
    {"demo", "doctor"},
    {"cli"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(ROOT.rglob("*.py"))
FAMILIES = (
    r"llama|qwen|gemma|mistral|mixtral|gpt.?2|gpt.?j|gpt.?neo|falcon|bloom|olmo|smollm|starcoder|deepseek|\b(opt|phi|mpt)\b"
)


def name_of(path):
    return str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """`(module, name)` of everything a file imports, wherever it does so."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            package = ("instruction_vectors", *path.relative_to(ROOT).parts)[: -node.level] if node.level else ()
            module = ".".join((*package, *([node.module] if node.module else [])))
            yield from ((module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "", node.lineno) for alias in node.names)


def ours(path):
    for module, name, line in imports(path):
        parts = module.split(".")
        if parts[0] == "instruction_vectors":
            yield (parts[1:] or [name]), name, line


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down_only(path):
    room = room_of(path)
    if room == "__init__":
        return  # the public names, taken from every room
    assert room in FLOOR, f"{room} has no floor yet: add it to FLOORS"
    for parts, _, line in ours(path):
        above = f"{name_of(path)} line {line} imports {'.'.join(parts)}, which does not lie below it"
        # Rooms of one floor do not know each other; only the modules of the lowest do.
        assert FLOOR[parts[0]] < FLOOR[room] or parts[0] == room or FLOOR[room] == 0, above
        assert FLOOR[parts[0]] <= FLOOR[room], above


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_reaches_for_another_ones_private_names(path):
    for parts, name, line in ours(path):
        private = [p for p in (*parts, name) if p.startswith("_") and not p.startswith("__")]
        assert not private, f"{name_of(path)} line {line} imports {private}"


def reached(tree):
    """`(module or name, private attribute)` of `imported._private`, whatever the import calls it here."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            relative = isinstance(node, ast.ImportFrom) and node.level
            module = getattr(node, "module", None) or ""
            for alias in node.names:
                if relative or f"{module}.{alias.name}".lstrip(".").startswith("instruction_vectors."):
                    names.add(alias.asname or alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            base = ast.unparse(node.value)
            if base in names:
                yield base, node.attr


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_takes_a_private_name_off_an_imported_one(path):
    own = {node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)}
    assert not [found for found in reached(tree_of(path)) if found[0] not in own]


@pytest.mark.parametrize(
    "code",
    [
        "from instruction_vectors.models import loading\nloading._converted",
        "import instruction_vectors.files as f\nf._x",
        "import instruction_vectors.files\ninstruction_vectors.files._x",
        "from instruction_vectors.tasks.task import Task\nTask._empty()",
    ],
)
def test_the_check_for_private_names_finds_them(code):
    assert list(reached(ast.parse(code)))


def lane(text):
    """Rooms from the first tree of a page, in its order."""
    block = text.split("src/instruction_vectors/\n", 1)[1].split("```", 1)[0]
    found = [line.split()[0].rstrip("/").removesuffix(".py") for line in block.splitlines() if re.match(r"  \w", line)]
    return [room for room in found if room != "__init__"]


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_trees_shown_are_the_house_from_the_top_down(page):
    rooms = lane((ROOT.parents[1] / page).read_text(encoding="utf-8"))
    assert rooms == sorted(rooms, key=lambda room: -FLOOR[room])
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and list(path.glob("*.py"))}
    assert folders <= set(rooms), "a folder is missing from the tree"


def test_every_room_has_a_floor_and_every_floor_a_room():
    there = {room_of(path) for path in MODULES} - {"__init__"}
    assert there == set(FLOOR)


def test_the_check_of_imports_sees_imports():
    found = {(".".join(parts), name) for parts, name, _ in ours(ROOT / "training" / "guidance.py")}
    assert ("models.anatomy", "anatomy_of") in found
    relative = {".".join(parts) for parts, _, _ in ours(ROOT / "reporting" / "tables" / "__init__.py")}
    assert any(module.startswith("reporting.") for module in relative)
    assert len(MODULES) > 50


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


WRITES_FOR_OTHERS = {"vectors.exports"}
"""lm-eval reads steering vectors from `torch.save` files only. Nothing here reads one."""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_unsafe_is_read(path):
    for module, name, line in imports(path):
        assert module.split(".")[0] not in {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}, line
        assert (module, name) not in {("torch", "load"), ("torch", "save"), ("yaml", "load")}, line
    for function, node in calls(tree_of(path)):
        unsafe = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "eval", "exec", "os.system"}
        allowed = {"torch.save"} if name_of(path) in WRITES_FOR_OTHERS else set()
        assert function not in unsafe - allowed, node.lineno
        for keyword in node.keywords:
            trusted = isinstance(keyword.value, ast.Constant) and not keyword.value.value
            assert keyword.arg != "trust_remote_code" or trusted, node.lineno
            assert keyword.arg != "shell", node.lineno


def judges_by_name(node):
    """A comparison, match or `startswith` that hangs on what a model is called."""
    if isinstance(node, ast.Compare):
        told = [node.left, *node.comparators]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("startswith", "endswith"):
        told = [node.func.value, *node.args]
    elif isinstance(node, ast.Match):
        told = [node.subject]
    else:
        return False
    constants = [c.value for part in told for c in ast.walk(part) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
    text = " ".join(ast.unparse(part) for part in told)
    named = re.search(r"model_type|\barchitectures\b|name_or_path|__class__\.__name__", text)
    return bool(named and constants) or any(re.search(FAMILIES, constant.lower()) for constant in constants)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_hangs_on_what_a_model_is_called(path):
    assert not [node.lineno for node in ast.walk(tree_of(path)) if judges_by_name(node)]


@pytest.mark.parametrize(
    "code",
    ['"llama" in name', 'config.model_type == "gpt_x"', 'x.name_or_path.startswith("meta")', 'kind in ("Qwen2ForCausalLM",)'],
)
def test_the_check_for_model_names_finds_them(code):
    assert any(judges_by_name(node) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(tree_of(path))


def test_every_public_name_can_be_had():
    for name in instruction_vectors.__all__:
        assert getattr(instruction_vectors, name) is not None
    assert set(dir(instruction_vectors)) == set(instruction_vectors.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = instruction_vectors.nothing


def fresh(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False)


def test_importing_the_package_does_not_import_torch():
    code = "import sys, instruction_vectors; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    done = fresh("-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_command_helps_without_importing_torch():
    code = (
        "import sys\nfrom instruction_vectors.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    done = fresh("-c", code)
    assert done.stdout.startswith("Usage: ")
    assert done.stdout.strip().endswith("0 False"), done.stderr
