"""The command line of the producing side, one module a command group."""
