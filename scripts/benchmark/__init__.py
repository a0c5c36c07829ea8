"""The benchmark behind `scripts/bench`; docs/benchmark.md describes what is measured and how.

Every competitor runs in its own process. Code for the peers' environment (`worker`, `workloads`, `competitors`) imports
only the standard library, numpy and the measured library.
"""
