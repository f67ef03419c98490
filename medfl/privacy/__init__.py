"""What is done to features and gradients before anybody else sees them."""
