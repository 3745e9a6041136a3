"""Names that results are saved under and drawn by."""

BASELINE = "resnet"
"""The recipe of benchmarks.proof that all others are compared with."""
ARMS = {"pretrained": "pre-trained", "scratch": "random weights"}
"""Arm of benchmarks.label_efficiency -> what a row calls it."""
