"""The life of a key, told by a Python client.

It knows only what reflection (v1alpha) describes: no generated code, no protoc. Called by lifecycle_python.rs:

    lifecycle.py --gate ADDRESS --admin ADDRESS --token-file FILE

An address is `host:port` or `unix:/path`. It ends with 0 when everything was as it must be.
"""

import argparse

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status


def channel_to(address):
    # The default authority of a Unix socket is its escaped path, which is no authority at all.
    options = [("grpc.default_authority", "localhost")] if address.startswith("unix:") else []
    return grpc.insecure_channel(address, options=options)


class Service:
    """Calls the methods of one service with dicts, as the server describes them."""

    def __init__(self, channel, name, token=None):
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self._service = pool.FindServiceByName(name)
        self._channel = channel
        self._metadata = [("authorization", f"Bearer {token}")] if token else []

    def __call__(self, method, **fields):
        described = self._service.methods_by_name[method]
        request = message_factory.GetMessageClass(described.input_type)
        answer = message_factory.GetMessageClass(described.output_type)
        call = self._channel.unary_unary(
            f"/{self._service.full_name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        message = json_format.ParseDict(fields, request())
        return json_format.MessageToDict(
            call(message, metadata=self._metadata, timeout=30), preserving_proto_field_name=True
        )


def refused(code, reason, call, *args, **fields):
    """Asserts an error status with its ErrorInfo; answers the names of the fields at fault."""
    try:
        answer = call(*args, **fields)
    except grpc.RpcError as error:
        assert error.code() is code, (args, error)
        status = rpc_status.from_call(error)
        assert status is not None, f"{args}: no details: {error}"
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        infos = [detail for detail in status.details if detail.Unpack(info)]
        assert len(infos) == 1, (args, status)
        assert (info.domain, info.reason) == ("portcullis.dev", reason), (args, status)
        for detail in status.details:
            detail.Unpack(bad_request)
        return [violation.field for violation in bad_request.field_violations]
    raise AssertionError(f"{args} {fields}: accepted: {answer}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gate", required=True)
    parser.add_argument("--admin", required=True)
    parser.add_argument("--token-file", required=True)
    arguments = parser.parse_args()
    with open(arguments.token_file, encoding="ascii") as file:
        root = file.read().strip()

    gate_channel, admin_channel = channel_to(arguments.gate), channel_to(arguments.admin)
    for channel in (gate_channel, admin_channel):
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer

    keys = Service(admin_channel, "portcullis.v1.KeyService", root)
    gate = Service(gate_channel, "portcullis.v1.CheckService")

    def decides(reason, credential, *permissions, **asked):
        answer = gate("Check", credential=credential, permissions=list(permissions), **asked)
        assert answer["reason"] == reason, (reason, answer)
        assert answer.get("allowed", False) is (reason == "OK"), answer
        return answer

    # Without a credential, and with a wrong one.
    anyone = Service(admin_channel, "portcullis.v1.KeyService")
    stranger = Service(admin_channel, "portcullis.v1.KeyService", "pc_nobody_nothing")
    listing = {"parent": "workspaces/default"}
    refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING", anyone, "ListKeys", **listing)
    refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID", stranger, "ListKeys", **listing)

    # Create, get, list.
    issued = keys(
        "CreateKey",
        parent="workspaces/default",
        key={
            "display_name": "Müller & Söhne",
            "permissions": ["sms.send"],
            "ip_allowlist": ["192.0.2.77/24"],
            "labels": {"team": "billing", "stage": "live"},
        },
    )
    key, token = issued["key"], issued["token"]
    assert key["ip_allowlist"] == ["192.0.2.0/24"], key
    assert keys("GetKey", name=key["name"]) == key
    assert key in keys("ListKeys", **listing)["keys"]
    wrong = {"parent": "workspaces/default", "key": {"ip_allowlist": ["192.0.2.1", "192.0.2.256"]}}
    fields = refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", keys, "CreateKey", **wrong)
    assert fields == ["key.ip_allowlist[1]"], fields

    # Check: source, permission, labels.
    inside = {"source_address": "192.0.2.9"}
    answer = decides("OK", token, "sms.send", labels=["team", "none"], **inside)
    assert answer["key"]["name"] == key["name"], answer
    assert answer["key"]["labels"] == {"team": "billing"}, answer
    decides("SOURCE_DENIED", token, "sms.send")
    decides("SOURCE_DENIED", token, "sms.send", source_address="198.51.100.1")
    decides("PERMISSION_DENIED", token, "sms.read", **inside)

    # A batch decides each item by itself, in order.
    other = keys("CreateKey", parent="workspaces/default", key={"display_name": "other"})
    batch = gate(
        "BatchCheck",
        checks=[
            {"credential": token, "permissions": ["sms.send"], **inside},
            {"credential": "", "permissions": ["sms.send"]},
            {"credential": token},
            {"credential": token, "source_address": "not an address"},
            {"credential": token, "permissions": ["sms.read"], **inside},
            {"credential": other["token"], "permissions": ["anything.at-all"]},
            {"credential": f"pc_{key['key_id']}_{other['secret']}"},
        ],
    )["results"]
    assert [result["reason"] for result in batch] == [
        "OK",
        "INVALID_CREDENTIAL",
        "SOURCE_DENIED",
        "INVALID_REQUEST",
        "PERMISSION_DENIED",
        "OK",
        "INVALID_CREDENTIAL",
    ], batch
    assert [result.get("allowed", False) for result in batch] == [True, False, False, False, False, True, False]
    fields = refused(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", gate, "BatchCheck", checks=[{"credential": token}] * 1001
    )
    assert fields == ["checks"], fields

    # Update with a stale etag changes nothing.
    stale = key["etag"]
    key = keys("UpdateKey", key={"name": key["name"], "permissions": ["sms.read"]}, update_mask="permissions")
    # In JSON a mask names fields in lowerCamelCase.
    change = {"key": {"name": key["name"], "etag": stale, "display_name": "late"}, "update_mask": "displayName"}
    refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH", keys, "UpdateKey", **change)
    assert keys("GetKey", name=key["name"]) == key
    decides("PERMISSION_DENIED", token, "sms.send", **inside)
    decides("OK", token, "sms.read", **inside)

    # Disable, enable, reset, delete.
    assert keys("DisableKey", name=key["name"])["state"] == "DISABLED"
    decides("KEY_DISABLED", token, **inside)
    assert keys("EnableKey", name=key["name"])["key"]["state"] == "ACTIVE"
    decides("OK", token, **inside)
    fresh = keys("ResetSecret", name=key["name"])["token"]
    decides("INVALID_CREDENTIAL", token, **inside)
    decides("OK", fresh, **inside)
    refused(grpc.StatusCode.FAILED_PRECONDITION, "KEY_ACTIVE", keys, "DeleteKey", name=key["name"])
    keys("DeleteKey", name=key["name"], force=True)
    decides("INVALID_CREDENTIAL", fresh, **inside)
    refused(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND", keys, "DeleteKey", name=key["name"], force=True)


if __name__ == "__main__":
    main()
