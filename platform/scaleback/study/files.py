"""Studies as files: Python with a ``STUDY``, or the same thing as YAML."""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scaleback.core.errors import InputError, SpecError, short, unknown
from scaleback.core.spec import Plain
from scaleback.study.axes import Grid, parse_axis, parse_value
from scaleback.study.study import Study

JOBS = Path(__file__).resolve().parents[3] / "jobs"
DEFAULT = "scaling_sweep"
LARGEST_FILE_BYTES = 1 << 20


def load_study(name: str) -> Study:
    """A study by path, or by the name of a file in ``jobs/``.

    Raises:
        SpecError: no such file, or it holds no valid study.
    """
    path = Path(name)
    if path.suffix not in (".py", ".yaml", ".yml"):
        folder = Path("jobs") if Path("jobs", f"{name}.py").is_file() else JOBS
        path = folder / f"{name}.py"
        if not path.is_file():
            known = [file.stem for file in sorted(folder.glob("*.py")) if not file.stem.startswith("bench_")]
            raise SpecError(f"study: {unknown('study', name, known)}")
    if not path.is_file():
        beside = [str(file) for file in path.parent.glob("*")] if path.parent.is_dir() else []
        raise SpecError(f"study: {unknown('file', name, beside)}")
    return _python(path) if path.suffix == ".py" else study_from_yaml(_text(path), str(path))


def study_from_yaml(text: str, where: str) -> Study:
    """A study written as YAML; aliases and tags are refused.

    Raises:
        SpecError: not YAML, or not a study; one line per fault.
    """
    try:
        loader = _PlainLoader(text)
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise SpecError(f"{where}: is not plain YAML ({short(' '.join(str(error).split()))})") from None
    if not isinstance(data, dict):
        raise SpecError(f"{where}: must hold the fields of a study; got {short(data)}")
    return Study.parse(data)


def study_to_yaml(study: Study) -> str:
    """The same study as YAML, every field written out."""
    return yaml.safe_dump(study.plain(), sort_keys=False, allow_unicode=True, width=110)


def changed(
    study: Study,
    *,
    settings: Sequence[str] = (),
    axes: Sequence[str] = (),
    fields: Mapping[str, Plain] | None = None,
) -> Study:
    """The study with ``FIELD=VALUE`` settings of its base run, axes that replace those of the same field, own fields.

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
        changes[name.strip()] = parse_value(value)
    if changes:
        base = base.replace(changes)
        plain["base"] = base.plain()
    kept = {axis.field: axis for axis in study.axes}
    for text in axes:
        axis = parse_axis(text)
        if axis.field == "seed":
            if not isinstance(axis, Grid):
                raise SpecError("--axis seed: must list its values; seeds are not searched")
            plain["seeds"] = list(axis.values)
        else:
            kept[axis.field] = axis
    for name in changes:
        kept.pop(name, None)  # a field that is set is no axis any more
    plain["axes"] = [axis.plain() for axis in kept.values()]
    return Study.parse({**plain, **(fields or {})})


def _python(path: Path) -> Study:
    try:
        names: dict[str, Any] = runpy.run_path(str(path), run_name="scaleback study")
    except InputError as error:
        raise SpecError(f"{path}: {error}") from None
    study = names.get("STUDY")
    if not isinstance(study, Study):
        raise SpecError(f"{path}: must define STUDY = Study(...); got {short(study)}")
    return study


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise SpecError(f"{path}: must be at most {LARGEST_FILE_BYTES:,} bytes")
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise SpecError(f"{path}: must be text in UTF-8") from None


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases, which can make a small file mean a huge value."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)
