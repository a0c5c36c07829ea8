"""Training a bare Gluon net: arrays in, a run out, without a task class."""
