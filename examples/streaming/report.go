package main

import (
	"sync"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// report is how the client stands. It crosses from process to process as JSON.
type report struct {
	State   string `json:"state"`
	Answers uint64 `json:"answers"` // number of the last answer
	Breaks  uint64 `json:"breaks"`  // attempts lost
	Resumes uint64 `json:"resumes"` // attempts attached after the first
	Unacked int    `json:"unacked"` // lines sent and not acknowledged
}

// changes observes the stream: it holds a value when the state has changed.
type changes chan struct{}

// OnAttached implements [stream.AttachedObserver].
func (c changes) OnAttached(stream.Info, checkpoint.Position) { c.note() }

// OnDetached implements [stream.DetachedObserver].
func (c changes) OnDetached(stream.Info, error) { c.note() }

func (c changes) note() {
	select {
	case c <- struct{}{}:
	default:
	}
}

// startReports reports at every change and every so often. The function it returns ends that with a last report.
func (c *client) startReports(s *clientStream, changes changes) (stop func()) {
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { // ends when ended is closed; stop waits
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			c.report(reportOf(s.Stats()))
			select {
			case <-ended:
				c.report(reportOf(s.Stats()))
				return
			case <-changes:
			case <-ticker.C:
			}
		}
	})
	return func() {
		close(ended)
		running.Wait()
	}
}

func reportOf(st stream.Stats) report {
	return report{
		State: st.State.String(), Answers: st.Delivered.Seq, Breaks: st.Outages, Resumes: st.Resumes, Unacked: st.Unacked,
	}
}
