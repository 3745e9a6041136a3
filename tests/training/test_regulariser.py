"""The dynamic regulariser against the rule, followed by hand."""

import pytest
import torch

from hubert_ecg.errors import ConfigError
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.models.dropouts import DropoutConfig, read_dropouts
from hubert_ecg.training.optimiser import OptimiserConfig, make_optimiser
from hubert_ecg.training.regulariser import DynamicRegulariser, RegulariserConfig

SHAPE = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "num_hidden_layers": 1}
CONV = {"conv_dim": [8] * 5, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
MOVED = ("hidden", "attention", "activation", "classifier")


class Regularised:
    def __init__(self, patience: int, weight_decay: float = 0.01, dropout: float = 0.1, **settings: float) -> None:
        encoder = HubertECG(model_config("small", vocab_sizes=(5,), **SHAPE, **CONV))
        self.model = HubertECGClassifier.from_encoder(encoder, label_names=("A",))
        DropoutConfig(hidden=dropout).configure(self.model)
        self.optimiser = make_optimiser(self.model, OptimiserConfig(weight_decay=weight_decay))
        config = RegulariserConfig(dynamic=True, **settings)  # type: ignore[arg-type]
        self.regulariser = DynamicRegulariser(config, patience=patience, model=self.model, optimiser=self.optimiser)

    @property
    def now(self) -> tuple[float, float]:
        """Weight decay of matrices and dropout of hidden states."""
        assert self.optimiser.param_groups[1]["weight_decay"] == 0  # that of vectors
        return round(self.optimiser.param_groups[0]["weight_decay"], 6), round(read_dropouts(self.model)["hidden"], 6)

    def after(self, improved: bool, stale: int) -> tuple[float, float]:
        self.regulariser.validated(improved, stale)
        return self.now


def test_it_grows_at_every_second_worse_validation_of_eight_but_the_last_and_shrinks_when_better() -> None:
    r = Regularised(patience=8)
    found = [r.after(False, stale) for stale in range(1, 9)]
    assert found == [(0.01, 0.1), *[(0.05, 0.15)] * 2, *[(0.25, 0.2)] * 2, *[(1.25, 0.25)] * 2, (1.25, 0.25)]
    assert [r.after(True, 0) for _ in range(4)] == [(0.25, 0.2), (0.05, 0.15), (0.01, 0.1), (0.01, 0.1)]


def test_a_patience_of_ten_in_three_intervals_as_in_fine_tuning() -> None:
    r = Regularised(patience=10, intervals=3)
    assert [r.after(False, stale)[0] for stale in range(1, 11)] == [*[0.01] * 2, *[0.05] * 3, *[0.25] * 3, *[1.25] * 2]


def test_all_dropouts_but_that_before_the_encoder_move_and_the_configuration_does_not() -> None:
    r = Regularised(patience=4)
    r.after(False, 1)
    found = read_dropouts(r.model)
    assert [found[kind] for kind in MOVED] == pytest.approx([0.15] * 4)
    assert found["feature_projection"] == 0.0
    assert r.model.config.hidden_dropout == r.model.config.attention_dropout == r.model.config.final_dropout == 0.1


def test_floors_are_the_papers_or_a_setting_below_them() -> None:
    above = Regularised(patience=4, weight_decay=0.04, dropout=0.3)
    assert [above.after(True, 0) for _ in range(2)] == [(0.01, 0.25), (0.01, 0.2)]
    below = Regularised(patience=4, weight_decay=0.001, dropout=0.0)
    assert [below.after(True, 0), below.after(False, 1), below.after(True, 0)] == [
        (0.001, 0),
        (0.005, 0.05),
        (0.001, 0),
    ]


def test_factor_step_and_floors_are_settings() -> None:
    settings = {"weight_decay_factor": 2.0, "dropout_step": 0.2, "min_weight_decay": 0.004, "min_dropout": 0.05}
    r = Regularised(patience=4, **settings)
    assert [r.after(False, 1), r.after(True, 0), r.after(True, 0)] == [(0.02, 0.3), (0.01, 0.1), (0.005, 0.05)]
    assert r.after(True, 0) == (0.004, 0.05)


def test_a_dropout_stays_below_one() -> None:
    r = Regularised(patience=100, dropout_step=0.4, intervals=50)
    assert [r.after(False, stale)[1] for stale in (2, 4, 6, 8)] == [0.5, 0.9, 0.95, 0.95]


def test_its_state_goes_on() -> None:
    first, second = Regularised(patience=8), Regularised(patience=8)
    first.after(False, 2)
    first.after(False, 4)
    second.optimiser.load_state_dict(first.optimiser.state_dict())
    second.regulariser.restore({}, first.regulariser.described())
    assert second.now == (0.25, 0.2)
    assert read_dropouts(second.model) == read_dropouts(first.model)
    assert second.after(True, 0) == (0.05, 0.15)


def test_a_patience_that_cannot_be_divided_is_refused() -> None:
    RegulariserConfig(dynamic=False).check(0)
    RegulariserConfig(dynamic=True, intervals=3).check(3)
    with pytest.raises(ConfigError, match=r"--patience of at least --regulariser.intervals 4 validations, got 3"):
        RegulariserConfig(dynamic=True).check(3)
    for wrong in ({"intervals": 0}, {"weight_decay_factor": 0.5}, {"dropout_step": 1.0}):
        with pytest.raises(ConfigError, match="--regulariser"):
            RegulariserConfig(**wrong)  # type: ignore[arg-type]


def test_there_are_only_dropouts_that_the_model_has() -> None:
    encoder = HubertECG(model_config("small", vocab_sizes=(5,), **SHAPE, **CONV))
    optimiser = torch.optim.AdamW(encoder.parameters(), weight_decay=0.01)
    regulariser = DynamicRegulariser(RegulariserConfig(dynamic=True), patience=4, model=encoder, optimiser=optimiser)
    assert set(regulariser.described()) == {"hidden", "attention", "activation"}
