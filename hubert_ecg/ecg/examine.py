"""All that is noticed about a recording, said once: by its reader, of its signal, and of what was done to it."""

from collections.abc import Sequence

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.quality import DEFAULT_QUALITY, QualityConfig, find_problems
from hubert_ecg.ecg.recording import MissingLeads, Recording


def signal_problems(
    recording: Recording, *, missing_leads: MissingLeads, quality: QualityConfig = DEFAULT_QUALITY
) -> list[Finding]:
    """What is wrong with the signal of a standard 12-lead recording.

    That a lead holds nothing is no problem where zeros may stand for it: it is masked, and said elsewhere.
    """
    problems = find_problems(recording, quality)
    if missing_leads == "refuse":
        return problems
    there = dict(zip(recording.lead_names, np.isfinite(recording.samples).any(axis=1), strict=True))
    return [problem for problem in problems if problem.kind != "not recorded" or there[problem.lead or ""]]


def all_findings(
    recording: Recording, problems: Sequence[Finding], of_preparation: Sequence[Finding]
) -> tuple[Finding, ...]:
    """What the reader said, the problems that it had not said already (a wrong unit, say), and what was done since."""
    said = {(finding.kind, finding.lead, finding.start_s) for finding in recording.findings}
    new = [finding for finding in problems if (finding.kind, finding.lead, finding.start_s) not in said]
    return (*recording.findings, *new, *of_preparation)
