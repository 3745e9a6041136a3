"""What the user types about the patient; it stays in the PDF and goes nowhere else."""

from dataclasses import dataclass, fields

from serve.printing.fonts import required


@dataclass(frozen=True, kw_only=True)
class PatientFields:
    """All as text, as it was typed; what is empty is printed as a line to write on."""

    name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    recorded: str = ""
    """Date and time of the recording."""
    clinician: str = ""
    note: str = ""


TITLES = {
    "name": "Name",
    "patient_id": "ID",
    "birth_date": "Born",
    "sex": "Sex",
    "recorded": "Recorded",
    "clinician": "Clinician",
    "note": "Note",
}


def printed_fields(patient: PatientFields) -> dict[str, str]:
    """Title -> text of each field on one line. Raises InputError for a character that cannot be printed."""
    return {
        TITLES[each.name]: " ".join(required(getattr(patient, each.name), f"patient, {TITLES[each.name]}").split())
        for each in fields(patient)
    }
