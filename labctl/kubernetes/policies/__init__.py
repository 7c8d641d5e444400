"""Network policies: what they allow and why, and the rules of the engines that enforce them."""
