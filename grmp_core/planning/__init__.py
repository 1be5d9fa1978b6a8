"""Which images to label next, and when to stop."""
