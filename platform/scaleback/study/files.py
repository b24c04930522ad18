"""Studies as files: Python with the fields of a ``STUDY``, or the same thing as YAML."""

from __future__ import annotations

import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scaleback.core.errors import InputError, SpecError, one_line, short, unknown
from scaleback.core.plain import beside, is_file, parse_yaml, read_file, to_yaml
from scaleback.core.spec import Plain, fault_lines
from scaleback.study.axes import AnyAxis, Cases, Grid, inside, parse_axis, parse_value, split_axis
from scaleback.study.study import Study

JOBS = Path(__file__).resolve().parents[3] / "jobs"
DEFAULT = "scaling_sweep"


def load_study(name: str) -> Study:
    """A study by path, or by the name of a file in ``jobs/``.

    Raises:
        SpecError: no such file, or it holds no valid study.
    """
    path = Path(name)
    if path.suffix not in (".py", ".yaml", ".yml"):
        file = f"{name.replace('-', '_')}.py"  # a study's own name has dashes
        folder = Path("jobs") if is_file(Path("jobs", file)) else JOBS
        path = folder / file
        if not is_file(path):
            known = [file.stem for file in sorted(folder.glob("*.py")) if not file.stem.startswith("bench_")]
            raise SpecError(f"study: {unknown('study', name, known)}")
    if not is_file(path):
        raise SpecError(f"study: {unknown('file', name, beside(path))}")
    return _python(path) if path.suffix == ".py" else study_from_yaml(read_file(path, "study"), str(path))


def study_from_yaml(text: str, where: str) -> Study:
    """A study written as YAML; aliases and tags are refused.

    Raises:
        SpecError: not YAML, or not a study; one line per fault.
    """
    data = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise SpecError(f"{where}: must hold the fields of a study; got {short(data)}")
    return Study.parse(data)


def study_to_yaml(study: Study) -> str:
    """The same study as YAML, every field written out."""
    return to_yaml(study.plain())


def changed(
    study: Study,
    *,
    settings: Sequence[str] = (),
    axes: Sequence[str] = (),
    fields: Mapping[str, Plain] | None = None,
) -> Study:
    """The study with ``FIELD=VALUE`` settings of its base run, axes that replace those of the same field, own fields.

    An axis over named cases keeps those that are named.

    Raises:
        SpecError: a setting or an axis that the study cannot have.
    """
    plain = study.plain()
    base = study.base
    changes: dict[str, Plain] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise SpecError(f"--set: must be FIELD=VALUE; got {short(text)}")
        changes[name.strip()] = parse_value(value, f"--set {one_line(name.strip())}")
    if changes:
        base = base.replace(changes)
        plain["base"] = base.plain()
    # A field that is set is no axis of the study any more, and neither are the fields below it.
    kept = {axis.field: axis for axis in study.axes if not any(inside(axis.field, name) for name in changes)}
    cases = {axis.field: axis for axis in kept.values() if isinstance(axis, Cases)}
    for text in axes:
        field, values = split_axis(text)
        axis = cases[field].only(values) if field in cases else parse_axis(text)
        if axis.field == "seed":
            if not isinstance(axis, Grid):
                raise SpecError("--axis seed: must list its values; seeds are not searched")
            plain["seeds"] = list(axis.values)
        else:
            kept[axis.field] = axis
    for axis in kept.values():
        _refuse_hidden(axis, changes)
    plain["axes"] = [axis.plain() for axis in kept.values()]
    return Study.parse({**plain, **(fields or {})})


def _refuse_hidden(axis: AnyAxis, changes: Iterable[str]) -> None:
    """A setting of no effect, because every case sets the same field."""
    for name in changes:
        if isinstance(axis, Cases) and all(any(inside(name, own) for own in case) for case in axis.cases.values()):
            raise SpecError(f"--set {name}: is set by every case of axis {axis.field}; name the cases with --axis")


def _python(path: Path) -> Study:
    try:
        names: dict[str, Any] = runpy.run_path(str(path), run_name="scaleback study")
    except InputError as error:
        raise SpecError(f"{path}: {error}") from None
    except ValidationError as error:
        lines = fault_lines(error, Study, None)
        raise SpecError("\n".join(f"{path}: {line}" for line in lines)) from None
    except (SyntaxError, ImportError) as error:
        raise SpecError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())}") from None
    study = names.get("STUDY")
    if not isinstance(study, dict):
        raise SpecError(f"{path}: must define STUDY, a dict of the fields of a study; got {short(study)}")
    try:
        return Study.parse(study)
    except SpecError as error:
        raise SpecError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
