"""The ECG on paper, as cardiologists are used to it: on a screen, interactive, and for print."""
