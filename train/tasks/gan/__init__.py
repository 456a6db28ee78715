"""The task on a generator of clips against discriminators."""
