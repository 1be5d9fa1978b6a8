"""Reasons for the score of one image: a map of its quality, types of damage, measurements, and sentences of them."""
