"""From a batch of images to predictions."""
