"""What models share: clouds, node set-ups, chains of upstream projects, and the primitives below them."""
