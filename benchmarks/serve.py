"""How much the service costs, beside the same preprocessing and forward pass in one process on the same cores.

    python -m benchmarks.serve

A classifier of random weights (base by default), three crops per recording, bodies of 12 x 5000 float32.
Throughput: 64 clients that ask without a pause, in a process of their own whose CPU time is reported, beside a loop
that reads, prepares and classifies the same bodies in batches of the service's size. Latency: a lone client, beside the
same steps for one recording; and JSON beside `.npy`. The rounds of both sides take turns; figures are medians.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks.report import Report, Row, reporting
from benchmarks.service import Service, ecg, npy, running, save_classifier
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.formats import ReadOptions
from hubert_ecg.predictor import CropConfig, Predictor
from serve.answers import Prepared, prepare
from serve.bodies import Limits, from_npy

LIMITS = Limits(max_recordings=1, max_duration_s=60, max_bytes=1 << 24)
OPTIONS = ReadOptions(sampling_rate_hz=500, max_bytes=1 << 24)
PARAMS = {"sampling_rate_hz": "500"}
NPY = {"content-type": "application/octet-stream"}
BODIES = 16
"""Different recordings that are sent in turn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base", help="model size")
    parser.add_argument("--only", choices=["throughput", "latency"], help="one part (default: both)")
    parser.add_argument("--clients", type=int, default=64, help="clients at once")
    parser.add_argument("--requests", type=int, default=192, help="requests of a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side")
    parser.add_argument("--batch", type=int, default=16, help="largest batch of the service")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch on both sides")
    parser.add_argument("--load", metavar="URL", help=argparse.SUPPRESS)
    with reporting("serve", parser) as (options, report):
        if options.load:
            print(json.dumps(asyncio.run(_load(options))))
            return
        torch.set_num_threads(options.threads)
        report.head(f"{options.size}, {options.threads} threads, batches of {options.batch}")
        measure(options, report)


def measure(options: argparse.Namespace, report: Report) -> None:
    """Start a service and ask it."""
    with tempfile.TemporaryDirectory() as folder:
        place = save_classifier(Path(folder, "classifier"), size=options.size)
        predictor = Predictor.load(place, crops=CropConfig(num_crops=3), device="cpu")
        settings = {
            "max_batch_size": options.batch,
            "threads_per_replica": options.threads,
            "max_waiting": 4 * options.clients,
        }
        with running({"model": place}, **settings) as service:
            if options.only != "latency":
                throughput(service, predictor, options, report)
            if options.only != "throughput":
                latency(service, predictor, report)


def throughput(service: Service, predictor: Predictor, options: argparse.Namespace, report: Report) -> None:
    """Requests per second of many clients, and of a loop."""
    served: list[dict[str, float]] = []
    looped: list[float] = []
    for number in range(options.rounds + 1):
        served.append(_load_in_a_process(service, options))
        looped.append(_loop(predictor, options))
        name = f"round {number}" if number else "warm-up"
        print(f"  {name}: {served[-1]['per_s']:.2f}/s, beside {looped[-1]:.2f}/s in one process", flush=True)
    report.add(
        Row(
            name=f"throughput of the service, {options.clients} clients",
            ours=tuple(round_["per_s"] for round_ in served[1:]),
            theirs=tuple(looped[1:]),
            unit="requests/s",
            against="the same steps in one process",
            in_turn=True,
            more_is_better=True,
            facts={"CPU time of the clients in a round, s": statistics.median(each["cpu_s"] for each in served[1:])},
        )
    )


def latency(service: Service, predictor: Predictor, report: Report, tries: int = 31) -> None:
    """Milliseconds of a lone client, of the same steps in this process, and of JSON."""
    body, samples = npy(ecg()), ecg()
    text = json.dumps({"recording": {"samples": samples.tolist(), "sampling_rate_hz": 500}}).encode()
    as_npy: list[float] = []
    as_json: list[float] = []
    alone: list[float] = []
    with service.http() as client:
        for _ in range(tries):
            alone.append(_timed(lambda: predictor_on(predictor, [_prepared(body)])))
            as_npy.append(_timed(lambda: _asked(client, content=body, headers=NPY, params=PARAMS)))
            as_json.append(_timed(lambda: _asked(client, content=text, headers={"content-type": "application/json"})))
    lone, numbers, steps = (tuple(1000 * each for each in times[1:]) for times in (as_npy, as_json, alone))
    for name, ours, theirs, against in (
        ("a lone .npy request", lone, steps, "the same steps in one process"),
        ("a lone request in JSON", numbers, lone, "the same as .npy"),
    ):
        more = statistics.median(ours) - statistics.median(theirs)
        row = Row(
            name=name, ours=ours, theirs=theirs, unit="ms", against=against, in_turn=True, facts={"more, ms": more}
        )
        report.add(row)


def predictor_on(predictor: Predictor, prepared: list[Prepared]) -> None:
    waveforms = [each.waveform for each in prepared]
    predictor.apply([w.counts for w in waveforms], [w.valid_samples for w in waveforms])


def _prepared(body: bytes) -> Prepared:
    [received] = from_npy(body, OPTIONS, paced=False, limits=LIMITS)
    return prepare(received, 0, PreprocessConfig(), measurements=False)


def _loop(predictor: Predictor, options: argparse.Namespace) -> float:
    """Requests per second without a service."""
    bodies = [npy(ecg(i)) for i in range(BODIES)]
    began = time.perf_counter()
    for first in range(0, options.requests, options.batch):
        count = min(options.batch, options.requests - first)
        predictor_on(predictor, [_prepared(bodies[(first + i) % BODIES]) for i in range(count)])
    return options.requests / (time.perf_counter() - began)


def _load_in_a_process(service: Service, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.serve", "--load", service.url]
    command += ["--clients", str(options.clients), "--requests", str(options.requests)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, input=service.key)
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def _load(options: argparse.Namespace) -> dict[str, float]:
    """What the process of the clients does: so many requests, never more than `clients` at once."""
    bodies = [npy(ecg(i)) for i in range(BODIES)]
    headers = NPY | {"authorization": f"Bearer {sys.stdin.read().strip()}"}
    limits = httpx.Limits(max_connections=options.clients)
    places = asyncio.Semaphore(options.clients)
    async with httpx.AsyncClient(
        base_url=options.load, headers=headers, timeout=600, trust_env=False, limits=limits
    ) as client:

        async def ask(number: int) -> None:
            async with places:
                response = await client.post("/v1/predict", content=bodies[number % BODIES], params=PARAMS)
                response.raise_for_status()

        before = resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        await asyncio.gather(*(ask(number) for number in range(options.requests)))
        elapsed = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"per_s": options.requests / elapsed, "cpu_s": cpu_s}


def _timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _asked(client: httpx.Client, **arguments: Any) -> None:
    client.post("/v1/predict", **arguments).raise_for_status()


if __name__ == "__main__":
    main()
