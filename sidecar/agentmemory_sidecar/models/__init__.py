"""Models that help the filter: one that runs here, one that is asked over HTTP. Libraries are imported when they are needed,
because they are large and most sidecars use neither."""
