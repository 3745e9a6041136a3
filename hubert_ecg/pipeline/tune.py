"""tune: a search space and waveforms -> trials on Ray Tune, their table and plots, and the best of them in place."""

import logging
import math
import shutil
import tempfile
from pathlib import Path

from hubert_ecg.errors import ResourceError, TrainingError
from hubert_ecg.pipeline.ray_cluster import available, start_ray
from hubert_ecg.pipeline.search_engine import Proposals, make_scheduler, run_sweep, trials_at_once
from hubert_ecg.pipeline.search_plan import SearchPlan, TuneConfig
from hubert_ecg.pipeline.search_records import OVER, TrialRecord, best_of, load_records, summary
from hubert_ecg.pipeline.search_report import place_best, write_best_config, write_report
from hubert_ecg.pipeline.search_trial import Maker
from hubert_ecg.storage.artifact import Manifest, begin, fingerprint

log = logging.getLogger(__name__)

__all__ = ["TuneConfig", "tune"]


def tune(config: TuneConfig) -> Manifest:
    """Run the stage."""
    plan = SearchPlan.make(config)
    output = begin(config.output, verb="tune", config=plan.describe(), inputs=plan.inputs())
    if isinstance(output, Manifest):
        return output
    records = _records(plan, output.directory)
    if any(record.state not in OVER for record in records) or len(records) < plan.total:
        _run(plan, records, output.directory)
    write_report(records, plan.space, output.directory, metric=plan.metric, mode=plan.mode)
    best = best_of(records, plan.mode)
    if best is None:
        raise TrainingError(
            f"{output.directory}: not one of {len(records)} trials was finished ("
            f"{summary(records)}); trials.txt there says why; mend that, or give more "
            f"--time_budget_s, in a new --output"
        )
    manifest = place_best(best, output.directory)
    own = Path(best.output or "").parents[1 if config.folds else 0]
    write_best_config(plan.sweep(output.directory, None).runs(best.params, str(own))[-1], output.directory)
    facts = {
        "trials": summary(records),
        "metric": plan.metric,
        "best_trial": best.number,
        "best_metric": best.metric,
        "best_folds": best.folds,
        "best_step": best.best_step,
        "best_params": best.params,
        "best_artifact": manifest.fingerprint,
    }
    outcomes = [[record.number, record.params, record.state, record.metric] for record in records]
    return output.finish(parts=0, facts=facts, content=[manifest.fingerprint, fingerprint(outcomes)])


def _records(plan: SearchPlan, output: str) -> list[TrialRecord]:
    """The trials on record; on the first start those that are drawn already are put there before any runs."""
    records = load_records(output)
    if records:
        for record in records:
            if record.state in ("running", "out of time"):
                record.state = "waiting"
            if record.state == "waiting":
                record.take_result(output)
        over = sum(record.state in OVER for record in records)
        log.info("tune: going on with %d of %d trials over", over, plan.total)
    # A start that was killed while it wrote them is made up for.
    for number, params in enumerate(plan.drawn or []):
        if number >= len(records):
            record = TrialRecord(number=number, params=params)
            record.save(output)
            records.append(record)
    return records


def _run(plan: SearchPlan, records: list[TrialRecord], output: str) -> None:
    import ray

    config = plan.config
    start_ray()
    workers = plan.workers()
    if workers is not None:
        workers.check()
    possible = trials_at_once(workers, cpus=float(ray.cluster_resources().get("CPU", 0)), gpus=available("GPU"))
    if config.max_concurrent > possible:
        raise ResourceError(
            f"--max_concurrent: wanted at most {possible} on this cluster, so that every trial's workers and "
            f"readers find room, got {config.max_concurrent}; lower it, or --settings workers.cpus_each"
        )
    at_once = config.max_concurrent or possible
    waiting = sum(record.state not in OVER for record in records)
    if plan.scheduler == "pbt" and waiting > at_once:
        raise ResourceError(
            f"--scheduler pbt: the whole population trains at once, wanted room for {waiting} trials, this "
            f"cluster has it for {at_once}; lower --num_samples or --settings workers.cpus_each, or join a larger one"
        )
    length = 1 if plan.scheduler == "none" else plan.length
    first = config.first_steps or max(1, math.ceil(length / 5))
    log.info("tune: %d trials of %s, %d at a time, %s", plan.total, plan.space.last, at_once, plan.scheduler)
    proposals = None
    if plan.drawn is None:
        proposals = Proposals(plan.space, records, total=plan.total, seed=config.seed, mode=plan.mode, output=output)
    maker = ray.remote(num_cpus=0, max_restarts=-1)(Maker).remote()
    # Checkpoints that a population exchanges must be seen from every node; nothing else in there is wanted.
    scratch = tempfile.mkdtemp(prefix="search-", dir=output if plan.scheduler == "pbt" else None)
    try:
        run_sweep(
            plan.sweep(output, maker),
            records,
            scheduler=make_scheduler(
                plan.scheduler,
                plan.space,
                mode=plan.mode,
                length=length,
                first=first,
                reduction=config.reduction_factor,
            ),
            proposals=proposals,
            mode=plan.mode,
            at_once=at_once,
            budget_s=config.time_budget_s,
            scratch=scratch,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        ray.kill(maker)
