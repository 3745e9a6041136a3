"""Settings of a stage made from dotted names, as a search spells them, checked as a command line is."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from hubert_ecg.errors import ConfigError


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` with the known name that is most like this one; nothing when none is."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


@lru_cache
def setting_names(config_class: type) -> tuple[str, ...]:
    """Dotted names of all settings of a dataclass, those of nested ones included."""
    hints = get_type_hints(config_class)
    names: list[str] = []
    for field in fields(config_class):
        kind = hints[field.name]
        if isinstance(kind, type) and is_dataclass(kind):
            names += [f"{field.name}.{name}" for name in setting_names(kind)]
        else:
            names.append(field.name)
    return tuple(names)


def make_settings(config_class: type, values: Mapping[str, Any], *, verb: str) -> Any:
    """The settings of a stage from dotted names and values; ConfigError, in one line, where they are no settings."""
    parser = _parser(config_class)
    try:
        parsed = parser.parse_object(_nested(values))
        made = parser.instantiate(parsed)
    except ArgumentError as error:
        raise ConfigError(f"{verb}: {' '.join(str(error).split())}") from error
    return config_class(**dict(made.items()))


@lru_cache
def _parser(config_class: type) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(config_class, as_group=False)
    return parser


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        place = found
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return found
