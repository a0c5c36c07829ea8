"""The benchmark behind `scripts/bench`; docs/benchmark.md says what is measured and how.

Every competitor runs in its own process. What runs in the peers' environment (`worker`, `workloads`, `competitors`)
imports nothing but the standard library, numpy and the library that is measured.
"""
