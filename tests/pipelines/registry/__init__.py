"""The model registry: registering, promoting, serving."""
