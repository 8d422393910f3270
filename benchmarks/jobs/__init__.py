"""The job engine beside the queue it replaces, and beside two of Python's: `python -m benchmarks jobs`.

    bench      what is measured, in which order, and the report
    peers      who takes part: how each is installed, which servers it uses, how its processes are started
    ours       our engine as a worker runs it; and theirs/: BullMQ, procrastinate, arq

All of them are told by one JSON object what to do (`peers.Told`) and answer in lines: ready, began, done. Time and CPU
are taken here, when a line arrives, the same way for all: nobody measures himself.
"""
