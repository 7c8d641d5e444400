"""Drawings of labs: machines, devices, cables, tunnels and routes, as text, SVG, Mermaid or Graphviz. No I/O."""
