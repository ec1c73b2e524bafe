"""Kernels for GPUs that each replace several operations of torch: batch norm with ReLU and sums, the optimizer's step.

They are written in Triton, which exists on Linux only. Before a kernel is used on a device, its results there are
compared with torch's. If it cannot run, or its results differ, torch's operations are used.
"""
