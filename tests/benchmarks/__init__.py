"""Benchmarks: kopwijzer beside scikit-learn, fastText and Vowpal Wabbit, on one machine.

`python -m tests.benchmarks` measures everything; see README.md for what was found.
"""
