module github.com/streamsafe/streamsafe/checkpoint/redis

go 1.26.0

require (
	github.com/redis/go-redis/v9 v9.23.0
	github.com/streamsafe/streamsafe v0.0.0
	github.com/streamsafe/streamsafe/checkpoint/internal/servertest v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/bits-and-blooms/bitset v1.24.4 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/failsafe-go/failsafe-go v0.9.8 // indirect
	github.com/influxdata/tdigest v0.0.1 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/grpc v1.85.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/streamsafe/streamsafe => ../..

replace github.com/streamsafe/streamsafe/checkpoint/internal/servertest => ../internal/servertest
