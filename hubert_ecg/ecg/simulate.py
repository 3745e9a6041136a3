"""Simulated 12-lead ECGs of a cohort: six labelled conditions by their mechanism, all else drawn alike.

The heart is a moving dipole made of Gaussian pieces (after ECGSYN, McSharry 2003, in three dimensions as Sameni 2007),
seen by nine electrodes through a torso (Dower's matrix, varied per patient). Anatomy, voltage, axis, noise, age and sex
come from random streams that know nothing of the condition, so that none of them gives it away.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

import numpy as np

from hubert_ecg.ecg import simulate_body as body
from hubert_ecg.ecg import simulate_waves as waves
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.ecg.simulate_heart import heart_dipole
from hubert_ecg.ecg.simulate_rhythm import Breathing
from hubert_ecg.errors import ConfigError

CONDITIONS = ("NORM", "AFIB", "AFLT", "CLBBB", "CRBBB", "1AVB")
"""The labels, by their SCP-ECG names."""

CONDITION_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "NORM": "normal ECG",
        "AFIB": "atrial fibrillation",
        "AFLT": "atrial flutter",
        "CLBBB": "complete left bundle branch block",
        "CRBBB": "complete right bundle branch block",
        "1AVB": "first-degree AV block",
    }
)

OTHER = "OTHER"
"""In `condition_shares`: abnormal in another way, none of the six labels."""

_EXCLUSIVE = (frozenset({"AFIB", "AFLT", "1AVB"}), frozenset({"CLBBB", "CRBBB"}))
"""Of each group an ECG has at most one."""
_COMPANIONS = {
    "AFIB": {"CLBBB": 0.07, "CRBBB": 0.07},
    "AFLT": {"CLBBB": 0.07, "CRBBB": 0.07},
    "1AVB": {"CLBBB": 0.08, "CRBBB": 0.1},
    "CLBBB": {"AFIB": 0.08, "AFLT": 0.02, "1AVB": 0.08},
    "CRBBB": {"AFIB": 0.08, "AFLT": 0.02, "1AVB": 0.1},
}
"""Probability that the first condition brings a second one along."""
_FINDING_SHARES = {
    "left axis": 0.16,
    "left ventricular hypertrophy": 0.18,
    "inferior infarct": 0.13,
    "anterior infarct": 0.12,
    "ST-T change": 0.25,
    "slow conduction": 0.07,
    "incomplete right block": 0.07,
    "premature atrial beats": 0.1,
    "premature ventricular beats": 0.12,
    "tachycardia": 0.06,
    "bradycardia": 0.06,
}
_PURPOSES = ("member", "heart", "torso", "placement", "noise", "rhythm", "atria", "ectopy", "beats")


def _default_shares() -> dict[str, float]:
    return {"NORM": 0.26, "AFIB": 0.16, "AFLT": 0.1, "CLBBB": 0.12, "CRBBB": 0.12, "1AVB": 0.12, OTHER: 0.12}


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """What to simulate. The same values give the same samples."""

    num_patients: int = 500
    """Patients in the cohort. A larger cohort begins with the smaller one's patients."""
    recordings_per_patient_max: int = 2
    """Each patient has between one and this many recordings."""
    sampling_rate_hz: float = 500.0
    """Samples per second; the ECG is the same at every rate, up to what the rate can hold. 50 or more."""
    duration_s: float = 10.0
    """Length of each recording in seconds; 1 or more."""
    condition_shares: dict[str, float] = field(default_factory=_default_shares)
    """Relative number of patients by leading condition: the six of `CONDITIONS`, and `OTHER` for none of them."""
    noise_level: float = 1.0
    """Factor on wander, muscle noise, mains and electrode gain error; 0 is a noiseless recorder."""
    seed: int = 0
    """Seed of the whole cohort; 0 or more."""

    def __post_init__(self) -> None:
        for name, least in (("num_patients", 1), ("recordings_per_patient_max", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: wanted {least} or more, got {getattr(self, name)}; raise it")
        for name, low in (("sampling_rate_hz", 50.0), ("duration_s", 1.0), ("noise_level", 0.0)):
            value = getattr(self, name)
            if not low <= value < np.inf:
                raise ConfigError(f"{name}: wanted a number of {low:g} or more, got {value}; change it")
        unknown = set(self.condition_shares) - {*CONDITIONS, OTHER}
        if unknown:
            raise ConfigError(
                f"condition_shares: wanted keys among {[*CONDITIONS, OTHER]}, got {sorted(unknown)}; remove them"
            )
        shares = list(self.condition_shares.values())
        if not shares or not all(0 <= share < np.inf for share in shares) or sum(shares) <= 0:
            raise ConfigError(
                f"condition_shares: wanted shares of 0 or more that are not all 0, got {self.condition_shares}; "
                "give at least one condition a share above 0"
            )


@dataclass(frozen=True, kw_only=True)
class CohortMember:
    """One recording to be: what is known of it before a sample is made."""

    index: int
    """Position in the cohort."""
    record_id: str
    patient_id: str
    patient_index: int
    """Position of the patient; both recordings of a patient show the same heart in the same chest."""
    age_years: float
    sex: str
    conditions: tuple[str, ...]
    """Labels in the order of `CONDITIONS`; empty when the ECG is abnormal in another way."""
    findings: tuple[str, ...]
    """Abnormalities outside the labels; empty in a normal ECG."""
    heart_rate_bpm: float
    """Wanted mean ventricular rate."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What was generated. Onsets and offsets lie two standard deviations off a wave's first and last Gaussian piece."""

    heart_rate_bpm: float
    """60 over the mean RR of the beats inside the recording."""
    pr_ms: float | None
    """P onset to QRS onset of conducted sinus beats; None without P waves."""
    qrs_ms: float
    """QRS onset to offset of conducted beats."""
    qt_ms: float
    """QRS onset to T offset, median over the conducted beats."""
    r_peak_times_s: np.ndarray
    """[beat] when the QRS vector is longest, ectopic beats included, inside the recording."""


def cohort(config: SimulatorConfig) -> list[CohortMember]:
    """All recordings of the cohort, patient by patient; no sample is made.

    Conditions follow a low-discrepancy sequence over the patients, so that even a small cohort has its shares.
    """
    return list(_members(config))


def simulate_member(config: SimulatorConfig, member: CohortMember) -> tuple[Recording, Truth]:
    """The ECG of one member of `cohort(config)`, [12, time] float32 mV, and what went into it.

    Depends on the seed, the member, the rate, the duration and the noise level, and on nothing else.
    """
    rate_hz = config.sampling_rate_hz
    times_s = np.arange(round(config.duration_s * rate_hz)) / rate_hz
    patient = partial(_patient_stream, config.seed, member.patient_index)
    visit = partial(_recording_stream, config.seed, member.index)

    heart = waves.draw_heart(
        patient("heart"), age_years=member.age_years, sex=member.sex, findings=frozenset(member.findings)
    )
    noise = visit("noise")
    breathing = Breathing(rate_hz=noise.uniform(0.17, 0.38), phase=noise.uniform(0, 2 * np.pi))
    disturbance = body.draw_disturbance(noise, noise_level=config.noise_level)
    field_matrix = body.draw_lead_field(patient("torso"), visit("placement"), sex=member.sex)
    gains = 1 + disturbance.gain_error * noise.standard_normal(len(body.ELECTRODES))

    beating = heart_dipole(
        heart,
        conditions=frozenset(member.conditions),
        findings=frozenset(member.findings),
        heart_rate_bpm=member.heart_rate_bpm,
        age_years=member.age_years,
        pr_position=float(patient("rhythm").random()),
        streams=visit,
        breathing=breathing,
        times_s=times_s,
        rate_hz=rate_hz,
    )
    electrodes = gains[:, None] * (field_matrix @ beating.dipole_mv)
    electrodes += body.electrode_noise(noise, times_s, disturbance=disturbance, breathing=breathing, rate_hz=rate_hz)
    recording = Recording(
        samples=body.leads_from_electrodes(electrodes),
        sampling_rate_hz=rate_hz,
        record_id=member.record_id,
        patient_id=member.patient_id,
        age_years=member.age_years,
        sex=member.sex,
    )
    truth = Truth(
        heart_rate_bpm=beating.heart_rate_bpm,
        pr_ms=None if beating.pr_s is None else 1000 * beating.pr_s,
        qrs_ms=1000 * beating.qrs_s,
        qt_ms=1000 * beating.qt_s,
        r_peak_times_s=beating.r_peak_times_s,
    )
    return recording, truth


def simulate_condition(
    conditions: Sequence[str],
    *,
    seed: int,
    sampling_rate_hz: float = 500.0,
    duration_s: float = 10.0,
    noise_level: float = 1.0,
    findings: Sequence[str] = (),
) -> tuple[Recording, Truth]:
    """One example ECG with exactly these labels (none at all is allowed) and findings; seeds give different patients.

    Raises ConfigError for an unknown label, or labels that exclude one another.
    """
    config = SimulatorConfig(
        seed=seed, sampling_rate_hz=sampling_rate_hz, duration_s=duration_s, noise_level=noise_level
    )
    labels = _checked(conditions)
    unknown = set(findings) - set(_FINDING_SHARES)
    if unknown:
        raise ConfigError(f"findings: wanted some of {list(_FINDING_SHARES)}, got {sorted(unknown)}; remove them")
    rng = _patient_stream(seed, 0, "member")
    age, sex = _draw_person(rng)
    member = CohortMember(
        index=0,
        record_id=f"{'+'.join(labels) or OTHER}-{seed}",
        patient_id=f"patient-{seed}",
        patient_index=0,
        age_years=age,
        sex=sex,
        conditions=labels,
        findings=tuple(findings),
        heart_rate_bpm=_draw_heart_rate(rng, labels, findings),
    )
    return simulate_member(config, member)


def _members(config: SimulatorConfig) -> Iterator[CohortMember]:
    names = [name for name in (*CONDITIONS, OTHER) if config.condition_shares.get(name, 0) > 0]
    edges = np.cumsum([config.condition_shares[name] for name in names])
    offset = np.random.default_rng((config.seed, 2)).random()
    golden = (np.sqrt(5) - 1) / 2
    index = 0
    for patient_index in range(config.num_patients):
        rng = _patient_stream(config.seed, patient_index, "member")
        age, sex = _draw_person(rng)
        place = (offset + patient_index * golden) % 1.0 * edges[-1]
        leading = names[int(np.searchsorted(edges, place, side="right").clip(0, len(names) - 1))]
        labels = _draw_companions(rng, leading)
        findings = _draw_findings(rng, labels)
        for visit in range(int(rng.integers(1, config.recordings_per_patient_max + 1))):
            yield CohortMember(
                index=index,
                record_id=f"sim{patient_index:06d}-{visit}",
                patient_id=f"sim{patient_index:06d}",
                patient_index=patient_index,
                age_years=age,
                sex=sex,
                conditions=labels,
                findings=findings,
                heart_rate_bpm=_draw_heart_rate(rng, labels, findings),
            )
            index += 1


def _draw_person(rng: np.random.Generator) -> tuple[float, str]:
    return float(np.clip(np.round(rng.normal(61, 17)), 18, 95)), "female" if rng.random() < 0.48 else "male"


def _draw_companions(rng: np.random.Generator, leading: str) -> tuple[str, ...]:
    """The leading condition, sometimes with a second one that can stand beside it."""
    draw = rng.random()
    if leading == OTHER:
        return ()
    labels = {leading}
    for companion, probability in _COMPANIONS.get(leading, {}).items():
        if 0 <= draw < probability:
            labels.add(companion)
        draw -= probability
    return tuple(label for label in CONDITIONS if label in labels)


def _draw_findings(rng: np.random.Generator, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Other abnormalities, with the same probabilities beside every condition; none in a normal ECG, one at least
    where there is no label."""
    names, shares = list(_FINDING_SHARES), np.array(list(_FINDING_SHARES.values()))
    if "NORM" in labels:
        return ()
    present = rng.random(len(names)) < shares
    if not labels and not present.any():
        present[rng.choice(len(names), p=shares / shares.sum())] = True
    return tuple(name for name, there in zip(names, present, strict=True) if there)


def _draw_heart_rate(rng: np.random.Generator, labels: Sequence[str], findings: Sequence[str]) -> float:
    spread = rng.standard_normal()
    if "AFLT" in labels:
        ratio = rng.choice([2, 3, 4], p=[0.33, 0.15, 0.52])
        return float(60 * np.clip(4.9 + 0.4 * spread, 4.1, 5.7) / ratio)
    if "AFIB" in labels:
        return float(np.clip(84 * np.exp(0.27 * spread), 48, 160))
    rate = 70 * np.exp(0.19 * spread)
    if "tachycardia" in findings:
        rate = 112 * np.exp(0.08 * spread)
    elif "bradycardia" in findings:
        rate = 50 * np.exp(0.07 * spread)
    return float(np.clip(rate, 44, 100 if "1AVB" in labels or "NORM" in labels else 140))


def _checked(conditions: Sequence[str]) -> tuple[str, ...]:
    labels = set(conditions)
    unknown = labels - set(CONDITIONS)
    if unknown:
        raise ConfigError(f"conditions: wanted some of {list(CONDITIONS)}, got {sorted(unknown)}; correct the spelling")
    for group in _EXCLUSIVE:
        if len(labels & group) > 1:
            raise ConfigError(f"conditions: wanted at most one of {sorted(group)}, got {sorted(labels)}; leave one out")
    if "NORM" in labels and len(labels) > 1:
        raise ConfigError(f"conditions: wanted NORM alone, got {sorted(labels)}; leave NORM or the others out")
    return tuple(label for label in CONDITIONS if label in labels)


def _patient_stream(seed: int, patient_index: int, purpose: str) -> np.random.Generator:
    """Generators by purpose, so that a draw more in one of them moves nothing in the others."""
    return np.random.default_rng((seed, 0, patient_index, _PURPOSES.index(purpose)))


def _recording_stream(seed: int, index: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng((seed, 1, index, _PURPOSES.index(purpose)))
