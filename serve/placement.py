"""Whether the model's processes find room, before Serve is asked to start them: it would wait for it without end."""

from collections.abc import Mapping, Sequence

from hubert_ecg.errors import ResourceError
from serve.settings import ServiceSettings

SETTINGS = "min_replicas, cpus_per_replica and gpus_per_replica (--set NAME=VALUE, or the settings file)"


def check_room(settings: ServiceSettings, nodes: Sequence[Mapping[str, float]]) -> int:
    """ResourceError unless `min_replicas` processes fit on machines of these resources; returns how many would fit."""
    wanted = _each(settings)
    fit = sum(_fit(wanted, node) for node in nodes)
    if fit < settings.min_replicas:
        has = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}
        machines = "1 machine" if len(nodes) == 1 else f"{len(nodes)} machines"
        raise ResourceError(
            f"replicas: wanted {settings.min_replicas} of {_said(wanted)} each, got {machines} with {_said(has)}, room "
            f"for {fit}; lower {SETTINGS}, or join a larger cluster"
        )
    return fit


def check_roll_over(old: ServiceSettings, new: ServiceSettings, running: int, free: Mapping[str, float]) -> None:
    """ResourceError unless new processes can start while old ones go on: one goes when one has come.

    `running` old ones hold their resources beside `free`. It is tightest at the first new one, beside all old, and at
    the last, beside the last old one.
    """
    was, will = _each(old), _each(new)
    count = min(max(running, new.min_replicas), new.max_replicas)
    stay = min(running, count)
    first, last = (stay, min(count, count - stay + 1)), (min(1, running), count)
    for name in ("CPU", "GPU"):
        room = free.get(name, 0.0) + running * was[name]
        needed = max(olds * was[name] + news * will[name] for olds, news in (first, last))
        if needed > room + 1e-6:
            raise ResourceError(
                f"replicas: wanted {needed:g} {name}s for {count} new ones of {_said(will)} each, which start before "
                f"the old ones go, got {room:g}; lower {SETTINGS}, or end the service and start it again"
            )


def _each(settings: ServiceSettings) -> dict[str, float]:
    return {"CPU": settings.cpus_per_replica, "GPU": settings.gpus_per_replica}


def _fit(wanted: Mapping[str, float], node: Mapping[str, float]) -> int:
    """Processes on one machine; they are not parted."""
    return min(int(node.get(name, 0.0) / share + 1e-6) for name, share in wanted.items() if share)


def _said(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{count:g} {name}{'' if count == 1 else 's'}" for name, count in resources.items())
