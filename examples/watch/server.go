package main

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// service is grpc's own health service, as it is.
var service = health.NewServer()

func register(server *grpc.Server) { healthpb.RegisterHealthServer(server, service) }
