"""Work of several of torch's operations in one kernel each, on GPUs: batch norm with what is around it, the optimizer.

The kernels are Triton's, which is there on Linux only. Before any is used on a device, what it computes there is
compared with what torch does; where it cannot run, or is wrong, torch's operations do the work.
"""
