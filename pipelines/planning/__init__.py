"""The features of a folder of images, and the plan which of them to rate."""
