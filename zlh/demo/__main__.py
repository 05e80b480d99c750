"""`python -m zlh.demo`: the same as `zlh demo`, without loading the other commands first."""

import sys

from zlh.demo import main

sys.exit(main(sys.argv[1:]))
