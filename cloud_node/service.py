"""How gRPC hands calls to the ingress."""

import grpc
import grpc.aio

from cloud_node.ingress import Ingress
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import result_pb2

NAME = "lamplight.v1.Enhancement"


def add_ingress(ingress: Ingress, server: grpc.aio.Server) -> None:
    """As the generated code does, but for Enhance, on the wire a call with one request: it is taken as a stream of one,
    since gRPC holds all of a single request, 128 MiB maybe, before anybody is asked whether the caller may come in.
    """
    handlers = {
        "Stream": grpc.stream_stream_rpc_method_handler(
            ingress.Stream, pb.EdgeMessage.FromString, pb.CloudMessage.SerializeToString
        ),
        "Enhance": grpc.stream_unary_rpc_method_handler(
            ingress.Enhance, pb.Image.FromString, result_pb2.Result.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))
