"""`python -m huesong.cli`: the console where no console script is installed, as in the images."""

from huesong.cli.app import main

main()
