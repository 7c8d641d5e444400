"""What a lab is made of: resources, rules, results, the diff between plan and kernel. Frozen data without I/O."""
