"""Two iterations of pre-training without labels, which several benchmarks start from."""

from dataclasses import dataclass
from pathlib import Path

from hubert_ecg.storage.checkpoint import INFO, load_info
from jobs.recipe import read_recipe, run_stages

RECIPE = Path("jobs/configs/ptbxl_two_iterations.yaml")


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Both iterations of the recipe; features, codebooks and pre-training see the ECGs of folds 1 to 7."""

    input: str
    """A folder of benchmarks.subset."""
    root: Path
    """Where the outputs of its stages lie."""
    threads: int
    range_mv: float = 0.0
    """As in jobs.prepare."""

    def checkpoint(self) -> str:
        """Where the second pre-training lies, made where it is not there yet."""
        places = {"input": self.input, "out": str(self.root)}
        variables = places | {"threads": str(self.threads), "range_mv": f"{self.range_mv:g}"}
        stages = read_recipe(RECIPE, variables)
        last = max(number for number, (verb, _) in enumerate(stages) if verb == "pretrain")
        run_stages(stages[: last + 1])
        return self._place

    @property
    def fingerprint(self) -> str | None:
        """Of the second pre-training; None where it is not there yet."""
        return load_info(self._place).fingerprint if Path(self._place, INFO).exists() else None

    @property
    def _place(self) -> str:
        return str(self.root / "pretrained2")
