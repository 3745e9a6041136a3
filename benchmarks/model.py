"""How fast the model is, beside the plain HubertModel of transformers in eager float32, and how exact.

    python -m benchmarks.model                        # small and base: forward, training step, error, AUROC
    python -m benchmarks.model --serving              # also ways of serving, compilers included: minutes more
    python -m benchmarks.model --checkpoint M         # AUROC of a fine-tuned classifier instead of a linear probe

Both sides run in turn in one process on the same random input, B x 6000 samples (12 leads, 5 s, 100 Hz), with the same
weights; figures are medians. A training step is forward with a third of the tokens masked and the configured dropouts
(no layerdrop), the mean square of the last hidden state as loss, backward, and a step of AdamW. bf16 means autocast;
processors that have no instructions for it are spared all but its error, since it takes them an hour.
On a GPU the model FLOP utilisation of the training step is added: 3 x the multiplications and additions of a forward
pass (`forward_flops`), divided by time and by the peak of the device.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from transformers import HubertConfig, HubertModel

from benchmarks.report import Report, Row, reporting
from benchmarks.surroundings import machine
from benchmarks.timing import in_turn, ms_each
from hubert_ecg.ecg.preprocess import PreprocessConfig, model_input, prepare_waveform
from hubert_ecg.ecg.recording import standard_12_lead
from hubert_ecg.ecg.simulate import CONDITIONS, simulate_condition
from hubert_ecg.models import HubertECG, HubertECGClassifier, HubertECGConfig, HubertECGEncoder, model_config
from hubert_ecg.models.flops import forward_flops
from hubert_ecg.models.onnx import to_onnx
from hubert_ecg.storage.checkpoint import load_checkpoint

NUM_SAMPLES = 6000
MODES = {"fp32": "float32", "bf16": "bfloat16"}
"""Name of one of our sides -> what a row calls it."""
PLAIN = "transformers' HubertModel in eager float32"
PEAK_TFLOPS = {"H100": 989.4, "H200": 989.4, "A100": 312.0, "L4": 121.0, "4090": 165.2}
"""Dense bf16 peak by a part of the device's name, from its maker's data sheet."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["small", "base"], help="model sizes")
    parser.add_argument("--batch", type=int, default=8, help="recordings per batch")
    parser.add_argument("--runs", type=int, default=5, help="timings of each side")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0: as many as cores")
    parser.add_argument("--serving", action="store_true", help="also compare ways of serving")
    parser.add_argument("--checkpoint", metavar="M", help="classifier whose AUROC in bf16 and float32 is compared")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    with reporting("model", parser) as (options, report):
        if options.threads:
            torch.set_num_threads(options.threads)
        report.head(f"{torch.get_num_threads()} threads, {options.device}, batch {options.batch}")
        for size in options.sizes:
            compare(size, options, report)
            if options.serving:
                compare_serving(size, options, report)
        if computes_bf16("cpu"):  # The probe computes there whatever the device.
            downstream(options, report)


def compare(size: str, options: argparse.Namespace, report: Report) -> None:
    """Forward, training step and error of one size."""
    ours, plain = pair(size, options.device)
    inputs = torch.randn(options.batch, NUM_SAMPLES, generator=torch.Generator().manual_seed(0)).to(options.device)
    with torch.inference_mode():
        sides = {
            "plain": lambda: plain(inputs).last_hidden_state,
            "fp32": lambda: ours.encode(inputs).last_hidden_state,
            "bf16": under_bf16(lambda: ours.encode(inputs).last_hidden_state, options.device),
        }
        wanted = sides["plain"]()
        errors = {name: float((sides[name]() - wanted).norm() / wanted.norm()) for name in MODES}
        add_rows(report, f"forward pass, {size}", timings(worth_timing(sides, options.device), options), options.batch)
    for mode, error in errors.items():
        name = f"error of the last hidden state, {size}, {MODES[mode]}"
        report.add(Row(name=name, ours=(error,), unit="relative L2", against=PLAIN))
    mask = torch.rand(options.batch, 93, generator=torch.Generator().manual_seed(0)).to(options.device) < 0.33
    trainers = {
        "plain": trainer(plain, inputs, mask, options.device, bf16=False),
        "fp32": trainer(ours, inputs, mask, options.device, bf16=False),
        "bf16": trainer(ours, inputs, mask, options.device, bf16=True),
    }
    times = timings(worth_timing(trainers, options.device), options)
    add_rows(report, f"training step, {size}", times, options.batch)
    if options.device == "cuda":
        per_s = options.batch / statistics.median(times["bf16"])
        report.add(utilisation(f"training step, {size}", ours.config, per_s))


def computes_bf16(device: str) -> bool:
    """Whether there are instructions for it; GPUs have them."""
    return device != "cpu" or "BF16" in machine()


def worth_timing(sides: dict[str, Callable[[], Any]], device: str) -> dict[str, Callable[[], Any]]:
    """All of them, without bf16 where there are no instructions for it."""
    return {name: side for name, side in sides.items() if "bf16" not in name or computes_bf16(device)}


def pair(size: str, device: str) -> tuple[HubertECGEncoder, HubertModel]:
    """Our encoder and the plain one, with the same weights."""
    torch.manual_seed(0)
    config = model_config(size, layerdrop=0.0)
    ours = HubertECGEncoder(config)
    known = set(HubertConfig.__dataclass_fields__) - {"architectures", "dtype"}
    plain = HubertModel(HubertConfig(**{name: value for name, value in config.to_dict().items() if name in known}))
    plain.set_attn_implementation("eager")
    plain.load_state_dict(ours.state_dict())
    return ours.eval().to(device), plain.eval().to(device)


def trainer(
    model: torch.nn.Module, inputs: torch.Tensor, mask: torch.Tensor, device: str, *, bf16: bool
) -> Callable[[], Any]:
    """One training step, to be called again and again."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=device == "cuda")

    def step() -> None:
        model.train()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            hidden = model(inputs, mask_time_indices=mask).last_hidden_state
        optimiser.zero_grad()
        hidden.float().square().mean().backward()
        optimiser.step()

    return step


def under_bf16(work: Callable[[], torch.Tensor], device: str) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with autocast(device):
            return work().float()

    return run


def autocast(device: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, torch.bfloat16)


def timings(sides: dict[str, Callable[[], Any]], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each run of each side, in turn."""
    settle = torch.cuda.synchronize if options.device == "cuda" else nothing
    return in_turn(sides, options.runs, settle=settle)


def nothing() -> None:
    """A CPU has done what it was told when the call returns."""


def add_rows(report: Report, name: str, times: dict[str, list[float]], batch: int, base: str = "plain") -> None:
    """One row per side beside the first. On a machine that others use too, the fastest runs are the better figure."""
    for side, seconds in times.items():
        if side != base:
            report.add(
                Row(
                    name=f"{name}, {MODES.get(side, side)}",
                    ours=ms_each(seconds, batch),
                    theirs=ms_each(times[base], batch),
                    unit="ms per ECG",
                    against=PLAIN if base == "plain" else base,
                    in_turn=True,
                    facts={"fastest runs, x": min(times[base]) / min(seconds)},
                )
            )


def utilisation(name: str, config: HubertECGConfig, ecgs_per_s: float, num_samples: int = NUM_SAMPLES) -> Row:
    """Model FLOP utilisation of a training on a GPU; in TFLOP/s where its peak is not known."""
    device = torch.cuda.get_device_name()
    peak = next((value for part, value in PEAK_TFLOPS.items() if part in device), None)
    reached = 3 * ecgs_per_s * forward_flops(config, num_samples) / 1e12
    value, unit = (100 * reached / peak, "% of the bf16 peak") if peak else (reached, "TFLOP/s")
    return Row(
        name=f"{name}, model FLOP utilisation",
        ours=(value,),
        unit=unit,
        more_is_better=True,
        facts={"TFLOP/s": reached},
    )


def compare_serving(size: str, options: argparse.Namespace, report: Report) -> None:
    """A classifier of one size, served in several ways, for single recordings and batches."""
    torch.manual_seed(0)
    encoder = HubertECG(model_config(size))
    model = HubertECGClassifier.from_encoder(encoder, label_names=[f"label {i}" for i in range(6)]).eval()
    compiled = [torch.compile(lambda ecg: model(ecg).logits) for _ in range(2)]
    session = _onnx_session(model)
    for batch in (1, options.batch):
        inputs = torch.randn(batch, NUM_SAMPLES, generator=torch.Generator().manual_seed(0))
        array = inputs.numpy()
        with torch.inference_mode():
            sides = {
                "eager fp32": lambda inputs=inputs: model(inputs).logits,
                "eager bf16": under_bf16(lambda inputs=inputs: model(inputs).logits, "cpu"),
                "compiled fp32": lambda inputs=inputs: compiled[0](inputs),
                "compiled bf16": under_bf16(lambda inputs=inputs: compiled[1](inputs), "cpu"),
                "onnxruntime fp32": lambda array=array: session.run(["logits"], {"ecg": array}),
            }
            times = timings(worth_timing(sides, "cpu"), options)
            add_rows(report, f"serving, {size}, batch {batch}", times, batch, base="eager fp32")


def _onnx_session(model: HubertECGClassifier) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(to_onnx(model, NUM_SAMPLES))
        return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def downstream(options: argparse.Namespace, report: Report) -> None:
    """Macro AUROC of six conditions over simulated ECGs, in float32 and in bf16."""
    if options.checkpoint:
        model, info = load_checkpoint(options.checkpoint, expect="classifier")
        inputs, truth = simulated(seed=1, each=100, preprocess=PreprocessConfig.from_dict(info.preprocessing))
        order = [list(CONDITIONS).index(name) for name in info.label_names]
        scores = {mode: batched(lambda x: model(x).logits, inputs, mode) for mode in ("fp32", "bf16")}
        auroc = {mode: roc_auc_score(truth[:, order], values, average="macro") for mode, values in scores.items()}
        report.add(auroc_row("classifier", auroc))
        return
    fit, held_out = (
        simulated(seed=seed, each=each, preprocess=PreprocessConfig()) for seed, each in ((0, 60), (1, 60))
    )
    for size in options.sizes:
        encoder, _ = pair(size, "cpu")
        pooled = {
            mode: batched(lambda x, encoder=encoder: encoder.encode(x).last_hidden_state.mean(1), held_out[0], mode)
            for mode in ("fp32", "bf16")
        }
        features = batched(lambda x, encoder=encoder: encoder.encode(x).last_hidden_state.mean(1), fit[0], "fp32")
        scaler = StandardScaler().fit(features)
        probe = LogisticRegression(C=0.1, max_iter=2000).fit(scaler.transform(features), fit[1].argmax(1))
        auroc = {
            mode: roc_auc_score(held_out[1], probe.predict_proba(scaler.transform(values)), average="macro")
            for mode, values in pooled.items()
        }
        report.add(auroc_row(f"linear probe, {size}", auroc))


def auroc_row(name: str, auroc: dict[str, float]) -> Row:
    return Row(
        name=f"macro AUROC of six simulated conditions, {name}, bfloat16",
        ours=(auroc["bf16"],),
        unit="macro AUROC",
        more_is_better=True,
        facts={"in float32": auroc["fp32"], "change": auroc["bf16"] - auroc["fp32"]},
    )


def simulated(seed: int, each: int, preprocess: PreprocessConfig) -> tuple[torch.Tensor, np.ndarray]:
    """Inputs [recording, sample] and truth [recording, condition] of `each` simulated ECGs per condition."""
    inputs, truth = [], []
    for index, condition in enumerate(CONDITIONS):
        for number in range(each):
            recording, _ = simulate_condition([condition], seed=1000 * seed + each * index + number)
            waveform = prepare_waveform(standard_12_lead(recording), preprocess)
            inputs.append(model_input(waveform.counts, 0.0, preprocess).ravel())
            truth.append(np.eye(len(CONDITIONS), dtype=bool)[index])
    return torch.from_numpy(np.stack(inputs)), np.stack(truth)


def batched(work: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor, mode: str) -> np.ndarray:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16"):
        return torch.cat([work(part).float() for part in inputs.split(32)]).numpy()


if __name__ == "__main__":
    main()
