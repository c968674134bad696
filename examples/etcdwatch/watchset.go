package main

import (
	"cmp"
	"maps"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/stream"
)

// everyWatch is the id in an answer to a progress request, which is about all watches of the stream.
const everyWatch int64 = clientv3.InvalidWatchID

// watchSet is what one stream watches.
type watchSet struct {
	start string // the token of a stream without a position; set at construction, then read only

	mu     sync.Mutex                       // guards wanted
	wanted map[int64]*pb.WatchCreateRequest // by watch

	at progress // owned by the callbacks, of which one runs at a time
}

// newWatchSet returns a set of watches, which need ids that differ, from 1.
func newWatchSet(creates ...*pb.WatchCreateRequest) *watchSet {
	w := &watchSet{wanted: make(map[int64]*pb.WatchCreateRequest)}
	start := make(progress)
	for _, c := range creates {
		w.wanted[c.GetWatchId()] = c
		if first := c.GetStartRevision(); first > 0 {
			start[c.GetWatchId()] = standing{Next: first}
		}
	}
	w.start = start.position("").Token
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
		Resume: w.resume, Err: failure, Checkpoint: w.checkpoint, Control: isProgress, Lost: lost,
	}
}

// isProgress reports whether m tells of a revision and of nothing that happened.
func isProgress(m *pb.WatchResponse) bool {
	return len(m.GetEvents()) == 0 && !m.GetCreated() && !m.GetCanceled()
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

// progressRequest asks how far the watches of the stream are.
func progressRequest() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}
