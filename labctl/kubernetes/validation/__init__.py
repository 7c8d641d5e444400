"""What is wrong with the objects of a lab, or strange about them, as far as one object cannot show it."""
