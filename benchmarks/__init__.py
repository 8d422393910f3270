"""Side by side, in one run: ratios and CPU per event. `python -m benchmarks` (make bench)."""
