"""Speed and memory figures; each module is one script: `python -m benchmarks.NAME`."""
