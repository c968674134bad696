package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// The stores of this file break one rule each; red_test.go runs the suite on them.

// altered is a store that is right but for the methods that are set.
type altered struct {
	checkpoint.Memory
	acquire func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error)
	commit  func(ctx context.Context, s checkpoint.Store, key string, epoch uint64, p checkpoint.Position) error
	load    func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error)
	remove  func(ctx context.Context, s checkpoint.Store, key string) error
}

func (a *altered) Acquire(ctx context.Context, key string) (checkpoint.Record, error) {
	if a.acquire != nil {
		return a.acquire(ctx, &a.Memory, key)
	}
	return a.Memory.Acquire(ctx, key)
}

func (a *altered) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	if a.commit != nil {
		return a.commit(ctx, &a.Memory, key, epoch, p)
	}
	return a.Memory.Commit(ctx, key, epoch, p)
}

func (a *altered) Load(ctx context.Context, key string) (checkpoint.Record, error) {
	if a.load != nil {
		return a.load(ctx, &a.Memory, key)
	}
	return a.Memory.Load(ctx, key)
}

func (a *altered) Delete(ctx context.Context, key string) error {
	if a.remove != nil {
		return a.remove(ctx, &a.Memory, key)
	}
	return a.Memory.Delete(ctx, key)
}

// force commits p whatever its Seq and whoever owns the key.
func force(ctx context.Context, s checkpoint.Store, key string, p checkpoint.Position) error {
	for {
		r, err := s.Load(ctx, key)
		if err != nil {
			return err
		}
		err = s.Commit(ctx, key, r.Epoch, checkpoint.Position{Token: p.Token}) // unordered: no longer in the way
		if err == nil {
			err = s.Commit(ctx, key, r.Epoch, p)
		}
		if !errors.Is(err, checkpoint.ErrFenced) && !errors.Is(err, checkpoint.ErrRegression) {
			return err
		}
	}
}

// renaming changes keys on their way in.
func renaming(name func(key string) string) *altered {
	return &altered{
		acquire: func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error) {
			return s.Acquire(ctx, name(key))
		},
		commit: func(ctx context.Context, s checkpoint.Store, key string, epoch uint64, p checkpoint.Position) error {
			return s.Commit(ctx, name(key), epoch, p)
		},
		load: func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error) {
			return s.Load(ctx, name(key))
		},
		remove: func(ctx context.Context, s checkpoint.Store, key string) error {
			return s.Delete(ctx, name(key))
		},
	}
}

// changing changes positions on their way in.
func changing(position func(p checkpoint.Position) checkpoint.Position) *altered {
	return &altered{
		commit: func(ctx context.Context, s checkpoint.Store, key string, epoch uint64, p checkpoint.Position) error {
			return s.Commit(ctx, key, epoch, position(p))
		},
	}
}

// refusing fails commits that it should take.
func refusing(wrong func(from, to checkpoint.Position) bool) *altered {
	return &altered{
		commit: func(ctx context.Context, s checkpoint.Store, key string, epoch uint64, p checkpoint.Position) error {
			if r, err := s.Load(ctx, key); err == nil && r.Epoch == epoch && wrong(r.Position, p) {
				return checkpoint.ErrRegression
			}
			return s.Commit(ctx, key, epoch, p)
		},
	}
}

// dated changes UpdatedAt on its way out.
func dated(at func(time.Time) time.Time) *altered {
	return &altered{
		load: func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error) {
			r, err := s.Load(ctx, key)
			r.UpdatedAt = at(r.UpdatedAt)
			return r, err
		},
	}
}

type brokenStore struct {
	red  []string // the cases that have to fail
	open func() checkpoint.Store
}

func brokenStores() map[string]brokenStore {
	all := brokenRules()
	maps.Copy(all, brokenKeys())
	maps.Copy(all, brokenRaces())
	return all
}

func brokenRules() map[string]brokenStore {
	return map[string]brokenStore{
		"no fence": {[]string{"unknown key", "zombie", "lose and regain", "delete", "handover", "racing owners"}, func() checkpoint.Store {
			return &altered{commit: func(ctx context.Context, s checkpoint.Store, key string, epoch uint64, p checkpoint.Position) error {
				err := s.Commit(ctx, key, epoch, p)
				for errors.Is(err, checkpoint.ErrFenced) {
					r, loadErr := s.Load(ctx, key)
					if loadErr != nil {
						r, loadErr = s.Acquire(ctx, key)
					}
					if loadErr != nil {
						return loadErr
					}
					err = s.Commit(ctx, key, r.Epoch, p)
				}
				return err
			}}
		}},
		"regression before fence": {[]string{"zombie"}, func() checkpoint.Store {
			return &altered{commit: func(ctx context.Context, s checkpoint.Store, key string, epoch uint64, p checkpoint.Position) error {
				if r, err := s.Load(ctx, key); err == nil && p.Before(r.Position) {
					return checkpoint.ErrRegression
				}
				return s.Commit(ctx, key, epoch, p)
			}}
		}},
		"no regression check": {[]string{"regression", "lineage", "concurrent commits"}, func() checkpoint.Store {
			return &altered{commit: func(ctx context.Context, s checkpoint.Store, key string, epoch uint64, p checkpoint.Position) error {
				err := s.Commit(ctx, key, epoch, p)
				if errors.Is(err, checkpoint.ErrRegression) {
					return force(ctx, s, key, p)
				}
				return err
			}}
		}},
		"same position refused": {[]string{"regression"}, func() checkpoint.Store {
			return refusing(func(from, to checkpoint.Position) bool { return from == to })
		}},
		"lineage ignored": {[]string{"lineage"}, func() checkpoint.Store {
			return refusing(func(from, to checkpoint.Position) bool { return to.Seq != 0 && to.Seq < from.Seq })
		}},
		"old lineage refused": {[]string{"lineage"}, func() checkpoint.Store {
			return refusing(func(from, to checkpoint.Position) bool { return to.Lineage < from.Lineage })
		}},
		"unordered refused": {[]string{"unordered"}, func() checkpoint.Store {
			return refusing(func(from, to checkpoint.Position) bool { return to.Seq == 0 && from.Seq != 0 })
		}},
		"signed seq": {[]string{"regression"}, func() checkpoint.Store {
			return refusing(func(from, to checkpoint.Position) bool { return int64(to.Seq) < int64(from.Seq) })
		}},
		"context ignored": {[]string{"done context"}, func() checkpoint.Store {
			return &altered{commit: func(ctx context.Context, s checkpoint.Store, key string, epoch uint64, p checkpoint.Position) error {
				return s.Commit(context.WithoutCancel(ctx), key, epoch, p)
			}}
		}},
		"context seen too late": {[]string{"done context"}, func() checkpoint.Store {
			return &altered{acquire: func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error) {
				r, err := s.Acquire(context.WithoutCancel(ctx), key)
				return r, errors.Join(err, ctx.Err())
			}}
		}},
		"load makes a record": {[]string{"unknown key", "delete"}, func() checkpoint.Store {
			return &altered{load: func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error) {
				r, err := s.Load(ctx, key)
				if errors.Is(err, checkpoint.ErrNotFound) {
					return s.Acquire(ctx, key)
				}
				return r, err
			}}
		}},
		"load acquires": {[]string{"acquire commit load"}, func() checkpoint.Store {
			return &altered{load: func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error) {
				if r, err := s.Load(ctx, key); err != nil {
					return r, err
				}
				return s.Acquire(ctx, key)
			}}
		}},
		"acquire keeps the epoch": {[]string{"acquire commit load", "zombie", "lose and regain", "racing owners"}, func() checkpoint.Store {
			return &altered{acquire: func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error) {
				if r, err := s.Load(ctx, key); err == nil {
					return r, nil
				}
				return s.Acquire(ctx, key)
			}}
		}},
		"acquire forgets the position": {[]string{"acquire commit load", "lose and regain", "handover"}, func() checkpoint.Store {
			return &altered{acquire: func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error) {
				r, err := s.Acquire(ctx, key)
				r.Position = checkpoint.Position{}
				return r, err
			}}
		}},
		"delete does nothing": {[]string{"delete", "odd keys"}, func() checkpoint.Store {
			return &altered{remove: func(context.Context, checkpoint.Store, string) error { return nil }}
		}},
		"delete needs a record": {[]string{"unknown key", "delete"}, func() checkpoint.Store {
			return &altered{remove: func(ctx context.Context, s checkpoint.Store, key string) error {
				if _, err := s.Load(ctx, key); err != nil {
					return err
				}
				return s.Delete(ctx, key)
			}}
		}},
		"delete forgets the epoch": {[]string{"delete"}, func() checkpoint.Store {
			var mu sync.Mutex // guards lives
			lives := make(map[string]int)
			s := renaming(func(key string) string {
				mu.Lock()
				defer mu.Unlock()
				return key + strings.Repeat("'", lives[key])
			})
			s.remove = func(ctx context.Context, s checkpoint.Store, key string) error {
				if err := s.Delete(ctx, key); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				lives[key]++
				return nil
			}
			return s
		}},
		"token cut off": {[]string{"limits"}, func() checkpoint.Store {
			return changing(func(p checkpoint.Position) checkpoint.Position {
				p.Token = p.Token[:min(len(p.Token), checkpoint.MaxTokenSize)]
				return p
			})
		}},
		"lineage cut off": {[]string{"limits"}, func() checkpoint.Store {
			return changing(func(p checkpoint.Position) checkpoint.Position {
				p.Lineage = p.Lineage[:min(len(p.Lineage), checkpoint.MaxLineageSize)]
				return p
			})
		}},
		"token made UTF-8": {[]string{"any bytes"}, func() checkpoint.Store {
			return changing(func(p checkpoint.Position) checkpoint.Position {
				p.Token = strings.ToValidUTF8(p.Token, "\ufffd")
				return p
			})
		}},
		"lineage ends at NUL": {[]string{"any bytes"}, func() checkpoint.Store {
			return changing(func(p checkpoint.Position) checkpoint.Position {
				p.Lineage, _, _ = strings.Cut(p.Lineage, "\x00")
				return p
			})
		}},
		"clock stands still": {[]string{"updated at"}, func() checkpoint.Store {
			return dated(func(time.Time) time.Time { return time.Unix(1, 0) })
		}},
		"clock runs back": {[]string{"updated at"}, func() checkpoint.Store {
			return dated(func(at time.Time) time.Time { return time.Unix(0, -at.UnixNano()) })
		}},
		"no clock": {[]string{"acquire commit load", "updated at"}, func() checkpoint.Store {
			return dated(func(time.Time) time.Time { return time.Time{} })
		}},
	}
}

func brokenKeys() map[string]brokenStore {
	renamed := func(name func(string) string, red ...string) brokenStore {
		return brokenStore{red, func() checkpoint.Store { return renaming(name) }}
	}
	return map[string]brokenStore{
		"case of keys ignored": renamed(strings.ToLower, "odd keys"),
		"keys are paths":       renamed(func(key string) string { return path.Clean("/" + key) }, "odd keys"),
		"keys are trimmed":     renamed(func(key string) string { return strings.TrimSpace(key) + "." }, "odd keys"),
		"keys made UTF-8":      renamed(func(key string) string { return strings.ToValidUTF8(key, "\ufffd") }, "odd keys"),
		"keys end at NUL": renamed(func(key string) string {
			key, _, _ = strings.Cut(key, "\x00")
			return key + "."
		}, "odd keys"),
		"long keys cut off": renamed(func(key string) string { return key[:min(len(key), 255)] }, "odd keys"),
		"keys unchecked": renamed(func(key string) string {
			sum := sha256.Sum256([]byte(key))
			return string(sum[:])
		}, "limits"),
		"one record for all keys": renamed(func(string) string { return "x" },
			"acquire commit load", "odd keys", "concurrent keys"),
	}
}

// brokenRaces look and then act, and others come in between.
func brokenRaces() map[string]brokenStore {
	pause := func() { <-time.NewTimer(time.Millisecond).C } // gives the processor away, so others do come in between
	return map[string]brokenStore{
		"check of seq, then write": {[]string{"concurrent commits"}, func() checkpoint.Store {
			return &altered{commit: func(ctx context.Context, s checkpoint.Store, key string, epoch uint64, p checkpoint.Position) error {
				r, err := s.Load(ctx, key)
				if err != nil || r.Epoch != epoch || p.Before(r.Position) {
					return s.Commit(ctx, key, epoch, p)
				}
				pause()
				return force(ctx, s, key, p)
			}}
		}},
		"check of epoch, then write": {[]string{"handover"}, func() checkpoint.Store {
			return &altered{commit: func(ctx context.Context, s checkpoint.Store, key string, epoch uint64, p checkpoint.Position) error {
				r, err := s.Load(ctx, key)
				if err != nil || r.Epoch != epoch || p.Before(r.Position) {
					return s.Commit(ctx, key, epoch, p)
				}
				pause()
				return force(ctx, s, key, p)
			}}
		}},
		"two owners with one epoch": {[]string{"racing owners"}, func() checkpoint.Store {
			return &altered{acquire: func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error) {
				before, _ := s.Load(ctx, key)
				pause()
				r, err := s.Acquire(ctx, key)
				r.Epoch = before.Epoch + 1
				return r, err
			}}
		}},
		"fence comes late": {[]string{"handover"}, func() checkpoint.Store {
			return &altered{acquire: func(ctx context.Context, s checkpoint.Store, key string) (checkpoint.Record, error) {
				before, _ := s.Load(ctx, key)
				pause()
				r, err := s.Acquire(ctx, key)
				r.Position = before.Position
				return r, err
			}}
		}},
	}
}

// brokenDurable are stores whose records do not outlive them as they should, for RunDurable. place names where they
// are kept.
func brokenDurable() map[string]brokenStore {
	return map[string]brokenStore{
		"nothing is kept": {caseNames(durableCases()), func() checkpoint.Store { return new(checkpoint.Memory) }},
	}
}
