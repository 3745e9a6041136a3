"""Names of the 12 standard leads: one canonical spelling for the many that archives use."""

import re
import unicodedata
from functools import lru_cache

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The 12 leads in the order in which every array of this project holds them."""

_BY_NUMBER = {"1": "I", "2": "II", "3": "III"}
_CANONICAL = {lead.lower(): lead for lead in STANDARD_LEADS}

_PREFIX = re.compile(r"(?:mdc_ecg_(?:lead|elec_potl)_|(?:(?:ecg|ekg)[\s_:.-]*)?(?:lead[\s_:.-]*)?)")
_SUFFIX = re.compile(r"(?:[\s_-]*lead|\s*\(einthoven\)|,\s*augmented voltage,\s*(?:right|left|foot))?")
_BODY = re.compile(
    r"(?P<negated>-\s?avr|avrneg)"
    r"|(?P<limb>i{1,3})"
    r"|(?P<numeral>[dl][\s_-]?i{1,3})"
    r"|(?P<number>[dl][\s_-]?[123])"
    r"|(?P<augmented>a[\s_-]?v[\s_-]?[rlf])"
    r"|(?P<chest>[vc][\s_-]?[1-6])"
)


def canonical_lead(name: str) -> str | None:
    """One of `STANDARD_LEADS` for any spelling of it that can mean nothing else, otherwise None.

    Case, surrounding spaces and the prefixes `ECG`, `EKG`, `Lead` and `MDC_ECG_LEAD_` do not matter. I, II and III may
    also be D1 or DI, L1 or LI, and so on; V1 to V6 may be C1 to C6, the electrodes' names in Europe. Bare numbers
    (`1`, `ECG 1`, `Lead 1`) count channels as often as they name leads, MLII and CM5 are other leads: all are None.
    So is the inverted lead -aVR; see `signed_lead`.
    """
    lead, sign = signed_lead(name)
    return lead if sign > 0 else None


@lru_cache(maxsize=4096)
def signed_lead(name: str) -> tuple[str | None, int]:
    """(lead, 1), or ("aVR", -1) for the inverted lead of the Cabrera sequence, or (None, 0) for no such lead."""
    # NFKC turns the single character for a Roman numeral two into the letters II.
    text = unicodedata.normalize("NFKC", name).strip().lower()
    prefix = _PREFIX.match(text)
    start = prefix.end() if prefix else 0
    # The dash of `-aVR` is a sign where nothing stands before it, and a mere separator in `ECG-aVR`.
    body = _BODY.match(text, start)
    if body is None or not _SUFFIX.fullmatch(text, body.end()):
        return None, 0
    letters = re.sub(r"[\s_-]", "", body[0])
    match body.lastgroup:
        case "negated":
            return "aVR", -1
        case "number":
            return _BY_NUMBER[letters[1]], 1
        case "numeral":
            return _CANONICAL[letters[1:]], 1
        case "chest":
            return "V" + letters[1], 1
    return _CANONICAL[letters], 1


def is_electrode_name(name: str) -> bool:
    """Whether a chest lead is written as C1 to C6, which are places on the scalp in an EEG."""
    lead = canonical_lead(name)
    return lead is not None and lead.startswith("V") and "v" not in name.lower()
