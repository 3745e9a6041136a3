"""The table for the terminal, as text written by hand."""

from hubert_ecg.evaluation.bootstrap import Interval, MetricIntervals
from hubert_ecg.evaluation.metrics import LabelMetrics, MetricValues, MultiLabelMetrics
from hubert_ecg.evaluation.table import auroc_table


def test_columns_align_and_rare_labels_are_said_to_be_rare() -> None:
    metrics = MultiLabelMetrics(
        recordings=120,
        per_label=(
            LabelMetrics(label="AFIB", positives=20, negatives=100, threshold=0.5, auroc=0.9, auprc=0.75, f1=0.7),
            LabelMetrics(label="AFLT", positives=0, negatives=120, threshold=0.5),
        ),
        macro=MetricValues(auroc=0.9, auprc=0.75, f1=0.7),
    )
    judged = Interval(estimate=0.9, lower=0.85, upper=0.9512, draws=1000)
    unknown = Interval(estimate=None, lower=None, upper=None, draws=0)
    intervals = MetricIntervals(
        per_label={"AFIB": judged, "AFLT": unknown},
        macro=judged,
        confidence=0.95,
        draws=1000,
        resampled="patients",
        groups=80,
    )
    lines = auroc_table(metrics, intervals, titles={"AFIB": "atrial fibrillation"}).splitlines()
    assert lines == [
        "label                      AUROC    95% interval  AUPRC     F1  positives",
        "-------------------------------------------------------------------------",
        "AFIB  atrial fibrillation  0.900  0.850 to 0.951  0.750  0.700         20",
        "AFLT                           -               -      -      -          0",
        "-------------------------------------------------------------------------",
        "macro average              0.900  0.850 to 0.951  0.750  0.700     of 120",
        "too rare to judge, and not in the macro average: AFLT",
    ]
