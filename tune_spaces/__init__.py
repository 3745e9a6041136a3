"""Search spaces of jobs.tune, one YAML file each: data, no logic. A file that is added here is found by its name."""
