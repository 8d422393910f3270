"""Work that may wait: the job engine. A job's life, in the order of the modules:

    orders   handlers, commands and topics insert jobs, in the transaction that has a reason for them
    lines    the SQL of migration 030: later -> ready -> lease -> finished, each step one function
    runner   one process: claims what it has room for, has it run, keeps watch
    work     one start: inside the transaction that ends the job, or outside; what becomes of a failure
    reaper   what a lost process had, what took too long, what is old
    door     records of the job topics become orders

A job that has to do with Postgres alone runs inside the transaction that finishes it: its effects and its completion
are one fact. One that talks to the world (`@on(Job, transaction=False)`) runs outside, and may run again after a crash.
"""

from skillcore_streams.runtime.jobs.orders import CALLS, FailedCall, attempt_entry, held, hold_key, insert, insert_calls

__all__ = ["CALLS", "FailedCall", "attempt_entry", "held", "hold_key", "insert", "insert_calls"]
