"""The task `image-classification`: images in folders or RecordIO files, nets of GluonCV's model zoo."""
