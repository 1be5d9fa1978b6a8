"""How good a model is: what it is measured by, and the baselines it is held against."""
