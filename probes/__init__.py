"""What is probed and what came back. The bottom of the house: imports none of our other packages."""
