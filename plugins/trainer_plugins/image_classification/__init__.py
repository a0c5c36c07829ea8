"""The task `image-classification`: photos in folders or RecordIO files, nets of GluonCV's model zoo."""
