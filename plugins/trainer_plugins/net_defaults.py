"""The plugins that `fit(net, …)` uses unless told otherwise."""

NET = {
    False: ("progress",),
    True: ("progress", "metrics-log", "checkpoint", "tensorboard", "report"),
}
"""By whether the run has a folder: True or False."""
