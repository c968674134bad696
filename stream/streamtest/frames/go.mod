module github.com/streamsafe/streamsafe/stream/streamtest/frames

go 1.26.0

require (
	github.com/streamsafe/streamsafe v0.0.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/net v0.60.0
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/grpc v1.85.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/streamsafe/streamsafe => ../../..
