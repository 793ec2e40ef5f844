"""The tools service: what a person's command line reaches in a cluster. It says who may ask what, and has the sidecar's own
code answer."""
