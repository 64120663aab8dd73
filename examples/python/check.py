"""Asks Portcullis whether a key opens a call, and says what a service should answer its own caller.

`check` and `judge` are what to copy; the rest is a command line around them.
"""

import argparse
import sys
import time

import grpc

from portcullis.v1 import check_service_pb2 as messages
from portcullis.v1 import check_service_pb2_grpc as services

Reason = messages.CheckResponse.Reason
Code = grpc.StatusCode

# Disabled, expired, wrong source, lacking a permission are 403; so is whatever a later version may say.
STATUS_OF = {
    Reason.INVALID_CREDENTIAL: 401,
    Reason.INVALID_SETTING: 400,
    Reason.INVALID_REQUEST: 400,
    Reason.UNDECIDED: 503,
}


class Refused(Exception):
    """Why the service must not serve its caller, and the HTTP status to say so with."""

    def __init__(self, status, reason):
        super().__init__(f"{status} {reason}")
        self.status, self.reason = status, reason


def check(replicas, asked, deadline):
    """Asks the first replica and, if that one cannot answer, once more the second, all within `deadline` seconds.

    Returns the answer of an allowed call; raises Refused for whatever is not a clear ALLOW.
    """
    end = time.monotonic() + deadline
    refused = Refused(503, "no replica was asked")
    for left, replica in zip((2, 1) if len(replicas) > 1 else (1,), replicas):
        # One that hangs may not use up the time of the other.
        share = max(0.0, end - time.monotonic()) / left
        try:
            return judge(replica.Check(asked, timeout=share))
        except grpc.RpcError as error:
            code = error.code()
        # Some servers call a timeout CANCELLED.
        if code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED):
            refused = Refused(503, code.name)
        elif code in (Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE):
            # Nothing that was asked; another replica would say the same.
            raise Refused(400, code.name)
        else:
            # Portcullis could not decide, or does not know this service. That is nobody's fault but ours: never 401.
            raise Refused(503, code.name)
    raise refused


def judge(answer):
    """What a decision means. Only `allowed` together with OK opens the call."""
    if answer.allowed is True and answer.reason == Reason.OK:
        return answer
    known = answer.reason in Reason.values()
    name = Reason.Name(answer.reason) if known else str(answer.reason)
    raise Refused(STATUS_OF.get(answer.reason, 403), name)


def connect(address):
    """A client of one gate, at `host:port` or `unix:/path`. To be kept: connections are reused."""
    # A Unix socket's path is no authority, and a proxy has no business here.
    options = [("grpc.enable_http_proxy", 0)]
    if address.startswith("unix:"):
        options.append(("grpc.default_authority", "localhost"))
    return services.CheckServiceStub(grpc.insecure_channel(address, options=options))


def main():
    parser = argparse.ArgumentParser(
        description="Reads a credential from standard input and prints what to answer: `200 OK`, `403 KEY_DISABLED` ..."
    )
    parser.add_argument("--replica", action="append", required=True, help="where a gate listens; the nearest first")
    parser.add_argument("--workspace", default="default")
    parser.add_argument("--permission", action="append", default=[])
    parser.add_argument("--source", default="", help="the address that the service's caller connects from")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--timeout-ms", type=int, default=500)
    arguments = parser.parse_args()
    asked = messages.CheckRequest(
        credential=sys.stdin.read().rstrip("\n"),
        workspace=arguments.workspace,
        permissions=arguments.permission,
        source_address=arguments.source,
        settings=dict(setting.split("=", 1) for setting in arguments.setting),
    )
    try:
        answer = check([connect(at) for at in arguments.replica], asked, arguments.timeout_ms / 1000)
    except Refused as refused:
        print(refused)
        return 1
    print("200 OK", answer.key.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
