"""Raw files to Recordings: one reader per format, chosen by the file's content.

A reader turns whatever is wrong with a file into a RecordingError with a stable `reason`, never executes what it reads,
and takes no more memory than a small multiple of the file's own size.
"""

from hubert_ecg.formats.detect import KNOWN_FORMATS, Format, detect_format
from hubert_ecg.formats.options import ReadOptions
from hubert_ecg.formats.reading import count_recordings, read_recording, read_recordings
from hubert_ecg.formats.wfdb import read_wfdb, referenced_files

__all__ = [
    "KNOWN_FORMATS",
    "Format",
    "ReadOptions",
    "count_recordings",
    "detect_format",
    "read_recording",
    "read_recordings",
    "read_wfdb",
    "referenced_files",
]
