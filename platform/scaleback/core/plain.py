"""YAML from and for users: numbers, strings, lists and mappings, and nothing that can surprise."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from scaleback.core.errors import SpecError, short

LARGEST_FILE_BYTES = 1 << 20
DEEPEST = 50
"""Levels of nesting; a study has about ten."""


def parse_yaml(text: str, where: str) -> Any:
    """The plain data in ``text``.

    Raises:
        SpecError: no YAML, or YAML with a tag, an alias, a date or a number that no float can hold; one line.
    """
    try:
        loader = _PlainLoader(text)
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
    # Besides its own errors, PyYAML lets through what Python's numbers, dates and recursion limit say.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise SpecError(f"{where}: is not plain YAML ({short(' '.join(str(error).split()))})") from None
    _refuse_odd(data, where, 1)
    return data


def to_yaml(data: Any) -> str:
    """Plain data as text that ``parse_yaml`` reads back."""
    # PyYAML writes these line breaks of Unicode as they are, and reads them back as others.
    readable = not any(mark in json.dumps(data, ensure_ascii=False) for mark in "\x85\u2028\u2029")
    return yaml.dump(data, Dumper=_PlainDumper, sort_keys=False, allow_unicode=readable, width=110)


def read_file(path: Path, where: str) -> str:
    """The text of a small file.

    Raises:
        SpecError: too large, not UTF-8, not readable.
    """
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise SpecError(f"{where}: {path} must be at most {LARGEST_FILE_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError(f"{where}: {path} must be text in UTF-8") from None
    except OSError as error:
        raise SpecError(f"{where}: {path} cannot be read ({error.strerror})") from None


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; no error for a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder; no error for a name that none can have."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def beside(path: str | Path) -> list[str]:
    """What lies in the folder of a file, so that a refusal can name the nearest; nothing if there is no such folder."""
    try:
        return [str(entry) for entry in Path(path).parent.iterdir()]
    except (OSError, ValueError):
        return []


def _refuse_odd(value: object, where: str, depth: int) -> None:
    if depth > DEEPEST and isinstance(value, dict | list):
        raise SpecError(f"{where}: is nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        for name, item in value.items():
            _refuse_odd(name, where, depth + 1)
            _refuse_odd(item, where, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _refuse_odd(item, where, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{where}: numbers must be finite; got {value}")
    elif isinstance(value, int) and abs(value) > sys.float_info.max:
        raise SpecError(f"{where}: numbers must be at most {sys.float_info.max:.1e}; got {value.bit_length():,} bits")
    elif value is not None and not isinstance(value, int | float | str):
        raise SpecError(f"{where}: must be numbers, strings, lists and mappings; got {short(str(value))}")


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without tags, and without aliases, which can make a small file mean a huge value."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError("tags are not allowed")
        return super().compose_node(parent, index)


class _PlainDumper(yaml.SafeDumper):
    """Quotes what the loader would read as a number."""


# YAML 1.1 reads 1e-3 as text; YAML 1.2, JSON and everybody who writes it mean a number.
for _one in (_PlainLoader, _PlainDumper):
    _one.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )
