"""The plugins and tasks that come with gluon-trainer; each is found through its entry point, like any other."""
