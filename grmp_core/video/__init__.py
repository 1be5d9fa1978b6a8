"""Frames of a video at a stated rate, and one quality out of theirs."""
