package main

import (
	"cmp"
	"maps"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/stream"
)

// everyWatch is the id in an answer that is about no single watch: to a progress request, or to a create request that etcd
// refuses.
const everyWatch int64 = -1

// watchSet is what one stream watches. It is made for streams that open one attempt at a time, without hedges.
type watchSet struct {
	mu     sync.Mutex                       // guards wanted
	wanted map[int64]*pb.WatchCreateRequest // by watch

	at progress // owned by the callbacks, of which one runs at a time
}

// newWatchSet returns a set of watches, which need ids that differ, from 1. A watch that the position does not have begins
// at its StartRevision, or where there is none, now.
func newWatchSet(creates ...*pb.WatchCreateRequest) *watchSet {
	w := &watchSet{wanted: make(map[int64]*pb.WatchCreateRequest)}
	for _, c := range creates {
		w.wanted[c.GetWatchId()] = c
	}
	return w
}

// current returns the watches that are wanted now, by id.
func (w *watchSet) current() map[int64]*pb.WatchCreateRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.wanted)
}

// remove takes a watch out: the next attempt does not create it. The server of this one is told by a cancel request.
func (w *watchSet) remove(id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.wanted, id)
}

// callbacks are what a stream of these watches needs.
func (w *watchSet) callbacks() stream.Callbacks[pb.WatchRequest, pb.WatchResponse] {
	return stream.Callbacks[pb.WatchRequest, pb.WatchResponse]{
		Resume: w.resume, Err: failure, Checkpoint: w.checkpoint, Control: isProtocol, Lost: lost,
	}
}

// isProtocol reports whether m tells of progress, or answers a ping, and of nothing that happened to a watch.
func isProtocol(m *pb.WatchResponse) bool {
	return m.GetWatchId() == everyWatch || len(m.GetEvents()) == 0 && !m.GetCreated() && !m.GetCanceled()
}

// createRequest creates c from a revision on, and from its own where that is zero.
func createRequest(c *pb.WatchCreateRequest, from int64) *pb.WatchRequest {
	c = proto.CloneOf(c)
	c.StartRevision = cmp.Or(from, c.GetStartRevision())
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}}
}

// cancelRequest cancels a watch.
func cancelRequest(id int64) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
}

// progressRequest asks how far the watches of the stream are. etcd does not answer while one is behind, or waits for a
// revision that is not there yet, as each does that was resumed while nothing happens.
func progressRequest() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}

// pingRequest asks for an answer that always comes: etcd refuses a watch of an empty range at once.
func pingRequest() *pb.WatchRequest {
	return createRequest(&pb.WatchCreateRequest{Key: []byte("ping"), RangeEnd: []byte("ping")}, 0)
}
