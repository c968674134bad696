package checkpoint

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A kill does not show what a machine without power loses. platter does: it watches the system calls of a File and knows
// what of its directory is on the disk for sure, and what is in memory only. From that it makes the directories that may
// be there when the machine starts again: any sector that was written and not synced is on the disk or is not.
type platter struct {
	dir   string
	files map[string]*content // by name, as the processes see them
	names map[string]*content // as they are on the disk
	last  op                  // the call that runs, or has just run
	temp  string              // the name of the last new file

	// fail makes a call fail, and drop makes the system forget, at a sync that fails, that the bytes were not written.
	fail func(o op) error
}

type content struct {
	synced []byte  // what is on the disk for sure
	dirty  []patch // what a sync would write
}

type patch struct {
	data []byte
	at   int64
}

func newPlatter(dir string) *platter {
	return &platter{dir: dir, files: make(map[string]*content), names: make(map[string]*content)}
}

// step is the hook of a disk: the call before has run, and this one is about to.
func (p *platter) step(o op) error {
	p.finish()
	var err error
	if p.fail != nil {
		err = p.fail(o)
	}
	if err == nil {
		p.last = o
		return nil
	}
	if o.call == "sync" { // the system takes the bytes for written
		p.files[filepath.Base(o.path)].dirty = nil
	}
	return err
}

// finish notes what the last call has done.
func (p *platter) finish() {
	o := p.last
	p.last = op{}
	name := filepath.Base(o.path)
	switch o.call {
	case "create":
		p.temp = name
		p.files[name] = &content{}
	case "write":
		c := p.files[name]
		c.dirty = append(c.dirty, patch{data: slices.Clone(o.data), at: o.at})
	case "sync":
		c := p.files[name]
		c.synced = c.after(len(c.dirty))
		c.dirty = nil
	case "rename":
		p.files[name] = p.files[p.temp]
		delete(p.files, p.temp)
	case "remove":
		delete(p.files, name)
	case "syncdir":
		if o.path == p.dir {
			p.names = maps.Clone(p.files)
		}
	}
}

// after returns the file with the first of its dirty bytes written.
func (c *content) after(patches int) []byte {
	b := slices.Clone(c.synced)
	for _, patch := range c.dirty[:patches] {
		b = patch.over(b)
	}
	return b
}

func (p patch) over(b []byte) []byte {
	if short := int(p.at) + len(p.data) - len(b); short > 0 {
		b = append(b, make([]byte, short)...)
	}
	copy(b[p.at:], p.data)
	return b
}

// torn returns the contents that a file may have after a loss of power: with some of the sectors that are not synced, in
// any order.
func (c *content) torn() [][]byte {
	const sector = 512
	contents := [][]byte{c.synced}
	for i, whole := range c.dirty {
		before := c.after(i)
		contents = append(contents, whole.over(slices.Clone(c.synced)), whole.over(slices.Clone(before)))
		for cut := sector; cut < len(whole.data); cut += sector {
			first := patch{data: whole.data[:cut], at: whole.at}
			rest := patch{data: whole.data[cut:], at: whole.at + int64(cut)}
			contents = append(contents, first.over(slices.Clone(before)), rest.over(slices.Clone(before)))
			if cut > 6*sector { // a large one is torn often enough
				cut += 5 * sector
			}
		}
	}
	return contents
}

// images calls f with each directory that may be there after a loss of power at this moment.
func (p *platter) images(t *testing.T, f func(dir, what string)) {
	t.Helper()
	p.finish()
	for which, names := range []map[string]*content{p.names, p.files} {
		if which == 1 && maps.Equal(names, p.names) {
			continue
		}
		for name, torn := range names {
			for i, b := range torn.torn() {
				dir := t.TempDir()
				for other, c := range names {
					if other != name {
						b := c.after(i % (len(c.dirty) + 1))
						require.NoError(t, os.WriteFile(filepath.Join(dir, other), b, 0o600))
					}
				}
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
				f(dir, fmt.Sprintf("names %d, %s torn in way %d", which, name, i))
			}
		}
		if len(names) == 0 {
			f(t.TempDir(), fmt.Sprintf("names %d, no files", which))
		}
	}
}

// sure returns the directory that is there after a loss of power if nothing gets to the disk that was not synced.
func (p *platter) sure(t *testing.T) string {
	t.Helper()
	p.finish()
	dir := t.TempDir()
	for name, c := range p.names {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), c.synced, 0o600))
	}
	return dir
}

// The machine stops before any system call, and before the first one after each call has returned.
func TestALossOfPowerTakesNothingBack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	disk, p := disk{}, newPlatter(dir)
	var before, after Record
	var highest uint64 // the last epoch that was given out
	images := 0
	look := func() {
		p.images(t, func(dir, what string) {
			images++
			f, err := OpenFile(dir)
			require.NoError(t, err)
			defer f.Close()
			r := loadOrNone(t, f)
			require.Contains(t, []Record{before, after}, r, what)
			owner, err := f.Acquire(t.Context(), "orders")
			require.NoError(t, err, what)
			require.Greater(t, owner.Epoch, highest, "%s: invariant 24: an epoch is never given out twice", what)
			require.Equal(t, r.Position, owner.Position, what)
			require.NoError(t, f.Commit(t.Context(), "orders", owner.Epoch, Position{Lineage: "new", Seq: 1}), what)
		})
	}
	disk.step = func(o op) error {
		err := p.step(o)
		look()
		return err
	}
	f, err := openFile(dir, disk)
	require.NoError(t, err)
	for _, s := range crashScript() {
		after = s.after
		require.NoError(t, s.call(t.Context(), f))
		before, highest = after, max(highest, after.Epoch)
		look()
	}
	require.NoError(t, f.Close())
	require.Greater(t, images, 300)
}

// loadOrNone returns the record without its time, and the zero Record if there is none.
func loadOrNone(t *testing.T, f *File) Record {
	t.Helper()
	r, err := f.Load(t.Context(), "orders")
	if !errors.Is(err, ErrNotFound) {
		require.NoError(t, err)
	}
	r.UpdatedAt = Record{}.UpdatedAt
	return r
}

// A process is killed, or told of an error, before any of its system calls. What a store then hands out is there after
// a loss of power, too.
func TestWhatIsHandedOutIsOnTheDisk(t *testing.T) {
	t.Parallel()
	failure := errors.New("input/output error")
	for _, killed := range []bool{false, true} {
		doubts := 0
		for step := 1; ; step++ {
			dir := filepath.Join(t.TempDir(), "store")
			p, count := newPlatter(dir), 0
			p.fail = func(op) error {
				if count++; count == step || killed && count > step {
					return failure
				}
				return nil
			}
			f, err := openFile(dir, disk{step: p.step})
			for _, s := range crashScript() {
				if err == nil {
					err = s.call(t.Context(), f)
				}
			}
			if err == nil {
				require.NoError(t, f.Close())
				require.Greater(t, step, 40)
				require.NotZero(t, doubts, "records that were in memory only")
				break
			}
			require.ErrorIs(t, err, failure)
			p.fail = nil
			if killed && f != nil {
				require.NoError(t, f.Close())
			}
			if killed || f == nil {
				for _, c := range p.files { // the next process cannot know that the bytes were not written
					c.dirty = nil
				}
				f, err = openFile(dir, disk{step: p.step})
				require.NoError(t, err, step)
			}
			lost := onDisk(t, p)
			r := loadOrNone(t, f)
			if lost != r {
				doubts++
			}
			require.Equal(t, r, onDisk(t, p), "step %d, killed: %v", step, killed)
			owner, err := f.Acquire(t.Context(), "orders")
			require.NoError(t, err)
			require.Equal(t, Record{Epoch: owner.Epoch, Position: owner.Position}, onDisk(t, p), "step %d", step)
			require.NoError(t, f.Close())
		}
	}
}

// onDisk returns the record that is there after a loss of power at this moment.
func onDisk(t *testing.T, p *platter) Record {
	t.Helper()
	f, err := OpenFile(p.sure(t))
	require.NoError(t, err)
	defer f.Close()
	return loadOrNone(t, f)
}

// A call that stopped half-way through its write has not happened. A process that is killed has written the first bytes,
// up to any. A machine that loses power has written any of the sectors.
func TestATornWriteFallsBack(t *testing.T) {
	t.Parallel()
	for slot := range int64(2) {
		durable, before, _, _ := written(t, slot)
		r := before
		r.generation++
		r.Position = Position{Lineage: "b", Seq: 70, Token: strings.Repeat("t", 1600)}
		next, at := encode(r), int64(len(durable)/2)*(1-slot)
		tears := make([]patch, 0, 3+len(next))
		for cut := range next {
			tears = append(tears, patch{data: next[:cut], at: at})
		}
		for _, sectors := range [][2]int{{512, len(next)}, {1024, len(next)}, {512, 1024}} {
			tears = append(tears, patch{data: next[sectors[0]:sectors[1]], at: at + int64(sectors[0])})
		}
		for _, torn := range tears {
			for _, mark := range []byte{markLive, markPast} { // the mark of the older record may not be on the disk
				b := slices.Clone(durable)
				b[at+int64(markAt)] = mark
				p, err := readSlots(torn.over(b))
				require.NoError(t, err, "%d bytes at %d", len(torn.data), torn.at)
				require.Equal(t, before, p.newest, "%d bytes at %d", len(torn.data), torn.at)
			}
		}
		p, err := readSlots(patch{data: next, at: at}.over(slices.Clone(durable)))
		require.NoError(t, err)
		require.Equal(t, r, p.newest, "all of it")
	}
}

// 1. A write is torn. 2. The store is used again. 3. The record that it fell back to is damaged. Then the older one must
// not count, though it was never marked after the write.
func TestTheMarkIsMadeAfterATornWrite(t *testing.T) {
	t.Parallel()
	content, _, at, _ := written(t, 1)
	content[markAt] = markLive // all that has reached the disk of the next record
	for what, again := range map[string]bool{"in the next process": false, "in the same process": true} {
		f := open(t)
		path := plant(t, f, "orders", content)
		if again {
			f.lane(fileName("orders")).knows(fileName("orders"), 6)
		}
		r, err := f.Load(t.Context(), "orders")
		require.NoError(t, err, what)
		require.Equal(t, uint64(5), r.Position.Seq, what)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		b[at+20] ^= 1
		wantDamaged(t, f, "orders", b, "the newest record, "+what)
	}
}
