"""Settings of the app, from the environment: where the service is, how long to wait, which model writes reports."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import httpx

from hubert_ecg.errors import ConfigError
from serve.client import DEFAULT_URL, KEY_VARIABLE

URL_VARIABLE = "HUBERT_ECG_SERVICE_URL"
TIMEOUT_VARIABLE = "HUBERT_ECG_APP_TIMEOUT_S"
OPENAI_KEY_VARIABLE = "OPENAI_API_KEY"
OPENAI_URL_VARIABLE = "OPENAI_BASE_URL"
OPENAI_MODEL_VARIABLE = "HUBERT_ECG_REPORT_MODEL"
OPENAI_TIMEOUT_VARIABLE = "HUBERT_ECG_REPORT_TIMEOUT_S"
DEFAULT_OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_OPENAI_MODEL = "gpt-4o"


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """All settings of the app. Keys are not shown, not logged, and not kept beyond the process or the session."""

    service_url: str = DEFAULT_URL
    service_key: str | None = None
    """Bearer key of the service, if it wants one."""
    timeout_s: float = 30.0
    """How long one request to the service may take; explanations may take four times as long."""
    openai_key: str | None = None
    """Key of the model that writes reports; it can be typed into the page instead."""
    openai_url: str = DEFAULT_OPENAI_URL
    """Base address of any service that speaks OpenAI's protocol."""
    openai_model: str = DEFAULT_OPENAI_MODEL
    openai_timeout_s: float = 30.0
    """How long it may be silent before it is given up."""

    def __post_init__(self) -> None:
        for name in ("service_url", "openai_url"):
            if not getattr(self, name).startswith(("http://", "https://")):
                raise ConfigError(f"{name}: wanted an address with http:// or https://, got {getattr(self, name)!r}")
            try:
                httpx.URL(getattr(self, name))
            except httpx.InvalidURL as error:
                raise ConfigError(f"{name}: wanted an address, got {getattr(self, name)!r} ({error})") from None
        for name in ("timeout_s", "openai_timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: wanted seconds above 0, got {getattr(self, name)}")

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """What the environment says, defaults for the rest. Raises ConfigError."""
        return cls(
            service_url=environment.get(URL_VARIABLE) or cls.service_url,
            service_key=environment.get(KEY_VARIABLE) or None,
            timeout_s=_seconds(environment, TIMEOUT_VARIABLE, cls.timeout_s),
            openai_key=environment.get(OPENAI_KEY_VARIABLE) or None,
            openai_url=environment.get(OPENAI_URL_VARIABLE) or cls.openai_url,
            openai_model=environment.get(OPENAI_MODEL_VARIABLE) or cls.openai_model,
            openai_timeout_s=_seconds(environment, OPENAI_TIMEOUT_VARIABLE, cls.openai_timeout_s),
        )


def _seconds(environment: Mapping[str, str], name: str, otherwise: float) -> float:
    text = environment.get(name) or str(otherwise)
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name}: wanted seconds, got {text!r}") from None
