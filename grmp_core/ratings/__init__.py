"""Votes of people, and the labels that follow from them."""
