"""What runs leave on disk: folders, checkpoints, listings."""
