"""Entry points: `python -m jobs.<verb>` parses settings, runs the stage of that name, and says where the result is."""
