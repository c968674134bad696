module github.com/streamsafe/streamsafe/checkpoint/postgres

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.12.0
	github.com/streamsafe/streamsafe v0.0.0
	github.com/streamsafe/streamsafe/checkpoint/internal/servertest v0.0.0
	github.com/stretchr/testify v1.12.1
	google.golang.org/grpc v1.85.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

require (
	github.com/bits-and-blooms/bitset v1.24.4 // indirect
	github.com/failsafe-go/failsafe-go v0.9.8 // indirect
	github.com/influxdata/tdigest v0.0.1 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/streamsafe/streamsafe => ../..

replace github.com/streamsafe/streamsafe/checkpoint/internal/servertest => ../internal/servertest
