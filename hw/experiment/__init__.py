"""The design flow: config, run folder, steps, evaluation, report."""
