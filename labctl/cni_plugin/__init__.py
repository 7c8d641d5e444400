"""labctl as a CNI plugin: the program `labctl-cni`, which a container runtime calls."""
