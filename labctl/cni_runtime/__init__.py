"""labctl as a runtime of CNI plugins: which plugin is called when and with what, and what plugins made. No I/O."""
