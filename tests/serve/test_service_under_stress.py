"""The real service when too much is asked of it, when its processes die, and when it is replaced or ended."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from serve.client import AsyncClient, Client, ServiceError
from tests.serve.service import KEY, Service, descendants, ecg, npy, running, save_classifier

pytestmark = pytest.mark.slow

NPY = {"content-type": "application/octet-stream"}
RATE = {"sampling_rate_hz": "500"}
REPLICA = "ServeReplica:hubert-ecg:Models"


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    return save_classifier(tmp_path / "classifier")


async def at_once(number: int, call: Callable[[int], Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*(call(i) for i in range(number)), return_exceptions=True)


def open_client(service: Service) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {service.key}"} | NPY
    limits = httpx.Limits(max_connections=256)
    return httpx.AsyncClient(base_url=service.url, headers=headers, timeout=120, trust_env=False, limits=limits)


def test_beyond_the_queue_is_refused_and_nothing_accepted_is_lost(checkpoint: str) -> None:
    body = npy(ecg())

    async def flood(service: Service) -> list[httpx.Response]:
        async with open_client(service) as client:
            return await at_once(96, lambda _: client.post("/v1/predict", content=body, params=RATE))

    with running({"c": checkpoint}, max_waiting=8, cpus_per_replica=0.5) as service:
        answers = asyncio.run(flood(service))
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) == {200, 503}
        assert sum(statuses.values()) == 96
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.json()["error"]["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        with service.http() as client:
            assert "hubert_ecg_waiting 0.0" in client.get("/metrics").text

        async def patient() -> list[Any]:
            async with AsyncClient(service.url, key=KEY, retries=12) as client:
                return await at_once(32, lambda i: client.predict(ecg(i % 4), sampling_rate_hz=500))

        assert [answer for answer in asyncio.run(patient()) if isinstance(answer, BaseException)] == []
    print(f"\n96 at once into a queue of 8: {dict(statuses)}; 32 patient clients: all answered")


def test_requests_that_were_given_up_do_not_reach_the_model(checkpoint: str) -> None:
    body = npy(np.stack([ecg(i) for i in range(4)]))

    async def give_up(service: Service) -> list[Any]:
        async with open_client(service) as client:
            return await at_once(40, lambda _: client.post("/v1/predict", content=body, params=RATE, timeout=0.6))

    with running({"c": checkpoint}, cpus_per_replica=0.5, max_batch_size=2, num_crops=64) as service:
        outcomes = asyncio.run(give_up(service))
        given_up = sum(isinstance(outcome, httpx.TimeoutException) for outcome in outcomes)
        assert given_up >= 20
        began = time.monotonic()
        with service.http() as client:
            assert client.post("/v1/predict", content=npy(ecg()), params=RATE, headers=NPY).status_code == 200
            after_s = time.monotonic() - began
            text = client.get("/metrics").text
        assert "hubert_ecg_waiting 0.0" in text
        rows = [row for row in text.splitlines() if row.startswith("hubert_ecg_model_recordings{")]
    done = float(rows[0].split()[-1])
    assert done < 80, f"{done} of 160 recordings were computed although {given_up} of 40 requests were given up"
    print(
        f"\n{given_up} of 40 requests of 4 given up: {done:.0f} of 161 recordings computed, then one in {after_s:.1f} s"
    )


class Load:
    """Some clients that ask without a pause, each in a thread, and what they got."""

    def __init__(self, service: Service, clients: int, retries: int) -> None:
        self.service, self.retries = service, retries
        self.ended = threading.Event()
        self.answered: list[float] = []
        self.failed: list[str] = []
        self.fingerprints: set[str] = set()
        self.threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def _ask(self) -> None:
        samples = ecg()
        with Client(self.service.url, key=KEY, retries=self.retries) as client:
            while not self.ended.is_set():
                try:
                    answer = client.predict(samples, sampling_rate_hz=500)
                    self.fingerprints.add(answer.fingerprint)
                    self.answered.append(time.monotonic())
                except ServiceError as error:
                    self.failed.append(str(error))

    def wait_for(self, more: int) -> None:
        wanted = len(self.answered) + more
        deadline = time.monotonic() + 120
        while len(self.answered) < wanted:
            assert time.monotonic() < deadline, f"{len(self.answered)} answers, {self.failed[-3:]}"
            time.sleep(0.01)


def replicas(service: Service, number: int) -> set[int]:
    """The model's processes, once there are so many that answer."""
    deadline = time.monotonic() + 120
    while len(found := set(descendants(service, REPLICA))) != number:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("retries", [6, 0])
def test_a_killed_replica_costs_no_request_of_a_client_that_retries(checkpoint: str, retries: int) -> None:
    with running({"c": checkpoint}, min_replicas=2, max_replicas=2, cpus_per_replica=0.5) as service:
        with Load(service, clients=8, retries=retries) as load:
            load.wait_for(40)
            victim = min(replicas(service, 2))
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            load.wait_for(100)
            while victim in replicas(service, 2):
                time.sleep(0.05)
            replaced_s = time.monotonic() - killed
            load.wait_for(40)
        gap_s = max(b - a for a, b in zip(load.answered, load.answered[1:], strict=False) if b > killed)
    # Without retries, no more fail than were being answered.
    assert len(load.failed) <= (0 if retries else 8), load.failed[:3]
    print(
        f"\nretries {retries}: {len(load.answered)} answered, {len(load.failed)} failed; longest without an answer "
        f"{gap_s:.2f} s; two replicas again after {replaced_s:.1f} s"
    )


def test_rolling_over_to_another_checkpoint_drops_no_request(tmp_path: Path) -> None:
    old, new = (save_classifier(tmp_path / name, seed=seed) for seed, name in enumerate(("old", "new")))
    from tests.serve import service as helper

    content = yaml.safe_load((helper.ROOT / "serve" / "config.yaml").read_text())
    place = tmp_path / "config.yaml"

    def write(checkpoint: str) -> None:
        content["applications"][0]["args"] |= {"checkpoints": {"c": checkpoint}, "cpus_per_replica": 0.5}
        place.write_text(yaml.safe_dump(content))

    write(old)
    with running({}, config=place) as service, Load(service, clients=4, retries=0) as load:
        load.wait_for(20)
        assert len(load.fingerprints) == 1
        write(new)
        service.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 120
        while not any("rolled over" in line for line in service.said()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        load.wait_for(40)
        assert len(load.fingerprints) == 2
        assert load.failed == []


def test_sigterm_finishes_what_was_accepted(checkpoint: str) -> None:
    body = npy(np.stack([ecg(i) for i in range(8)]))

    async def ask(service: Service) -> list[Any]:
        async with open_client(service) as client:
            calls = [asyncio.create_task(client.post("/v1/predict", content=body, params=RATE)) for _ in range(4)]
            while "hubert_ecg_waiting 32.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.02)
            service.process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*calls)

    with running({"c": checkpoint}, num_crops=64, cpus_per_replica=0.5) as service:
        answers = asyncio.run(ask(service))
        assert [answer.status_code for answer in answers] == [200] * 4
        assert service.end() == 0


def test_a_second_signal_of_the_users_does_not_wait_for_what_was_accepted(checkpoint: str) -> None:
    body = npy(np.stack([ecg(i % 8) for i in range(64)]))

    async def ask(service: Service) -> list[Any]:
        async with open_client(service) as client:
            calls = [asyncio.create_task(client.post("/v1/predict", content=body, params=RATE)) for _ in range(4)]
            while "hubert_ecg_waiting 256.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.05)
            service.process.send_signal(signal.SIGTERM)
            while not any("ending: finishing" in line for line in service.said()):
                await asyncio.sleep(0.05)
            service.process.send_signal(signal.SIGINT)
            return await asyncio.gather(*calls, return_exceptions=True)

    with running({"c": checkpoint}, num_crops=64, cpus_per_replica=0.5) as service:
        answers = asyncio.run(ask(service))
        assert service.process.wait(30) == 0, "".join(service.said())[-6000:]
        assert any("what was accepted is given up" in line for line in service.said())
    assert not all(isinstance(answer, httpx.Response) and answer.status_code == 200 for answer in answers)
