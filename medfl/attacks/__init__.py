"""What somebody who sees a release can find out."""
