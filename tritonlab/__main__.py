"""`python -m tritonlab` is `tritonlab`."""

from tritonlab.cli import main

main()
