"""Settings of the service: which checkpoints, how many processes, and what it refuses. The arguments of `build_app`."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hubert_ecg.storage import files

MIB = 1 << 20
_SHA256_DIGITS = 64


class ServiceSettings(BaseModel):
    """All settings of the service; `serve/config.yaml` shows them in use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoints: dict[str, str] = Field(min_length=1)
    """Name in requests -> directory of a classifier (jobs.finetune, jobs.calibrate). The first one is the default."""
    num_crops: int = Field(3, ge=1, le=64)
    """Crops of 5 s per recording whose probabilities are averaged; their spread is the uncertainty."""
    min_replicas: int = Field(1, ge=1)
    """Model processes that are always there."""
    max_replicas: int = Field(1, ge=1)
    """Model processes under load."""
    cpus_per_replica: float = Field(1.0, gt=0)
    """CPUs that Ray reserves for a model process."""
    threads_per_replica: int = Field(0, ge=0)
    """Threads of torch in a model process; 0 takes as many as CPUs are reserved."""
    gpus_per_replica: float = Field(0.0, ge=0)
    """GPUs of a model process; a fraction lets several share one."""
    max_batch_size: int = Field(16, ge=1)
    """Recordings in one forward pass. Batches never mix checkpoints."""
    batch_wait_ms: float = Field(5.0, ge=0)
    """How long the first recording of a batch waits for others."""
    max_waiting: int = Field(256, ge=1)
    """Recordings that are accepted and not yet answered; beyond that the service answers 503."""
    drain_s: float = Field(600.0, gt=0)
    """How long a process that is to end goes on with what was accepted: as long as a request may take, which is
    `request_timeout_s` of the HTTP options. Whoever ends the service has to wait as long before killing it."""
    retry_after_s: int = Field(1, ge=1)
    """What a refused client is told to wait."""
    max_body_mib: float = Field(64.0, gt=0)
    """Largest request body, counted while it arrives; four times that is what a file may unpack to, and
    what the samples of all files of a request may take."""
    max_recordings: int = Field(64, ge=1)
    """Recordings in one request; no more than `max_waiting` in any case."""
    max_explained: int = Field(4, ge=1)
    """Recordings in one request that are to be explained: each costs about a hundred predictions."""
    max_duration_s: float = Field(3600.0, gt=0)
    """Longest recording; a longer one is refused before it is filtered."""
    key_hashes: dict[str, str] = Field(default_factory=dict)
    """Name of a caller -> SHA-256 of its bearer key in hex (`python -m serve.keys` makes both). Keys may also stand in
    the environment variable HUBERT_ECG_API_KEYS as `name:key,name:key`. Without any, everybody may call."""
    rate_limit_per_minute: int = Field(0, ge=0)
    """Requests per minute and key, in bursts of at most a sixth of that; 0: no limit."""
    cors_origins: tuple[str, ...] = ()
    """Web pages that may call from a browser; none by default."""

    @field_validator("checkpoints")
    @classmethod
    def _absolute(cls, checkpoints: dict[str, str]) -> dict[str, str]:
        """Replicas start in directories of their own."""
        return {name: files.absolute(place) for name, place in checkpoints.items()}

    @field_validator("key_hashes")
    @classmethod
    def _hex(cls, hashes: dict[str, str]) -> dict[str, str]:
        for name, digest in hashes.items():
            if len(digest) != _SHA256_DIGITS or set(digest.lower()) - set("0123456789abcdef"):
                raise ValueError(f"{name}: wanted 64 hex digits of a SHA-256, got {len(digest)} characters")
        return {name: digest.lower() for name, digest in hashes.items()}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas: wanted at least min_replicas = {self.min_replicas}, got {self.max_replicas}"
            )
        return self

    @property
    def max_body_bytes(self) -> int:
        return round(self.max_body_mib * MIB)
