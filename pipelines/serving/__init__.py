"""Online scoring with Ray Serve."""
