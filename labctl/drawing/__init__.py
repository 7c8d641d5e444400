"""Drawings of labs: machines, devices, cables, tunnels and routes, as text, SVG, HTML, Mermaid or Graphviz. No I/O."""
