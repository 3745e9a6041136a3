"""What goes over the wire: requests and answers of the service, with the examples that its documentation shows."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from hubert_ecg.ecg.leads import STANDARD_LEADS

Units = Literal["auto", "mV", "uV", "V"]
Unwise = Literal["age under 18", "paced", "shorter than 5 s", "missing leads"]
"""Why an answer is about a recording that the model was not made for."""


class Strict(BaseModel):
    """A body in which an unknown field is an error rather than ignored."""

    model_config = ConfigDict(extra="forbid")


class RecordingIn(Strict):
    """One ECG as numbers."""

    samples: Annotated[list[Annotated[list[FiniteFloat | None], Field(min_length=1)]], Field(min_length=1)] = Field(
        description="One row per lead, oldest sample first; null where nothing was recorded."
    )
    sampling_rate_hz: FiniteFloat = Field(gt=0, description="Samples per second of every lead.", examples=[500.0])
    leads: list[str] | None = Field(
        None,
        description="One name per row, in any usual spelling and order; by default the 12 standard leads "
        f"{', '.join(STANDARD_LEADS)}. III, aVR, aVL and aVF are derived where they are missing.",
    )
    units: Units = Field("auto", description="Unit of the samples; `auto` tells mV, uV and V by their size.")
    age_years: float | None = Field(None, ge=0, le=130, description="Of the patient, if known.")
    sex: Literal["female", "male"] | None = Field(None, description="Of the patient, if known; for normal ranges.")
    paced: bool = Field(
        False,
        description="Whether the patient has a pacemaker that was active; it is also looked for in the recording.",
    )


class Options(Strict):
    """What an answer holds besides probabilities; all of it costs time."""

    model: str | None = Field(None, description="Name of the checkpoint, see GET /v1/models; the first by default.")
    measurements: bool = Field(False, description="Heart rate, PR, QRS, QT, QTc and axis; about 0.1 s for 10 s of ECG.")
    uncertainty: bool = Field(False, description="Spread of each probability over the crops of the recording.")
    explain: str | None = Field(None, description="A label to explain by integrated gradients over leads and time.")


class PredictRequest(Options):
    """One recording or a batch of them, as JSON."""

    recording: RecordingIn | None = Field(None, description="One recording; or `recordings`.")
    recordings: list[RecordingIn] | None = Field(None, min_length=1, description="A batch; or `recording`.")


class EmbedRequest(Strict):
    """Recordings to embed, as JSON."""

    model: str | None = Field(None, description="Name of the checkpoint; the first by default.")
    recording: RecordingIn | None = Field(None, description="One recording; or `recordings`.")
    recordings: list[RecordingIn] | None = Field(None, min_length=1, description="A batch; or `recording`.")


class ExplainRequest(EmbedRequest):
    """Recordings of which one label is to be explained, as JSON."""

    label: str = Field(description="One of the checkpoint's labels, see GET /v1/models.", examples=["AFIB"])


class LabelOut(BaseModel):
    """What the model says of one label."""

    label: str
    title: str = Field(description="The label in words, where it is a known one.")
    probability: float = Field(description="Calibrated if the checkpoint is; for a regression the predicted number.")
    threshold: float | None = Field(description="Probability from which the label counts as present.")
    positive: bool | None = Field(description="Whether it does; null for a regression.")
    uncertainty: float | None = Field(None, description="Standard deviation over crops, if asked for.")


class FindingOut(BaseModel):
    """Something noticed about the signal."""

    kind: str
    severity: Literal["info", "warning", "severe"]
    detail: str
    lead: str | None = None
    start_s: float | None = None
    end_s: float | None = None


class MeasurementOut(BaseModel):
    """One measurement, or why there is none."""

    name: str
    value: float | None
    unit: str
    normal_low: float | None = Field(description="Lower limit for adults at rest.")
    normal_high: float | None
    leads: list[str]
    reason: str | None = Field(description="Why it could not be measured.")


class ExplanationOut(BaseModel):
    """How each sample of the model's input speaks for or against a label."""

    label: str
    sampling_rate_hz: float = Field(description="Of the attributions; the first one belongs to second 0.")
    leads: list[str]
    attributions: list[list[float]] = Field(
        description="One row per lead: integrated gradients of the label's score before sigmoid or softmax, 0 outside "
        "of the crops; positive samples speak for the label."
    )
    crop_starts_s: list[float] = Field(description="Where the 5 s that were looked at begin in the recording.")
    score: float = Field(description="Of the recording.")
    baseline_score: float = Field(description="Of the same recording with flat leads, where the path begins.")
    completeness_error: float = Field(description="How far the attributions' sum is from the change of the score.")


class PredictionOut(BaseModel):
    """The answer about one recording."""

    index: int = Field(description="Place of the recording in the request.")
    labels: list[LabelOut]
    abstained: bool = Field(description="Whether the checkpoint's rule says that this answer is not to be used.")
    abstain_reason: str | None
    out_of_scope: list[Unwise] = Field(description="Why the model was not made for this recording; empty if it was.")
    findings: list[FindingOut] = Field(description="Signal quality, and what was done to the recording.")
    measurements: list[MeasurementOut] | None = None
    explanation: ExplanationOut | None = None


class Timings(BaseModel):
    """Where the time of a request went, milliseconds."""

    read: float = Field(description="Body to recordings.")
    prepare: float = Field(description="Filtering, scaling and signal quality.")
    model: float = Field(description="Waiting for a batch, and the model.")
    total: float


class PredictResponse(BaseModel):
    """Answers in the order of the recordings."""

    model: str = Field(description="Name of the checkpoint that answered.")
    fingerprint: str = Field(description="Of its weights and calibration.")
    task: Literal["multi_label", "multi_class", "regression"]
    predictions: list[PredictionOut]
    timings_ms: Timings
    notice: str = "Research software, not a medical device: this is not a diagnosis."


class EmbedResponse(BaseModel):
    """One vector per recording."""

    model: str
    fingerprint: str
    embeddings: list[list[float]] = Field(description="Mean over tokens and crops of the last encoder layer.")


class ExplainResponse(BaseModel):
    """One explanation per recording."""

    model: str
    fingerprint: str
    explanations: list[ExplanationOut]


class ModelOut(BaseModel):
    """One checkpoint of the service."""

    name: str
    fingerprint: str
    task: str
    labels: list[str]
    thresholds: list[float] | None
    calibrated: bool
    sampling_rate_hz: int = Field(description="Of the model's input; recordings of other rates are resampled.")
    licence: str
    default: bool


class ModelsResponse(BaseModel):
    """All checkpoints of the service."""

    models: list[ModelOut]


class Problem(BaseModel):
    """What was wrong with a request."""

    code: str = Field(description="A stable word for programs.", examples=["missing leads"])
    field: str | None = Field(description="The part of the request it is about.", examples=["recording.samples"])
    message: str = Field(description="What was wanted, what was got, what to do.")
    recording: int | None = Field(None, description="Place of the recording in the request.")


class ErrorResponse(BaseModel):
    """The body of every answer from 400 on."""

    error: Problem
