// Package linkpb is the generated code of the link example's protocol.
package linkpb

// The files were made with protoc 3.21.12 (Debian's protobuf-compiler). The plugins are found where go install puts
// them, which has to be in the PATH.
//
//go:generate go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
//go:generate go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative link.proto
