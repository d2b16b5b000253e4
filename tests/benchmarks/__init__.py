"""
Figures, printed: `python -m tests.benchmarks` for all, or name some.

Ratios are taken within one run, with the competitors in turn, and are medians of several rounds:
machines are shared and noisy.
"""
