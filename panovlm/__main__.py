"""`python -m panovlm`: the command line where no script is installed, as launchers need it."""

from panovlm.commands.app import main

main()
