// The control G: a stock grpc-go server, the same service as ../tonic-echo/echo.proto.
package main

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type echo interface {
	Say(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
}

type prefix struct{}

func (prefix) Say(_ context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	if len(in.Value) < 25 {
		return nil, status.Error(codes.InvalidArgument, "fewer than 25 characters")
	}
	return wrapperspb.String(in.Value[:25]), nil
}

// What protoc-gen-go-grpc generates, by hand, so that the build needs no generator.
var service = grpc.ServiceDesc{
	ServiceName: "portcullis.bench.Echo",
	HandlerType: (*echo)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: func(
		server any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor,
	) (any, error) {
		in := new(wrapperspb.StringValue)
		if err := decode(in); err != nil {
			return nil, err
		}
		if interceptor == nil {
			return server.(echo).Say(ctx, in)
		}
		info := &grpc.UnaryServerInfo{Server: server, FullMethod: "/portcullis.bench.Echo/Say"}
		return interceptor(ctx, in, info, func(ctx context.Context, in any) (any, error) {
			return server.(echo).Say(ctx, in.(*wrapperspb.StringValue))
		})
	}}},
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready:", listener.Addr())
	server := grpc.NewServer()
	server.RegisterService(&service, prefix{})
	log.Fatal(server.Serve(listener))
}
