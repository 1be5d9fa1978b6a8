"""Image files of any kind: finding, recognizing and decoding them."""
