"""The machine itself: paths, state files, sysctls, modules, signals and system calls."""
