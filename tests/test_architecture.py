"""Who may import whom, what is imported late, and the house numbers of the style guide; read from the source by ast."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLATFORM = ROOT / "platform"
PACKAGE = PLATFORM / "scaleback"
FILES = sorted(PACKAGE.rglob("*.py"))

# Level of each room. A module imports from rooms below its own and from its own room, and from nowhere else; imports
# inside functions and under TYPE_CHECKING count. The package's own __init__ holds the version and stands below all.
LEVELS = {
    "": 0,
    "core": 0,
    "torchvision_operators": 0,
    "backbones": 1,
    "objectives": 1,
    "recipes": 1,
    "scaling": 1,
    "sources": 2,
    "pretrain": 3,
    "adapt": 4,
    "evaluations": 4,
    "study": 5,
    "cluster": 6,
    "simulation": 7,
    "commands": 7,
    "cli": 8,
}
ONLY_IN_CLUSTER = {"ray", "optuna"}
NEVER_IN = {"core": {"torch", "timm"}, "scaling": {"torch", "timm"}, "study": {"torch", "timm"}}
HEAVY = {"torch", "torchvision", "timm", "kornia", "sklearn", "matplotlib", "numba", "ray", "optuna", "scipy", "pandas"}
HEAVY |= {"diffusers", "peft", "transformers", "opacus"}
LIGHT_MODULES = ("study.study", "study.plan", "study.files", "cli", "commands.studies", "cluster.placement")

FILE_LINES, FUNCTION_LINES, LOOP_LINES = 400, 60, 80
"""The guide aims at 200 and 40; the training loop may have 80."""
LOOP = "pretrain/loop.py"
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
TALKING = ("commands/", "cli.py", "cluster/progress.py")
BROAD_EXCEPT = {"cluster/failures.py", "cluster/stages.py", "cluster/drawing.py"}
"""Where a failure record is written, or a task ended, and the error raised again; a thread's is told to the user."""
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.load", "np.random.seed"}
TOP_LEVEL = {
    "pyproject.toml",
    "platform",
    "jobs",
    "clusters",
    "tests",
    "README.md",
    "Makefile",
    "constraints.txt",
    "docs",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(module: str) -> str:
    """``scaleback.core.store`` -> ``core``; ``scaleback`` -> the empty name."""
    return [*module.split("."), ""][1]


def room_of_file(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py").replace("__init__", "")


def imports(node: ast.AST) -> Iterator[tuple[str, int]]:
    """(module, line) of every import below ``node``, wherever it stands; ``from a import b`` counts as a and a.b."""
    for below in ast.walk(node):
        if isinstance(below, ast.Import):
            yield from ((alias.name, below.lineno) for alias in below.names)
        elif isinstance(below, ast.ImportFrom):
            assert below.level == 0, f"line {below.lineno}: imports are absolute"
            yield from ((f"{below.module}.{alias.name}", below.lineno) for alias in below.names)


def imports_at_load(body: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    """Imports that run when the module is loaded: not those inside functions or under TYPE_CHECKING."""
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield from imports(statement)
        elif isinstance(statement, ast.If):
            if "TYPE_CHECKING" not in ast.unparse(statement.test):
                yield from imports_at_load(statement.body)
            yield from imports_at_load(statement.orelse)
        elif isinstance(statement, ast.With | ast.Try | ast.ClassDef):
            yield from imports_at_load(statement.body)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def none(found: list[str]) -> None:
    assert not found, "\n".join(["", *found])


def test_every_room_has_a_level():
    assert {room_of_file(path) for path in FILES} == set(LEVELS)


def test_imports_run_one_way():
    wrong = []
    for path in FILES:
        own = room_of_file(path)
        for module, line in imports(tree(path)):
            if module.split(".")[0] == "scaleback":
                room = room_of(module)
                room = room if room in LEVELS else ""
                if room != own and LEVELS[room] >= LEVELS[own]:
                    wrong.append(f"{where(path, line)}: {own} (level {LEVELS[own]}) imports {module}")
    none(wrong)


def test_ray_and_optuna_stay_in_one_room():
    none(
        [
            f"{where(path, line)}: imports {module}"
            for path in FILES
            for module, line in imports(tree(path))
            if module.split(".")[0] in ONLY_IN_CLUSTER and room_of_file(path) != "cluster"
        ]
    )


def test_some_rooms_never_import_torch():
    none(
        [
            f"{where(path, line)}: imports {module}"
            for path in FILES
            for module, line in imports(tree(path))
            if module.split(".")[0] in NEVER_IN.get(room_of_file(path), ())
        ]
    )


def test_what_plans_a_study_loads_no_heavy_package():
    """One process for all: the first that loads something is named, with what it loaded."""
    script = (
        "import sys, importlib\n"
        f"for name in {LIGHT_MODULES}:\n"
        "    importlib.import_module(f'scaleback.{name}')\n"
        f"    heavy = sorted({HEAVY} & set(sys.modules))\n"
        "    assert not heavy, f'scaleback.{name} loads {heavy}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr.splitlines()[-1]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PLATFORM)}


def test_a_spec_module_loads_no_heavy_package():
    """Every module that holds a Spec, read from the source; the modules that such a spec builds may."""
    wrong = []
    for path in FILES:
        if any(isinstance(node, ast.ClassDef) and is_spec(node) for node in ast.walk(tree(path))):
            heavy = [
                (module, line) for module, line in imports_at_load(tree(path).body) if module.split(".")[0] in HEAVY
            ]
            wrong += [f"{where(path, line)}: imports {module} when loaded" for module, line in heavy]
    none(wrong)


def is_spec(node: ast.ClassDef) -> bool:
    bases = {ast.unparse(base) for base in node.bases}
    return not bases.isdisjoint({"Spec", "Source", "RealSource", "Objective", "Evaluation", "_Optimizer", "_Frozen"})


def test_files_and_functions_stay_short():
    wrong = []
    for path in FILES:
        lines = len(path.read_text().splitlines())
        if lines > FILE_LINES:
            wrong.append(f"{where(path, 1)}: {lines} lines; at most {FILE_LINES}")
        most = LOOP_LINES if name_of(path) == LOOP else FUNCTION_LINES
        for function in functions(path):
            length = (function.end_lineno or function.lineno) - function.lineno + 1
            if length > most:
                wrong.append(f"{where(path, function.lineno)}: {function.name} has {length} lines; at most {most}")
    none(wrong)


def test_no_module_has_a_vague_name():
    none([where(path, 1) for path in FILES if {path.stem, path.parent.name} & VAGUE_NAMES])


def test_the_source_root_is_no_package():
    # It would stand before the standard library's ``platform``.
    assert not (PLATFORM / "__init__.py").exists()


def test_every_file_can_be_imported_under_its_name():
    folders = {path.parent for path in FILES}
    none([str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()])


def test_only_the_command_line_prints():
    none(
        [
            f"{where(path, node.lineno)}: prints"
            for path in FILES
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call)
            and ast.unparse(node.func) == "print"
            and not name_of(path).startswith(TALKING)
        ]
    )


def test_no_except_takes_everything():
    wrong = []
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                caught = "everything" if node.type is None else ast.unparse(node.type)
                broad = {"everything", "Exception", "BaseException"} & set(caught.strip("()").split(", "))
                if broad and name_of(path) not in BROAD_EXCEPT:
                    wrong.append(f"{where(path, node.lineno)}: catches {caught}")
    none(wrong)


def test_nothing_stored_is_run_as_code():
    wrong = []
    for path in FILES:
        wrong += [
            f"{where(path, line)}: imports {module}"
            for module, line in imports(tree(path))
            if module.split(".")[0] in FORBIDDEN_MODULES
        ]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in FORBIDDEN_CALLS:
                    wrong.append(f"{where(path, node.lineno)}: calls {called}")
                if any(
                    keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False" for keyword in node.keywords
                ):
                    wrong.append(f"{where(path, node.lineno)}: allows pickles")
                if called == "np.load" and "allow_pickle" not in {keyword.arg for keyword in node.keywords}:
                    wrong.append(f"{where(path, node.lineno)}: np.load without allow_pickle=False")
    none(wrong)


def test_the_top_level_holds_what_it_may():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {name.split("/")[0] for name in listed.split("\0") if name}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL
