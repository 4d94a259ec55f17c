"""One machine's run: a directory that is always at a barrier, the engines, and the processes of the risk stage."""
