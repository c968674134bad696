package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

const (
	members        = 3
	startTimeout   = 30 * time.Second
	progressEvery  = 300 * time.Millisecond // a watch without events tells its revision
	largestRequest = 64 << 10               // bytes; a watch response above this and 512 KiB comes in fragments
)

// cluster is a number of etcd members in this process, each behind a proxy of its own. The members talk to each other
// directly. Its methods are called by one goroutine at a time, but for the clients.
type cluster struct {
	// set at construction, then read only
	dir     string
	ports   *ports // of the members: client, peer, client, peer …
	proxies []*testnet.TCP

	running []*embed.Etcd // nil: stopped
}

// startCluster starts all members and returns when they serve. Their files are in dir.
func startCluster(ctx context.Context, dir string) (c *cluster, err error) {
	c = &cluster{dir: dir, running: make([]*embed.Etcd, members)}
	if c.ports, err = reservePorts(ctx, 2*members); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	for i := range members {
		proxy, err := testnet.NewTCP(c.address(i)) //nolint:contextcheck // it lives until it is closed
		if err != nil {
			return c, err
		}
		c.proxies = append(c.proxies, proxy)
	}
	return c, c.restart(ctx, 0, 1, 2)
}

// address returns that of a member itself, past its proxy.
func (c *cluster) address(member int) string {
	return fmt.Sprintf("127.0.0.1:%d", c.ports.first+2*member)
}

func (c *cluster) peerAddress(member int) string {
	return fmt.Sprintf("127.0.0.1:%d", c.ports.first+2*member+1)
}

// endpoints returns the addresses of the proxies.
func (c *cluster) endpoints() []string {
	all := make([]string, len(c.proxies))
	for i, proxy := range c.proxies {
		all[i] = proxy.Addr()
	}
	return all
}

// client returns a client of the given members, of all where none is given. It does not go through the proxies.
func (c *cluster) client(members ...int) (*clientv3.Client, error) {
	if len(members) == 0 {
		members = []int{0, 1, 2}
	}
	addresses := make([]string, len(members))
	for i, member := range members {
		addresses[i] = c.address(member)
	}
	return clientv3.New(clientv3.Config{
		Endpoints: addresses, Logger: zap.NewNop(),
		// A member that was restarted is to be found again soon.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		})},
	})
}

// restart starts members that are stopped, at once, and returns when they serve: a cluster that has lost its majority
// needs that of the members together.
func (c *cluster) restart(ctx context.Context, members ...int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	failures := make([]error, len(members))
	var starting sync.WaitGroup
	for i, member := range members {
		starting.Go(func() { // ends when the member serves or ctx is done; Wait waits
			failures[i] = c.start(ctx, member)
		})
	}
	starting.Wait()
	for _, member := range members {
		c.proxies[member].Refuse(false)
	}
	return errors.Join(failures...)
}

// start starts one member, and returns when it serves.
func (c *cluster) start(ctx context.Context, member int) error {
	etcd, err := embed.StartEtcd(c.config(member))
	if err != nil {
		return fmt.Errorf("member %d: %w", member, err)
	}
	c.running[member] = etcd
	select {
	case <-etcd.Server.ReadyNotify():
		return nil
	case err = <-etcd.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	return fmt.Errorf("member %d does not serve: %w", member, err)
}

func (c *cluster) config(member int) *embed.Config {
	address := func(host string) []url.URL { return []url.URL{{Scheme: "http", Host: host}} }
	initial := make([]string, members)
	for i := range initial {
		initial[i] = fmt.Sprintf("member%d=http://%s", i, c.peerAddress(i))
	}
	config := embed.NewConfig()
	config.Name = fmt.Sprintf("member%d", member)
	config.Dir = filepath.Join(c.dir, config.Name)
	config.ListenClientUrls = address(c.address(member))
	config.AdvertiseClientUrls = address(c.address(member))
	config.ListenPeerUrls = address(c.peerAddress(member))
	config.AdvertisePeerUrls = address(c.peerAddress(member))
	config.InitialCluster = strings.Join(initial, ",")
	config.TickMs, config.ElectionMs = 50, 500
	config.MaxRequestBytes = largestRequest
	config.WatchProgressNotifyInterval = progressEvery
	// Clients may look soon whether a silent connection is dead.
	config.GRPCKeepAliveMinTime = 500 * time.Millisecond
	// A member that was away for long gets a snapshot from the leader, not the changes one by one.
	config.SnapshotCount, config.SnapshotCatchUpEntries = 500, 100
	config.UnsafeNoFsync = true // members are stopped here, the machine is not
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(quietLogger(c.dir))
	return config
}

// stop stops a member as an operator does: connections are asked to go elsewhere, and watches go on until etcd has
// waited for them for some six seconds. Its leadership goes to another member.
func (c *cluster) stop(member int) {
	if etcd := c.running[member]; etcd != nil {
		etcd.Close()
		c.running[member] = nil
	}
}

// kill stops members as a crash does: all that clients see is that the connections are gone, and that there are no new ones.
func (c *cluster) kill(members ...int) {
	var stopping sync.WaitGroup
	for _, member := range members {
		if member < len(c.proxies) {
			c.proxies[member].Refuse(true)
			c.proxies[member].Cut(testnet.RST)
		}
		if etcd := c.running[member]; etcd != nil {
			stopping.Go(func() { // ends when the member has stopped; Wait waits
				etcd.Server.HardStop()
				etcd.Close()
			})
		}
		c.running[member] = nil
	}
	stopping.Wait()
}

// cuts returns the number of faults that have happened in the proxies.
func (c *cluster) cuts() (total int) {
	for _, proxy := range c.proxies {
		total += len(proxy.Cuts())
	}
	return total
}

// close stops all members and gives up their proxies.
func (c *cluster) close() {
	c.kill(0, 1, 2)
	for _, proxy := range c.proxies {
		_ = proxy.Close() // only ever the listener's error
	}
	c.ports.release()
}
