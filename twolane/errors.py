"""Every error of the project, in one tree.

::

    TwolaneError                    exit code 1
    ├── UsageError                  2   what was asked for cannot be: nothing was done
    │   ├── JobDefinitionError          a @job that cannot be registered
    │   ├── UnknownJob                  no registered job has that name
    │   ├── BadArguments                arguments that do not fit the job's signature
    │   ├── NotEncodable                a value with no form on the wire
    │   └── UnknownRun                  no run has that name
    ├── BrokerError                 3
    │   ├── BrokerUnreachable           no server answers at the URL
    │   └── BrokerRefused               a server answers, and will not have us
    ├── JobFailure                  4   recorded as the outcome of one job
    │   ├── JobTimeout                  ran longer than its timeout
    │   ├── JobCancelled                cancelled by a person
    │   ├── ProcessDied                 its process ended under it (signal, exit, memory limit)
    │   ├── TriesExhausted              its workers died once too often
    │   ├── UnknownFunction             this worker has no such job
    │   ├── WrongLane                   the job came by the other lane's queue
    │   ├── UndecodablePayload          its bytes are not a job
    │   ├── ExpiredPayload              its payload was gone when it was claimed
    │   ├── PayloadTooLarge             its bytes are over the limit
    │   ├── ResultNotEncodable          it returned a value with no form on the wire
    │   ├── ResultTooLarge              it returned more than the limit
    │   └── RemoteError                 what the job itself raised, as recorded by its worker
    ├── JobsLost                    1   places in a queue, or outcomes, were deleted on the broker
    ├── JobsFailed                  4   a measurement whose jobs all failed
    └── WaitTimeout                 5   the time for waiting was over before the jobs were done

A job's failure is recorded as its class name, its message and a traceback text; nothing of it is
ever executed or unpickled on the reading side.
"""

from __future__ import annotations


class TwolaneError(Exception):
    """Base of all errors of the project. ``exit_code`` is what a command ends with."""

    exit_code = 1


class UsageError(TwolaneError):
    exit_code = 2


class JobDefinitionError(UsageError):
    pass


class UnknownJob(UsageError):
    pass


class BadArguments(UsageError):
    pass


class NotEncodable(UsageError):
    pass


class UnknownRun(UsageError):
    pass


class BrokerError(TwolaneError):
    exit_code = 3


class BrokerUnreachable(BrokerError):
    pass


class BrokerRefused(BrokerError):
    pass


class JobFailure(TwolaneError):
    exit_code = 4


class JobTimeout(JobFailure):
    pass


class JobCancelled(JobFailure):
    pass


class ProcessDied(JobFailure):
    pass


class TriesExhausted(JobFailure):
    pass


class UnknownFunction(JobFailure):
    pass


class WrongLane(JobFailure):
    pass


class UndecodablePayload(JobFailure):
    pass


class ExpiredPayload(JobFailure):
    pass


class PayloadTooLarge(JobFailure):
    pass


class ResultNotEncodable(JobFailure):
    pass


class ResultTooLarge(JobFailure):
    pass


class RemoteError(JobFailure):
    """What a job raised, as its worker recorded it.

    ``type`` is the exception's class name, ``message`` its text, ``traceback`` the worker's
    traceback as text (empty where there was none). All three are untrusted text.
    """

    def __init__(self, type: str, message: str, traceback: str = "") -> None:  # noqa: A002  (the field's name on the wire)
        super().__init__(f"{type}: {message}" if message else type)
        self.type = type
        self.message = message
        self.traceback = traceback


class JobsLost(TwolaneError):
    pass


class JobsFailed(TwolaneError):
    exit_code = 4


class WaitTimeout(TwolaneError):
    exit_code = 5
