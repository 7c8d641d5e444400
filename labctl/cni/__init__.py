"""What the CNI specification defines: network lists, results, errors and versions. No I/O."""
