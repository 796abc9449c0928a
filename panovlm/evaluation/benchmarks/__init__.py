"""Benchmarks: each file reads one in the format it comes in, or one's own, and scores its answers.

Angles are always this package's: yaw 0 at the centre of the panorama, positive to the right.
"""
