"""The frame engine: a child process that draws frames in planar 4:2:0 and writes them into an encoder's pipe."""
