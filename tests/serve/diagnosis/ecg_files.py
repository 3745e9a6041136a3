"""One simulated 12-lead ECG of 10 s as an uploader has it: in every format that the readers know."""

import io
import tempfile
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyedflib
from scipy.io import savemat

from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.ecg.simulate import simulate_condition
from tests.formats.written_files import (
    EIGHT_LEADS,
    aecg_file,
    aecg_series,
    dicom_12_lead,
    limb_residuals,
    muse_file,
    muse_waveform,
    philips_file,
    philips_xli,
)

RATE_HZ = 500
IDENTIFIERS = ("Doe", "Jane", "P-17", "D\u00f6e")
"""What the formats with patients say of theirs."""
Files = tuple[tuple[str, bytes], ...]


def samples_mv(condition: str = "NORM", seed: int = 0) -> np.ndarray:
    """[12, 5000] float32."""
    return simulate_condition([condition], seed=seed)[0].samples.astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npy_shapes(samples: np.ndarray) -> Mapping[str, np.ndarray]:
    return {
        "samples": samples[1],
        "leads, samples": samples,
        "samples, leads": samples.T,
        "batch, leads, samples": np.stack([samples, samples]),
        "batch, samples, leads": np.stack([samples.T, samples.T]),
    }


def files_of(samples: np.ndarray) -> Mapping[str, Files]:
    """Format -> the (name, content) pairs that are uploaded together; only npy and csv do not say their rate."""
    counts = np.rint(samples / 0.0025).astype(np.int16)
    return {
        "npy": (("ecg.npy", npy(samples)),),
        "npz": (("ecg.npz", _npz(samples)),),
        "wfdb dat": (("ecg.hea", _header("ecg.dat 16")), ("ecg.dat", counts.T.astype("<i2").tobytes())),
        "wfdb mat": (("rec.hea", _header("rec.mat 16+24", "rec")), ("rec.mat", _mat(counts))),
        "edf": (("ecg.edf", _edf(samples, pyedflib.FILETYPE_EDFPLUS)),),
        "bdf": (("ecg.bdf", _edf(samples, pyedflib.FILETYPE_BDFPLUS)),),
        "dicom": (("ecg.dcm", dicom_12_lead(counts)),),
        "aecg": (("aecg.xml", aecg_file(aecg_series(counts))),),
        "muse": (("muse.xml", muse_file(muse_waveform(_eight(np.rint(samples / 0.00488).astype(np.int16))))),),
        "philips": (("philips.xml", _philips(samples)),),
        "csv": (("ecg.csv", _csv(samples)),),
    }


def _npz(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, ecg=samples, fs=RATE_HZ)
    return buffer.getvalue()


def _header(signal: str, name: str = "ecg") -> bytes:
    lines = [f"{name} 12 {RATE_HZ} 5000", *(f"{signal} 400/mV 16 0 0 0 0 {lead}" for lead in STANDARD_LEADS)]
    return ("\n".join(lines) + "\n").encode()


def _mat(counts: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"val": counts}, format="4")
    return buffer.getvalue()


def _eight(counts: np.ndarray) -> np.ndarray:
    return counts[[STANDARD_LEADS.index(lead) for lead in EIGHT_LEADS]]


def _philips(samples: np.ndarray) -> bytes:
    counts = np.rint(samples / 0.005).astype(np.int16)
    assert limb_residuals(counts).shape == counts.shape
    return philips_file(philips_xli(counts), counts.shape[1])


def _csv(samples: np.ndarray) -> bytes:
    table = pd.DataFrame({f"{lead} (mV)": np.round(row, 4) for lead, row in zip(STANDARD_LEADS, samples, strict=True)})
    return table.to_csv(index=False).encode()


def _edf(samples: np.ndarray, kind: int) -> bytes:
    low, high = (-(2**23), 2**23 - 1) if kind == pyedflib.FILETYPE_BDFPLUS else (-32768, 32767)
    signal = {
        "dimension": "mV",
        "sample_frequency": RATE_HZ,
        "physical_max": 10.0,
        "physical_min": -10.0,
        "digital_max": high,
        "digital_min": low,
        "transducer": "",
        "prefilter": "",
    }
    patient = {"patientname": "Jane Doe", "patientcode": "P-17", "sex": 0, "birthdate": date(1970, 5, 6)}
    rest = {"technician": "", "recording_additional": "", "patient_additional": "", "equipment": "", "admincode": ""}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ecg")
        with pyedflib.EdfWriter(str(path), 12, file_type=kind) as writer:
            writer.setHeader({**patient, **rest, "startdate": datetime(2020, 3, 1)})
            for row, lead in enumerate(STANDARD_LEADS):
                writer.setSignalHeader(row, {"label": f"ECG {lead}", **signal})
            writer.writeSamples(list(samples.astype(np.float64)))
        return path.read_bytes()
