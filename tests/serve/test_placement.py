"""serve.placement: processes that find no room are refused, with what was wanted, what there is and what to change."""

import pytest

from hubert_ecg.errors import ResourceError
from serve.placement import check_roll_over, check_room
from serve.settings import ServiceSettings


def settings(**values: float) -> ServiceSettings:
    return ServiceSettings.model_validate({"checkpoints": {"c": "/c"}, "max_replicas": 9} | values)


def test_processes_are_not_parted_between_machines() -> None:
    small = {"CPU": 3.0}
    assert check_room(settings(cpus_per_replica=2, min_replicas=2), [small, small]) == 2
    assert check_room(settings(cpus_per_replica=0.1), [{"CPU": 0.3}]) == 3, "shares that floats miss by a hair"
    with pytest.raises(
        ResourceError,
        match=r"wanted 3 of 2 CPUs and 0 GPUs each, got 2 machines with 6 CPUs and 0 GPUs, room for 2; lower min_rep",
    ):
        check_room(settings(cpus_per_replica=2, min_replicas=3), [small, small])


def test_a_gpu_that_is_absent_is_missed() -> None:
    with pytest.raises(ResourceError, match=r"wanted 1 of 1 CPU and 1 GPU each, got 1 machine with 8 CPUs and 0 GPUs"):
        check_room(settings(gpus_per_replica=1), [{"CPU": 8.0}])
    assert check_room(settings(gpus_per_replica=0.5), [{"CPU": 8.0, "GPU": 1.0}]) == 2


@pytest.mark.parametrize(
    ("old", "new", "running", "free", "needed"),
    [
        ({}, {}, 1, 1, None),
        ({}, {}, 1, 0, 2),
        ({"min_replicas": 4}, {"min_replicas": 4}, 4, 1, None),  # One at a time.
        ({"min_replicas": 4}, {"min_replicas": 4}, 4, 0, 5),
        ({}, {}, 6, 1, None),  # As many as the load had called for.
        ({}, {"cpus_per_replica": 3}, 2, 5, None),  # The last one beside the last old one: 1 + 2 x 3.
        ({}, {"cpus_per_replica": 3}, 2, 4, 7),
        ({}, {"min_replicas": 4}, 1, 4, None),
        ({}, {"min_replicas": 4}, 1, 3, 5),
        ({"min_replicas": 6}, {"max_replicas": 2}, 6, 0, None),  # Four go first.
    ],
)
def test_a_roll_over_needs_room_for_one_more(
    old: dict[str, float], new: dict[str, float], running: int, free: float, needed: float | None
) -> None:
    before, after = settings(**old), settings(**new)
    room = {"CPU": float(free)}
    if needed is None:
        check_roll_over(before, after, running, room)
    else:
        wanted = rf"wanted {needed:g} CPUs for .*before the old ones go, got .*end the service and start it again"
        with pytest.raises(ResourceError, match=wanted):
            check_roll_over(before, after, running, room)
