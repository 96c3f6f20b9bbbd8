"""The fork server, a program: see `__main__`. What lies beside it is loaded by that program only."""
