"""Search spaces as data: a YAML file says which stages a trial runs, with what fixed settings, and what is searched.

    about: one sentence
    stages: [finetune]          # in order; each reads what those before it write, and the last is judged
    metric: score               # of the last stage; mode: max or min; scheduler: asha, none or pbt
    settings: {steps: 1000}     # fixed
    search:
      optimiser.lr: {loguniform: [1.0e-5, 1.0e-3]}
      train_blocks: {choice: [1, 2]}
      what trains:              # any name: each option is a set of settings that belong together
        options:
          everything: {}
          LoRA of rank 4: {lora.rank: 4}

A name is the dotted name of a setting of the last stage, or with its verb in front of that of another (`dump.layer`).
Distributions: `choice: [...]`, `options: {...}`, `grid: [...]` (each value is tried with every draw of the others),
`uniform: [low, high]`, `loguniform: [low, high]`, `randint: [low, high]` (both included); a third number of `uniform`
and `randint` is the step between values.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import yaml

import hubert_ecg
from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.search_settings import nearest, setting_names
from hubert_ecg.pipeline.search_stages import LAST_STAGES, ORDER, config_class, given_inputs

Mode = Literal["max", "min"]
Scheduler = Literal["asha", "none", "pbt"]
Value = str | int | float | bool | None
Params = dict[str, Value]
"""What a trial was given: name of a dimension -> a number, or the name of a choice."""
Settings = dict[str, dict[str, Any]]
"""Verb -> dotted name -> value."""

FOLDER = "tune_spaces"
RANGES = ("uniform", "loguniform", "randint")
CHOICES = ("choice", "options", "grid")


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One thing that is searched."""

    name: str
    kind: str
    verb: str
    choices: dict[Value, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Of choice, options and grid: name of each -> verb -> setting -> value."""
    low: float = 0.0
    high: float = 0.0
    step: float | None = None

    @property
    def finite(self) -> bool:
        """Whether all of its values can be tried."""
        return self.kind in CHOICES

    @property
    def whole(self) -> bool:
        return self.kind == "randint"

    def draw(self, rng: np.random.Generator) -> Value:
        """A value at random; each choice is equally likely."""
        if self.finite:
            return list(self.choices)[int(rng.integers(len(self.choices)))]
        if self.kind == "loguniform":
            return float(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        if self.step is None:
            return float(rng.uniform(self.low, self.high))
        places = int((self.high - self.low) / self.step + 1e-9) + 1
        value = self.low + self.step * int(rng.integers(places))
        return int(value) if self.whole else float(round(value, 12))

    def extremes(self) -> list[Value]:
        """The values that are worth a check: all choices, or both ends of a range."""
        if self.finite:
            return list(self.choices)
        ends = [self.low, self.high]
        return [int(value) for value in ends] if self.whole else list(ends)

    def settings(self, value: Value) -> dict[str, dict[str, Any]]:
        """Verb -> setting -> value."""
        return self.choices[value] if self.finite else {self.verb: {self._setting: value}}

    @property
    def _setting(self) -> str:
        return self.name.removeprefix(f"{self.verb}.")

    def sets(self) -> set[tuple[str, str]]:
        """(verb, setting) of all settings it may set."""
        if not self.finite:
            return {(self.verb, self._setting)}
        return {(verb, name) for of in self.choices.values() for verb, values in of.items() for name in values}


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space, read and checked."""

    place: str
    about: str
    stages: tuple[str, ...]
    fixed: Settings
    dimensions: tuple[Dimension, ...]
    metric: str
    mode: Mode
    scheduler: Scheduler

    @property
    def last(self) -> str:
        """The stage that is judged."""
        return self.stages[-1]

    def settings(self, params: Mapping[str, Value]) -> Settings:
        """All settings of a trial but its inputs."""
        found = {verb: dict(values) for verb, values in self.fixed.items()}
        for dimension in self.dimensions:
            for verb, values in dimension.settings(params[dimension.name]).items():
                found[verb] |= values
        return found

    def with_settings(self, given: Mapping[str, Any]) -> Self:
        """The space with settings of the user's: they are fixed, whatever the file searches or sets.

        A dimension of options may be fixed by its name and that of one option.
        """
        fixed = {verb: dict(values) for verb, values in self.fixed.items()}
        dimensions = {dimension.name: dimension for dimension in self.dimensions}
        for name, value in given.items():
            known = dimensions.get(name)
            if known is not None and known.kind == "options":
                if value not in known.choices:
                    raise ConfigError(f"--settings {name}: wanted one of {list(known.choices)}, got {value!r}")
                for verb, values in known.settings(value).items():
                    fixed[verb] |= values
                del dimensions[name]
                continue
            verb, setting = resolve(name, self.stages, "--settings")
            fixed[verb][setting] = value
            for other in list(dimensions.values()):
                if (verb, setting) in other.sets():
                    if other.kind == "options":
                        raise ConfigError(
                            f"--settings {name}: {other.name!r} searches it together with others; fix that to one of "
                            f"{list(other.choices)}"
                        )
                    del dimensions[other.name]
        if not dimensions:
            raise ConfigError("--settings: wanted something left to search, got all of it fixed")
        return type(self)(**vars(self) | {"fixed": fixed, "dimensions": tuple(dimensions.values())})


def folders() -> list[Path]:
    """Where spaces are looked for by name: the working directory's folder, then that of this project."""
    return [Path.cwd() / FOLDER, Path(hubert_ecg.__file__).parents[1] / FOLDER]


def known_spaces() -> dict[str, Path]:
    """Name -> file of every space that is found by its name."""
    found: dict[str, Path] = {}
    for folder in reversed(folders()):
        found |= {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return found


def find_space(space: str) -> Path:
    """The file of a space, by its name or its path."""
    if space.endswith((".yaml", ".yml")):
        path = Path(space).expanduser().resolve()
        if not path.is_file():
            raise ConfigError(f"--space {space}: no such file; check the path")
        return path
    known = known_spaces()
    if space not in known:
        raise ConfigError(
            f"--space: wanted a file, or one of {', '.join(sorted(known))} (files of {FOLDER}/), got {space}"
            f"{nearest(space, known)}"
        )
    return known[space]


def read_space(path: Path) -> Space:
    """Raises ConfigError for a file that is not a space, naming the entry and, for a setting, the nearest real name."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: wanted a search space, got {' '.join(str(error).split())}") from error
    entries = ("about", "stages", "metric", "mode", "scheduler", "settings", "search")
    if not isinstance(content, dict) or not content.get("search") or not content.get("stages"):
        raise ConfigError(f"{path}: wanted a search space with `stages` and `search`, got neither or one of them")
    for name in content:
        if name not in entries:
            raise ConfigError(f"{path}: wanted {', '.join(entries)}, got {name}{nearest(str(name), entries)}")
    stages = _stages(content["stages"], path)
    fixed: Settings = {verb: {} for verb in stages}
    for name, value in (content.get("settings") or {}).items():
        verb, setting = resolve(name, stages, f"{path}: settings")
        fixed[verb][setting] = value
    for name, allowed in (("mode", get_args(Mode)), ("scheduler", get_args(Scheduler))):
        if content.get(name, allowed[0]) not in allowed:
            raise ConfigError(f"{path}: {name}: wanted one of {', '.join(allowed)}, got {content[name]}")
    return Space(
        place=str(path),
        about=str(content.get("about", "")),
        stages=stages,
        fixed=fixed,
        dimensions=tuple(_dimension(str(name), value, stages, path) for name, value in content["search"].items()),
        metric=str(content.get("metric", "score")),
        mode=content.get("mode", "max"),
        scheduler=content.get("scheduler", "asha"),
    )


def resolve(name: str, stages: tuple[str, ...], where: str) -> tuple[str, str]:
    """(verb, setting) that a name means; ConfigError with the nearest real name where it means none."""
    first, _, rest = name.partition(".")
    verb, setting = (first, rest) if first in stages and rest else (stages[-1], name)
    made = {"output", *given_inputs(verb, stages)}
    if setting in setting_names(config_class(verb)) and setting not in made:
        return verb, setting
    if setting in made:
        raise ConfigError(f"{where}: {name}: the search sets it by itself; leave it out")
    known = [n for n in setting_names(config_class(stages[-1])) if n not in made]
    known += [f"{v}.{n}" for v in stages for n in setting_names(config_class(v)) if n not in made]
    raise ConfigError(f"{where}: {verb} has no setting {name}{nearest(name, known)}; --help of jobs.{verb} lists them")


def _stages(value: Any, path: Path) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else list(value)
    for name in names:
        if name not in ORDER:
            raise ConfigError(f"{path}: stages: wanted some of {', '.join(ORDER)}, got {name}{nearest(name, ORDER)}")
    if names != sorted(set(names), key=ORDER.index) or names[-1] not in LAST_STAGES:
        raise ConfigError(
            f"{path}: stages: wanted each once, in the order {', '.join(ORDER)}, ending with one of "
            f"{', '.join(LAST_STAGES)}, got {', '.join(names)}"
        )
    return tuple(names)


def _dimension(name: str, value: Any, stages: tuple[str, ...], path: Path) -> Dimension:
    where = f"{path}: search: {name}"
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in (*RANGES, *CHOICES):
        raise ConfigError(f"{where}: wanted one of {', '.join((*RANGES, *CHOICES))}, got {value}")
    ((kind, content),) = value.items()
    if kind == "options":
        return Dimension(name=name, kind=kind, verb=stages[-1], choices=_options(content, stages, where))
    verb, setting = resolve(name, stages, f"{path}: search")
    if kind in CHOICES:
        if not isinstance(content, list) or not content:
            raise ConfigError(f"{where}: wanted {kind}: [value, ...], got {content}")
        return Dimension(
            name=name, kind=kind, verb=verb, choices={_name_of(each): {verb: {setting: each}} for each in content}
        )
    return Dimension(name=name, kind=kind, verb=verb, **_range(kind, content, where))


def _options(content: Any, stages: tuple[str, ...], where: str) -> dict[Value, dict[str, dict[str, Any]]]:
    if not isinstance(content, dict) or not all(isinstance(each, dict) for each in content.values()):
        raise ConfigError(f"{where}: wanted options: {{name: {{setting: value, ...}}, ...}}, got {content}")
    found: dict[Value, dict[str, dict[str, Any]]] = {}
    for option, settings in content.items():
        found[str(option)] = {}
        for name, value in settings.items():
            verb, setting = resolve(name, stages, f"{where}: {option}")
            found[str(option)].setdefault(verb, {})[setting] = value
    return found


def _range(kind: str, content: Any, where: str) -> dict[str, Any]:
    try:
        numbers = [float(each) for each in content]
    except (TypeError, ValueError):
        numbers = []
    most = 2 if kind == "loguniform" else 3
    good = 2 <= len(numbers) <= most and numbers[0] < numbers[1] and all(map(math.isfinite, numbers))
    good = good and (len(numbers) < 3 or numbers[2] > 0) and (kind != "loguniform" or numbers[0] > 0)
    if not good or (kind == "randint" and any(number != int(number) for number in numbers)):
        stepped = "" if kind == "loguniform" else ", or [low, high, step]"
        raise ConfigError(f"{where}: wanted {kind}: [low, high] with low below high{stepped}, got {content}")
    step = numbers[2] if len(numbers) > 2 else (1.0 if kind == "randint" else None)
    return {"low": numbers[0], "high": numbers[1], "step": step}


def _name_of(value: Any) -> Value:
    """What a choice goes by in tables: itself, or its JSON where it is a list or the like."""
    return value if isinstance(value, str | int | float | bool) or value is None else json.dumps(value)
