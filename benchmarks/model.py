"""How fast the model is, beside the plain HubertModel of transformers in eager float32, and how exact.

    python -m benchmarks.model                        # small and base: forward, training step, error, AUROC
    python -m benchmarks.model --serving              # also ways of serving, compilers included: minutes more
    python -m benchmarks.model --checkpoint M         # AUROC of a fine-tuned classifier instead of a linear probe

Both sides run in turn in one process on the same random input, B x 6000 samples (12 leads, 5 s, 100 Hz), with the same
weights; figures are medians. A training step is forward with a third of the tokens masked and the configured dropouts
(no layerdrop), the mean square of the last hidden state as loss, backward, and a step of AdamW. bf16 means autocast.
On a GPU the model FLOP utilisation of the training step is added: 3 x the multiplications and additions of a forward
pass (`forward_flops`), divided by time and by the peak of the device.
"""

import argparse
import statistics
import tempfile
import time
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

from benchmarks.report import line, machine
from hubert_ecg.ecg.preprocess import PreprocessConfig, model_input, prepare_waveform
from hubert_ecg.ecg.recording import standard_12_lead
from hubert_ecg.ecg.simulate import CONDITIONS, simulate_condition
from hubert_ecg.models import HubertECG, HubertECGClassifier, HubertECGConfig, HubertECGEncoder, model_config
from hubert_ecg.models.flops import forward_flops
from hubert_ecg.models.onnx import to_onnx
from hubert_ecg.storage.checkpoint import load_checkpoint

NUM_SAMPLES = 6000
PEAK_TFLOPS = {"H100": 989.4, "H200": 989.4, "A100": 312.0, "L4": 121.0, "4090": 165.2}
"""Dense bf16 peak by a part of the device's name, from its maker's data sheet."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["small", "base"], help="model sizes")
    parser.add_argument("--batch", type=int, default=32, help="recordings per batch")
    parser.add_argument("--runs", type=int, default=7, help="timings of each side")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0: as many as cores")
    parser.add_argument("--serving", action="store_true", help="also compare ways of serving")
    parser.add_argument("--checkpoint", help="classifier whose AUROC in bf16 and float32 is compared")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(
        f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}, "
        f"batch {options.batch}"
    )
    for size in options.sizes:
        compare(size, options)
        if options.serving:
            compare_serving(size, options)
    downstream(options)


def compare(size: str, options: argparse.Namespace) -> None:
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
        errors = {name: float((sides[name]() - wanted).norm() / wanted.norm()) for name in ("fp32", "bf16")}
        report(f"{size} forward", timings(sides, options), options.batch)
    print(f"{f'{size} last_hidden_state, relative L2 error':<48} fp32 {errors['fp32']:.1e}, bf16 {errors['bf16']:.1e}")
    mask = torch.rand(options.batch, 93, generator=torch.Generator().manual_seed(0)).to(options.device) < 0.33
    times = timings(
        {
            "plain": trainer(plain, inputs, mask, options.device, bf16=False),
            "fp32": trainer(ours, inputs, mask, options.device, bf16=False),
            "bf16": trainer(ours, inputs, mask, options.device, bf16=True),
        },
        options,
    )
    report(f"{size} training step", times, options.batch)
    utilisation(size, ours.config, statistics.median(times["bf16"]), options)


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
    """Seconds of each run of each side: after a warm-up, all sides in turn, so that a disturbance meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for run in range(options.runs + 1):
        for name, work in sides.items():
            synchronise(options.device)
            began = time.perf_counter()
            work()
            synchronise(options.device)
            if run:
                times[name].append(time.perf_counter() - began)
    return times


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def report(name: str, times: dict[str, list[float]], batch: int, base: str = "plain") -> None:
    """One line per side: medians in milliseconds per recording, and the ratio of the fastest runs.

    On a machine that others use too, the latter is the better figure.
    """
    theirs = statistics.median(times[base])
    for side, seconds in times.items():
        if side != base:
            ours = statistics.median(seconds)
            note = f"{base}; fastest runs {min(times[base]) / min(seconds):.2f} x"
            print(line(f"{name}, {side}", theirs / ours, ours / batch, theirs / batch, note), flush=True)


def utilisation(size: str, config: HubertECGConfig, seconds: float, options: argparse.Namespace) -> None:
    """Model FLOP utilisation of the bf16 training step, on a GPU whose peak is known."""
    if options.device != "cuda":
        return
    name = torch.cuda.get_device_name()
    peak = next((value for part, value in PEAK_TFLOPS.items() if part in name), None)
    reached = 3 * options.batch * forward_flops(config, NUM_SAMPLES) / seconds / 1e12
    share = f"{reached / peak:.1%} of the bf16 peak" if peak else "peak of this device not known"
    print(f"{f'{size} training step, model FLOP utilisation':<48} {share} ({reached:.1f} TFLOP/s, {name})")


def compare_serving(size: str, options: argparse.Namespace) -> None:
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
            report(f"{size} serving, batch {batch}", timings(sides, options), batch, base="eager fp32")


def _onnx_session(model: HubertECGClassifier) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(to_onnx(model, NUM_SAMPLES))
        return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def downstream(options: argparse.Namespace) -> None:
    """Macro AUROC of six conditions over simulated ECGs, in float32 and in bf16."""
    if options.checkpoint:
        model, info = load_checkpoint(options.checkpoint, expect="classifier")
        inputs, truth = simulated(seed=1, each=100, preprocess=PreprocessConfig.from_dict(info.preprocessing))
        order = [list(CONDITIONS).index(name) for name in info.label_names]
        scores = {mode: batched(lambda x: model(x).logits, inputs, mode) for mode in ("fp32", "bf16")}
        auroc = {mode: roc_auc_score(truth[:, order], values, average="macro") for mode, values in scores.items()}
        _print_auroc("classifier", auroc)
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
        _print_auroc(f"{size}, linear probe", auroc)


def _print_auroc(name: str, auroc: dict[str, float]) -> None:
    change = auroc["bf16"] - auroc["fp32"]
    print(f"{f'{name}, macro AUROC':<48} fp32 {auroc['fp32']:.4f}, bf16 {auroc['bf16']:.4f}, change {change:+.4f}")


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
