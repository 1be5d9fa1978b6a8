"""The workloads on a real Ray, small: same results however the work is spread, interrupted, or submitted."""
