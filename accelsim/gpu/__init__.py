"""Kernels and measurements on an NVIDIA GPU; the only package that imports CuPy, and late.

``device`` finds the GPU, ``board`` reads its sensors, ``counters`` runs the
profiler, ``kernel`` compiles and launches CUDA C++ from ``kernels/``,
``measure`` times and weighs it, ``microbench`` and ``waits`` measure ceilings
that ``ceilings`` turns into a GPU file, ``grid`` draws cases and ``fresh``
measures them.  Each other module holds one family of kernels: what it
computes, the tiles it takes, its launch and its float64 check.
"""
