"""The settings of a run and the options of plugins and tasks."""
